use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::error::DataError;
use crate::folder::cannot_write;

/// A folder that nobody else is to write in for now. It is free again when this is dropped, or the process has ended
/// however it ended.
///
/// It keeps out those who ask for the same lock, in this process or another, and nobody else.
#[derive(Debug)]
pub struct FolderLock {
    /// Absent where the file system cannot lock.
    _file: Option<File>,
}

impl FolderLock {
    /// Name of the file that is locked; it stays when the lock is gone, for to remove it would let two others in.
    pub const FILE: &'static str = ".lock";

    /// Takes the lock of `dir`, which must be there, without waiting for it. Where the file system cannot lock, it goes
    /// on without.
    ///
    /// # Errors
    /// `IO` if somebody has it, named by the number of the process, or if `dir` cannot be written in.
    pub fn take(dir: &Path) -> Result<Self, DataError> {
        let path = dir.join(Self::FILE);
        if path.is_symlink() {
            return Err(DataError::refused(format!(
                "{} is a link, and what it leads to would be written over; remove it or choose another --out",
                path.display()
            )));
        }
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|error| cannot_write(dir, error))?;
        match file.try_lock() {
            Ok(()) => {
                // only for the messages of others
                let _ = write_process(&mut file);
                Ok(Self { _file: Some(file) })
            }
            Err(TryLockError::WouldBlock) => Err(in_use(dir, process(file))),
            // not only `Unsupported`: of a network without a lock service it is `No locks available`
            Err(TryLockError::Error(_)) => Ok(Self { _file: None }),
        }
    }
}

fn write_process(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

/// The process that its holder wrote into the file, if it can be read.
fn process(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

fn in_use(dir: &Path, process: Option<u32>) -> DataError {
    let holder = match process {
        Some(process) if process == std::process::id() => " (in this process)".into(),
        Some(process) => format!(" (process {process})"),
        None => String::new(),
    };
    DataError::refused(format!(
        "{} is in use by another training{holder}; wait for it or choose another --out",
        dir.display()
    ))
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    fn refused(dir: &Path) -> String {
        let error = FolderLock::take(dir).unwrap_err();
        assert_eq!(error.code(), "IO");
        error.to_string()
    }

    #[test]
    fn one_at_a_time_in_a_process() {
        let dir = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let held = FolderLock::take(dir.path()).unwrap();
        let expected = format!(
            "{} is in use by another training (in this process); wait for it or choose another --out",
            dir.path().display()
        );
        // another process cannot read the file while it is locked, on Windows
        if cfg!(unix) {
            assert_eq!(refused(dir.path()), expected);
        }
        // to have been refused frees nothing
        refused(dir.path());
        FolderLock::take(other.path()).unwrap();
        drop(held);
        FolderLock::take(dir.path()).unwrap();
        FolderLock::take(dir.path()).unwrap();
    }

    #[test]
    fn another_process_keeps_it_until_it_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "lock::tests::as_another_process", "--nocapture"])
            .env("BAE_TEST_LOCK", dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line.ends_with("taken")), "the other process has it");
        let message = refused(dir.path());
        if cfg!(unix) {
            assert!(message.contains(&format!("by another training (process {});", child.id())), "{message}");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        FolderLock::take(dir.path()).unwrap();
    }

    #[test]
    fn as_another_process() {
        let Some(dir) = env::var_os("BAE_TEST_LOCK") else { return };
        let _lock = FolderLock::take(Path::new(&dir)).unwrap();
        println!("taken");
        // until it is killed, or who started it is gone
        let _ = io::stdin().read_to_end(&mut vec![]);
    }

    #[test]
    fn whatever_the_file_holds() {
        let dir = tempfile::tempdir().unwrap();
        for text in
            [&b""[..], b"no number\n", b"\xff\xfe", b"123456789012345678901234567890", b"-5", b"99\n99"]
        {
            let path = dir.path().join(FolderLock::FILE);
            fs::write(&path, text).unwrap();
            let held = FolderLock::take(dir.path()).unwrap();
            if cfg!(unix) {
                assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
                fs::write(&path, text).unwrap();
            }
            let message = refused(dir.path());
            assert!(message.contains("in use by another training; wait"), "{message}");
            drop(held);
        }
    }

    #[test]
    fn folders_that_cannot_be_locked() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(refused(&missing).starts_with(&format!("cannot write {}: ", missing.display())));
        fs::create_dir(dir.path().join(FolderLock::FILE)).unwrap();
        assert!(refused(dir.path()).starts_with("cannot write "));
    }

    #[cfg(unix)]
    #[test]
    fn what_a_link_leads_to_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let precious = dir.path().join("precious");
        fs::write(&precious, "text").unwrap();
        std::os::unix::fs::symlink(&precious, dir.path().join(FolderLock::FILE)).unwrap();
        assert!(refused(dir.path()).contains(".lock is a link"));
        assert_eq!(fs::read_to_string(precious).unwrap(), "text");
    }
}

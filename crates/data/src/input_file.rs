use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::error::DataError;
use crate::kept_files::{KeptFile, KeptFiles};

/// A regular file that is read at positions, from several threads at once.
///
/// It is read and not mapped: a mapped file that somebody truncates kills the process.
#[derive(Debug)]
pub(crate) struct InputFile {
    path: PathBuf,
    size: u64,
    /// When it was last written, before it was opened, where that can be told.
    modified: Option<SystemTime>,
    /// Absent where there are too many files to hold all open: such a file is opened for each read.
    file: Option<File>,
    /// What was read of it before, and where that of others is, if it is to be kept.
    kept: Option<(Arc<KeptFiles>, Arc<KeptFile>)>,
    #[cfg(not(any(unix, windows)))]
    position: std::sync::Mutex<()>,
}

impl InputFile {
    /// Opens a file and holds it open.
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let (file, metadata) = open_regular(path)?;
        Ok(Self::new(path, metadata.len(), metadata.modified().ok(), Some(file)))
    }

    /// A file that takes no place among the open files of the process.
    pub(crate) fn open_for_each_read(path: &Path) -> Result<Self, DataError> {
        let (_, metadata) = open_regular(path)?;
        Ok(Self::new(path, metadata.len(), metadata.modified().ok(), None))
    }

    /// Another file, held open and kept or not as this one is.
    pub(crate) fn beside(&self, path: &Path) -> Result<Self, DataError> {
        let file = if self.file.is_some() { Self::open(path) } else { Self::open_for_each_read(path) };
        file?.kept_in(self.kept.as_ref().map(|(files, _)| files))
    }

    /// The same file, whose bytes are shared with whoever opens it with the same `files`.
    ///
    /// # Errors
    /// `CORRUPT_FILE` if it has changed since it was first opened so.
    pub(crate) fn kept_in(mut self, files: Option<&Arc<KeptFiles>>) -> Result<Self, DataError> {
        if let Some(files) = files {
            self.kept = Some((files.clone(), files.file(&self.path, self.size, self.modified)?));
        }
        Ok(self)
    }

    /// An open file that has no name: messages call it `name`. A file that still grows has size 0.
    pub(crate) fn unnamed(file: File, name: &Path, size: u64) -> Self {
        Self::new(name, size, None, Some(file))
    }

    fn new(path: &Path, size: u64, modified: Option<SystemTime>, file: Option<File>) -> Self {
        Self {
            path: path.to_owned(),
            size,
            modified,
            file,
            kept: None,
            #[cfg(not(any(unix, windows)))]
            position: std::sync::Mutex::new(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes in the file when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), DataError> {
        match &self.kept {
            Some((_, kept)) => {
                kept.read_at(buffer, offset, |buffer, offset| self.read_from_disk(buffer, offset))
            }
            None => self.read_from_disk(buffer, offset),
        }
    }

    fn read_from_disk(&self, buffer: &mut [u8], offset: u64) -> Result<(), DataError> {
        let reopened;
        let file = match &self.file {
            Some(file) => file,
            None => {
                reopened = self.reopened()?;
                &reopened
            }
        };
        self.fill(file, buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DataError::corrupt(format!(
                "{} ends before byte {}; it is truncated: make or copy it again",
                self.path.display(),
                offset.saturating_add(buffer.len() as u64)
            )),
            _ => DataError::io("read", &self.path, error, "check the disk or network that holds it"),
        })
    }

    /// Reads `length` bytes from `offset` on; nothing is allocated for bytes that the file does not have.
    pub(crate) fn bytes(&self, offset: u64, length: u64) -> Result<Vec<u8>, DataError> {
        let end = offset.checked_add(length).filter(|&end| end <= self.size);
        let (Some(_), Ok(length)) = (end, usize::try_from(length)) else {
            return Err(DataError::corrupt(format!(
                "{} should hold {length} bytes from byte {offset} on, but has {} in all; it is truncated or damaged: \
                 make or copy it again",
                self.path.display(),
                self.size
            )));
        };
        let mut bytes = vec![0; length];
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn reopened(&self) -> Result<File, DataError> {
        let (file, metadata) = open_regular(&self.path)?;
        let size = metadata.len();
        let how = if size != self.size {
            format!(" from {} to {size} bytes", self.size)
        } else if metadata.modified().ok() != self.modified {
            String::new()
        } else {
            return Ok(file);
        };
        Err(DataError::corrupt(format!(
            "{} changed{how} while it was in use; start again with files that stay as they are",
            self.path.display(),
        )))
    }

    #[cfg(unix)]
    fn fill(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
    }

    #[cfg(windows)]
    fn fill(&self, file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    #[cfg(not(any(unix, windows)))]
    fn fill(&self, file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let _guard = self.position.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut file = file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(buffer)
    }
}

pub(crate) fn open_regular(path: &Path) -> Result<(File, Metadata), DataError> {
    let cannot = |error| DataError::io("read", path, error, "check the path and its permissions");
    // asked before opening: opening a pipe would wait for a writer
    let metadata = fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() {
        return Err(DataError::format(format!(
            "{} is not a regular file; save its contents to one",
            path.display()
        )));
    }
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    Ok((file, metadata))
}

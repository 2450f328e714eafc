use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile, TempDir};

use crate::error::DataError;
use crate::model_file::{CONFIG, WEIGHTS};

/// Says no to an output folder before any work is done for it: one that holds something (unless `overwrite`), or
/// that cannot be written beside.
///
/// # Errors
/// `IO`, with what to do.
pub fn check_output(dir: &Path, overwrite: bool) -> Result<(), DataError> {
    let (parent, dir) = target(dir, overwrite)?;
    temporary_folder(&parent, &dir).map(drop)
}

/// Makes the folder `dir` out of what `write` puts into the empty folder it is given, all or nothing: the files are
/// synced and the folder renamed into place.
///
/// With `overwrite` a folder that is already there is replaced: files of the same names are gone, any others stay.
///
/// # Errors
/// What `write` returns, or `IO`; `dir` is then as it was.
pub fn write_folder(
    dir: &Path,
    overwrite: bool,
    write: impl FnOnce(&Path) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let (parent, dir) = target(dir, overwrite)?;
    let new = temporary_folder(&parent, &dir)?;
    write(new.path()).map_err(|error| meant_for(&dir, new.path(), error))?;
    sync_all(new.path()).map_err(|error| cannot_write(&dir, error))?;
    // writing may have taken long: somebody else may have been here
    target(&dir, overwrite)?;
    install(new, &parent, &dir).map_err(|error| cannot_write(&dir, error))?;
    sync_folder(&parent);
    Ok(())
}

/// Puts a model into the folder `dir`, which is there and may hold other things: a reader sees the model that was there before, for a
/// moment none, then the new one. What is in the making has a name that starts with `prefix`.
///
/// # Errors
/// As [`crate::save_model`]; the model that was there before then is there still.
pub fn install_model(
    dir: &Path,
    prefix: &str,
    write: impl FnOnce(&Path) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let new = builder(0o777).prefix(prefix).tempdir_in(dir).map_err(|error| cannot_write(dir, error))?;
    write(new.path()).map_err(|error| meant_for(dir, new.path(), error))?;
    let [old, config] = [new.path().join("old"), dir.join(CONFIG)];
    let install = || {
        sync_all(new.path())?;
        // whoever reads looks for the settings first: they go first and come last
        match fs::rename(&config, &old) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(new.path().join(WEIGHTS), dir.join(WEIGHTS)).inspect_err(|_| {
            let _ = fs::rename(&old, &config);
        })?;
        fs::rename(new.path().join(CONFIG), &config)?;
        sync_folder(dir);
        Ok(())
    };
    install().map_err(|error| cannot_write(dir, error))
}

/// Deletes the folder or file at `path`, if there is one: first its name, then the rest, so that a reader sees all of it or nothing.
///
/// # Errors
/// `IO`.
pub fn delete(path: &Path) -> Result<(), DataError> {
    let delete = || {
        if path.symlink_metadata().is_err() {
            return Ok(());
        }
        let aside = builder(0o700).tempdir_in(parent_of(path))?;
        fs::rename(path, aside.path().join("old"))?;
        aside.close()
    };
    delete().map_err(|error| DataError::io("delete", path, error, "check its permissions"))
}

/// Deletes what writers that were killed left in `dir` under names that start with `prefix`.
pub fn delete_leftovers(dir: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

/// A file that is renamed to `path` when complete and removed when dropped before.
pub(crate) fn temporary_file(path: &Path, overwrite: bool) -> Result<NamedTempFile, DataError> {
    if path.is_dir() {
        return Err(DataError::refused(format!("{} is a folder; give the name of a file", path.display())));
    }
    if path.symlink_metadata().is_ok() && !overwrite {
        return Err(DataError::refused(format!(
            "{} already exists; choose another --out or pass --overwrite",
            path.display()
        )));
    }
    let parent = parent_of(path);
    builder(0o666).tempfile_in(parent).map_err(|error| cannot_write(path, error))
}

/// Syncs a temporary file and gives it its name.
pub(crate) fn install_file(
    file: BufWriter<NamedTempFile>,
    path: &Path,
    overwrite: bool,
) -> Result<(), DataError> {
    let cannot = |error| cannot_write(path, error);
    let file = file.into_inner().map_err(|error| cannot(error.into_error()))?;
    file.as_file().sync_all().map_err(cannot)?;
    let named = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    named.map_err(|error| cannot(error.error))?;
    sync_folder(parent_of(path));
    Ok(())
}

pub(crate) fn cannot_write(path: &Path, error: io::Error) -> DataError {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "create its folder first or choose another --out",
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => {
            "choose another --out or pass --overwrite"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space or choose another --out"
        }
        _ => "check its permissions or choose another --out",
    };
    DataError::io("write", path, error, advice)
}

/// An error of writing into `new` as one of writing into `dir`, which the caller knows.
fn meant_for(dir: &Path, new: &Path, error: DataError) -> DataError {
    match error {
        DataError::Io { message, source } => {
            let message = message.replace(&new.display().to_string(), &dir.display().to_string());
            DataError::Io { message, source }
        }
        other => other,
    }
}

/// Makes names in `folder` last through a power cut. Not every file system can, and files themselves are synced.
pub(crate) fn sync_folder(folder: &Path) {
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The folder to write beside, and the path to rename to.
fn target(dir: &Path, overwrite: bool) -> Result<(PathBuf, PathBuf), DataError> {
    let cannot = |error| cannot_write(dir, error);
    let exists = match fs::symlink_metadata(dir) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(cannot(error)),
    };
    if !exists {
        return Ok((parent_of(dir).to_owned(), dir.to_owned()));
    }
    // the folder itself, where the name is a link or ends in `.`
    let dir = fs::canonicalize(dir).map_err(cannot)?;
    let shown = dir.display();
    if !dir.is_dir() {
        return Err(DataError::refused(format!(
            "{shown} is a file, a folder is to be written; choose another --out"
        )));
    }
    let is_empty = fs::read_dir(&dir).map_err(cannot)?.next().is_none();
    if !is_empty && !overwrite {
        let holds = if dir.join(WEIGHTS).exists() { "a model" } else { "other files" };
        return Err(DataError::refused(format!(
            "{shown} already holds {holds}; choose another --out or pass --overwrite"
        )));
    }
    Ok((parent_of(&dir).to_owned(), dir))
}

fn temporary_folder(parent: &Path, dir: &Path) -> Result<TempDir, DataError> {
    builder(0o777).tempdir_in(parent).map_err(|error| cannot_write(dir, error))
}

/// Names start with a dot, so that a folder opened as data passes them over.
pub const PREFIX: &str = ".bae-";

#[cfg_attr(not(unix), allow(unused_variables))]
fn builder(mode: u32) -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX);
    // temporary names are private by default; results get the mode that any new file gets
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    builder
}

fn sync_all(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all(&entry.path())?;
        } else {
            // opened for writing, because Windows syncs nothing else
            OpenOptions::new().write(true).open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder);
    Ok(())
}

/// Renames `new` to `dir`; a folder already there steps aside first and comes back if that fails.
fn install(new: TempDir, parent: &Path, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        fs::rename(new.path(), dir)?;
        let _ = new.keep();
        return Ok(());
    }
    let aside = builder(0o700).tempdir_in(parent)?;
    let old = aside.path().join(dir.file_name().unwrap_or(OsStr::new("old")));
    fs::rename(dir, &old)?;
    if let Err(error) = fs::rename(new.path(), dir) {
        return Err(match fs::rename(&old, dir) {
            Ok(()) => error,
            Err(again) => left_behind(again, aside, &old),
        });
    }
    let _ = new.keep();
    match keep_others(&old, dir) {
        Ok(()) => Ok(()),
        Err(error) => Err(left_behind(error, aside, &old)),
    }
}

/// Moves what `new` does not replace: whatever lies there beside a model is not ours to delete.
fn keep_others(old: &Path, new: &Path) -> io::Result<()> {
    for entry in fs::read_dir(old)? {
        let entry = entry?;
        let kept = new.join(entry.file_name());
        if kept.symlink_metadata().is_err() {
            fs::rename(entry.path(), kept)?;
        }
    }
    Ok(())
}

fn left_behind(error: io::Error, aside: TempDir, old: &Path) -> io::Error {
    let _ = aside.keep();
    io::Error::new(error.kind(), format!("{error}; what was there before now lies in {}", old.display()))
}

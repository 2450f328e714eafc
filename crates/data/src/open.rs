use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::tensor_file::FileSource;

/// More files than this are opened for each read: systems allow a process a few hundred open files.
const MAX_HELD_OPEN: usize = 100;

/// Opens all files that `specs` name, in a fixed order.
pub(crate) fn files(specs: &[String]) -> Result<Vec<FileSource>, DataError> {
    let mut found = Vec::new();
    for spec in specs {
        found.append(&mut find(spec)?);
    }
    let hold_open = found.len() <= MAX_HELD_OPEN;
    found.iter().map(|(path, tensor)| FileSource::open(path, tensor.as_deref(), hold_open)).collect()
}

type Found = Vec<(PathBuf, Option<String>)>;

/// Reads `spec` as it stands before it splits a `#tensor` off, and as a path before it reads it as a pattern.
fn find(spec: &str) -> Result<Found, DataError> {
    let readings =
        [Some((spec, None)), spec.rsplit_once('#').map(|(path, tensor)| (path, Some(tensor.to_owned())))];
    let readings = readings.into_iter().flatten();
    for (path, tensor) in readings.clone() {
        if Path::new(path).exists() {
            return Ok(with_tensor(files_at(Path::new(path))?, tensor));
        }
    }
    for (pattern, tensor) in readings.clone() {
        let paths = matching(pattern)?;
        if !paths.is_empty() {
            return Ok(with_tensor(paths, tensor));
        }
    }
    if is_pattern(spec) || spec.is_empty() {
        return Err(DataError::argument(format!(
            "no .safetensors or .npy file matches '{spec}'; check the pattern"
        )));
    }
    let (path, _) = readings.last().expect("the first reading");
    let error = fs::metadata(path).err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(DataError::io("read", Path::new(path), error, "name a file, a folder or a quoted pattern"))
}

fn with_tensor(paths: Vec<PathBuf>, tensor: Option<String>) -> Found {
    paths.into_iter().map(|path| (path, tensor.clone())).collect()
}

fn files_at(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let cannot = |error| DataError::io("list", path, error, "check the folder's permissions");
    let mut paths = Vec::new();
    for entry in fs::read_dir(path).map_err(cannot)? {
        let entry = entry.map_err(cannot)?.path();
        if is_data(&entry) {
            paths.push(entry);
        }
    }
    if paths.is_empty() {
        return Err(DataError::argument(format!(
            "{} holds no .safetensors or .npy file; name the folder that does",
            path.display()
        )));
    }
    paths.sort();
    Ok(paths)
}

fn matching(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    if !is_pattern(pattern) {
        return Ok(Vec::new());
    }
    let matches = glob::glob(pattern).map_err(|error| {
        DataError::argument(format!("'{pattern}' is no path and no pattern: {error}; correct it"))
    })?;
    let mut paths = Vec::new();
    for path in matches {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            DataError::io("list", &path, error.into(), "check the folder's permissions")
        })?;
        if is_data(&path) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_pattern(spec: &str) -> bool {
    spec.contains(['*', '?', '['])
}

/// Hidden files are left out: they are somebody's temporary or resource files.
fn is_data(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
    let is_known = extension.is_some_and(|extension| extension == "safetensors" || extension == "npy");
    is_known && !is_hidden && path.is_file()
}

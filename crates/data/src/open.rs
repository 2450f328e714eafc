use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::arrow_file::Unpacked;
use crate::dataset::Source;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::kept_files::KeptFiles;
use crate::parquet_pages::Pages;
use crate::recent::Recent;
use crate::scratch::Scratch;
use crate::{arrow_file, npy, npz, parquet_file, safetensors_file, torch_file};

/// Extensions of the files of hidden states that folders and patterns take.
pub const EXTENSIONS: [&str; 11] =
    ["safetensors", "npy", "npz", "pt", "pth", "parquet", "pq", "arrow", "arrows", "feather", "ipc"];

/// The same, for messages.
const FORMATS: &str = ".safetensors, .npy, .npz, .pt, .pth, .parquet, .pq, .arrow, .arrows, .feather or .ipc";

/// What a spec picks in its files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The tensor or column, by name.
    pub(crate) tensor: Option<String>,
    /// Index along axis 1 of a tensor `[tokens, layers, d_in]`.
    pub(crate) layer: Option<usize>,
}

impl Wanted {
    /// Takes what stands behind `#`: `NAME`, `NAME:layer=INDEX` or `:layer=INDEX`.
    fn parse(text: &str) -> Result<Self, DataError> {
        let (name, layer) = match text.rsplit_once(":layer=") {
            Some((name, layer)) => (name, Some(layer)),
            None => (text, None),
        };
        let layer = layer.map(|layer| {
            layer.parse().map_err(|_| {
                DataError::argument(format!(
                    "'#{text}' picks layer '{layer}'; layers are numbered 0, 1, 2, … along the tensor's second axis"
                ))
            })
        });
        let tensor = (layer.is_none() || !name.is_empty()).then(|| name.to_owned());
        Ok(Self { tensor, layer: layer.transpose()? })
    }
}

/// The hidden states of one file.
pub(crate) trait FileSource: Source {
    fn path(&self) -> &Path;

    /// Name of the tensor or column, in formats that name them.
    fn tensor(&self) -> Option<&str>;

    /// The layer that was picked, of those that the tensor has.
    fn layer(&self) -> Option<usize> {
        None
    }

    /// How many layers the tensor has, where one was picked.
    fn layers(&self) -> Option<usize> {
        None
    }

    /// How its numbers are stored.
    fn dtype(&self) -> &'static str;
}

/// Opens the files that [`Dataset::open`](crate::Dataset::open) stacks, each a source of its own.
///
/// # Errors
/// As [`Dataset::open`](crate::Dataset::open), but for what only a stack can lack.
pub fn open_sources(specs: &[String]) -> Result<Vec<Box<dyn Source>>, DataError> {
    Ok(files(specs, None)?.into_iter().map(|file| file as _).collect())
}

/// The same, with files whose bytes are shared with whoever opens them with the same `kept`.
///
/// # Errors
/// As [`open_sources`], and `CORRUPT_FILE` for a file that has changed since it was first opened so.
pub fn open_kept_sources(specs: &[String], kept: &Arc<KeptFiles>) -> Result<Vec<Box<dyn Source>>, DataError> {
    Ok(files(specs, Some(kept))?.into_iter().map(|file| file as _).collect())
}

/// More files than this are opened for each read: systems allow a process a few hundred open files.
const MAX_HELD_OPEN: usize = 100;

/// Opens all files that `specs` name, in a fixed order.
pub(crate) fn files(
    specs: &[String],
    kept: Option<&Arc<KeptFiles>>,
) -> Result<Vec<Box<dyn FileSource>>, DataError> {
    open_found(&found(specs)?, kept)
}

/// All files that `specs` name, in a fixed order, and what is wanted in each.
pub(crate) fn found(specs: &[String]) -> Result<Found, DataError> {
    let mut found = Vec::new();
    for spec in specs {
        found.append(&mut find(spec)?);
    }
    Ok(found)
}

/// Opens the files that were found.
pub(crate) fn open_found(
    found: &Found,
    kept: Option<&Arc<KeptFiles>>,
) -> Result<Vec<Box<dyn FileSource>>, DataError> {
    let hold_open = found.len() <= MAX_HELD_OPEN;
    let mut shared = Shared { kept: kept.cloned(), ..Shared::default() };
    found.iter().map(|(path, wanted)| open(path, wanted, hold_open, &mut shared)).collect()
}

/// What files that are opened together have in common.
#[derive(Default)]
struct Shared {
    kept: Option<Arc<KeptFiles>>,
    scratch: Scratch,
    unpacked: Arc<Recent<Unpacked>>,
    pages: Arc<Recent<Pages>>,
}

/// Reads the header of a file and finds what is wanted in it.
fn open(
    path: &Path,
    wanted: &Wanted,
    hold_open: bool,
    shared: &mut Shared,
) -> Result<Box<dyn FileSource>, DataError> {
    let kept = shared.kept.clone();
    let open = || -> Result<Arc<InputFile>, DataError> {
        let file = if hold_open { InputFile::open(path) } else { InputFile::open_for_each_read(path) };
        Ok(Arc::new(file?.kept_in(kept.as_ref())?))
    };
    Ok(match extension(path).as_deref() {
        Some("safetensors") => Box::new(safetensors_file::open(open()?, wanted)?),
        Some("npy") => Box::new(npy::open(open()?, wanted)?),
        Some("npz") => Box::new(npz::open(open()?, wanted, &mut shared.scratch)?),
        // .bin is what many programs call theirs: it is taken where it is named, and never looked for
        Some("pt" | "pth" | "bin") => Box::new(torch_file::open(open()?, wanted, &mut shared.scratch)?),
        Some("arrow" | "arrows" | "feather" | "ipc") => {
            Box::new(arrow_file::open(open()?, wanted, shared.unpacked.clone())?)
        }
        Some("parquet" | "pq") => Box::new(parquet_file::open(open()?, wanted, shared.pages.clone())?),
        _ => {
            return Err(DataError::format(format!(
                "{} is none of {FORMATS}; convert it to one of them, [rows, d_in]",
                path.display()
            )));
        }
    })
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Files and what is wanted in each.
pub(crate) type Found = Vec<(PathBuf, Wanted)>;

/// Reads `spec` as it stands before it splits a `#tensor` off, and as a path before it reads it as a pattern.
fn find(spec: &str) -> Result<Found, DataError> {
    let readings = [Some((spec, None)), spec.rsplit_once('#').map(|(path, wanted)| (path, Some(wanted)))];
    let readings = readings.into_iter().flatten();
    for (path, wanted) in readings.clone() {
        if Path::new(path).exists() {
            return picked(files_at(Path::new(path))?, wanted);
        }
    }
    for (pattern, wanted) in readings.clone() {
        let paths = matching(pattern)?;
        if !paths.is_empty() {
            return picked(paths, wanted);
        }
    }
    if is_pattern(spec) || spec.is_empty() {
        return Err(DataError::argument(format!(
            "no file of hidden states ({FORMATS}) matches '{spec}'; check the pattern"
        )));
    }
    let (path, _) = readings.last().expect("the first reading");
    let error = fs::metadata(path).err().unwrap_or_else(|| std::io::ErrorKind::NotFound.into());
    Err(DataError::io("read", Path::new(path), error, "name a file, a folder or a quoted pattern"))
}

fn picked(paths: Vec<PathBuf>, wanted: Option<&str>) -> Result<Found, DataError> {
    let wanted = wanted.map(Wanted::parse).transpose()?.unwrap_or_default();
    Ok(paths.into_iter().map(|path| (path, wanted.clone())).collect())
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
            "{} holds no file of hidden states ({FORMATS}); name the folder that does",
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
    let is_known = match extension(path).as_deref() {
        Some("npy") => !npy::is_column(path),
        Some(extension) => EXTENSIONS.contains(&extension),
        None => false,
    };
    is_known && !is_hidden && path.is_file()
}

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::folder::{cannot_write, write_folder};
use crate::input_file::InputFile;
use crate::model_file::{load_model, write_file, write_model};
use crate::numbers::{Element, read_values};
use crate::safetensors_file::Header;
use crate::tensors_out::{Values, write_tensors};
use bae_model::{Architecture, Parameters};

/// Tensors of the state of a training.
const TENSORS: &str = "training.safetensors";
/// The rest of it.
const STATE: &str = "training.json";
/// Checksums of all other files, as `sha256sum -c` reads them.
const SUMS: &str = "SHA256SUMS";

/// What a checkpoint folder holds beside the model: everything that training needs to go on.
pub struct StoredCheckpoint {
    dir: PathBuf,
    file: InputFile,
    header: Header,
    /// The state without its tensors.
    pub state: Map<String, Value>,
}

/// Writes a folder that holds a model, with checksums of its files, all or nothing; what is there under that name is replaced.
///
/// # Errors
/// As [`crate::save_model`].
pub fn write_summed_model(
    dir: &Path,
    architecture: &Architecture,
    model: &Parameters,
    config: &Map<String, Value>,
) -> Result<(), DataError> {
    write_folder(dir, true, |new| {
        write_model(new, architecture, model, config)?;
        write_sums(new)
    })
}

/// Writes a checkpoint folder, all or nothing: a model as others read it, the tensors and the rest of the state of a
/// training, and checksums; what is there under that name is replaced.
///
/// # Errors
/// As [`crate::save_model`].
pub fn write_checkpoint(
    dir: &Path,
    (architecture, model, config): (&Architecture, &Parameters, &Map<String, Value>),
    tensors: &[(String, Vec<usize>, Values)],
    state: &Map<String, Value>,
) -> Result<(), DataError> {
    write_folder(dir, true, |new| {
        write_model(new, architecture, model, config)?;
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape, values)| (&**name, &**shape, *values)).collect();
        write_file(&new.join(TENSORS), |file| write_tensors(file, &[], &tensors))?;
        let path = new.join(STATE);
        fs::write(&path, format!("{:#}\n", Value::Object(state.clone())))
            .map_err(|error| cannot_write(&path, error))?;
        write_sums(new)
    })
}

/// Opens a checkpoint folder, once every byte of it has been found as it was written.
///
/// # Errors
/// `CORRUPT_FILE` naming the file that is not what was written; `IO`.
pub fn read_checkpoint(dir: &Path) -> Result<StoredCheckpoint, DataError> {
    check_sums(dir, &[TENSORS, STATE])?;
    let path = dir.join(STATE);
    let file = InputFile::open(&path)?;
    let state = serde_json::from_slice(&file.bytes(0, file.size())?)
        .map_err(|error| DataError::corrupt(format!("{} is no JSON object: {error}", path.display())))?;
    let file = InputFile::open(&dir.join(TENSORS))?;
    let header = Header::read(&file)?;
    Ok(StoredCheckpoint { dir: dir.to_owned(), file, header, state })
}

/// Reads a folder that [`write_summed_model`] wrote.
///
/// # Errors
/// As [`read_checkpoint`] and [`load_model`].
pub fn read_summed_model(dir: &Path) -> Result<Parameters, DataError> {
    check_sums(dir, &[])?;
    Ok(load_model(dir)?.parameters)
}

impl StoredCheckpoint {
    /// The values of a tensor of floats, of this shape.
    ///
    /// # Errors
    /// `CORRUPT_FILE` if it is not there or of another shape: another version's.
    pub fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, DataError> {
        let offset = self.offset(name, Dtype::F32, shape)?;
        let mut values = vec![0.0; shape.iter().product()];
        read_values(&self.file, Element::F32, offset, &mut values)?;
        Ok(values)
    }

    /// The values of a tensor of counts, of this shape.
    ///
    /// # Errors
    /// As [`StoredCheckpoint::floats`].
    pub fn counts(&self, name: &str, shape: &[usize]) -> Result<Vec<u32>, DataError> {
        let offset = self.offset(name, Dtype::U32, shape)?;
        let bytes = self.file.bytes(offset, 4 * shape.iter().product::<usize>() as u64)?;
        let (words, _) = bytes.as_chunks();
        Ok(words.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    fn offset(&self, name: &str, dtype: Dtype, shape: &[usize]) -> Result<u64, DataError> {
        match self.header.tensor(name) {
            Some(tensor) if tensor.dtype == dtype && tensor.shape == shape => Ok(tensor.offset),
            _ => Err(DataError::corrupt(format!(
                "{}: {TENSORS} has no tensor {name} {shape:?} of type {dtype}; it is of another version of this \
                 program: go on with that one, or start anew",
                self.dir.display()
            ))),
        }
    }
}

fn write_sums(dir: &Path) -> Result<(), DataError> {
    let path = dir.join(SUMS);
    let sums = || -> std::io::Result<String> {
        let mut names = vec![];
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        names.iter().map(|name| Ok(format!("{}  {name}\n", sum(&dir.join(name))?))).collect()
    };
    sums().and_then(|sums| fs::write(&path, sums)).map_err(|error| cannot_write(&path, error))
}

/// Compares all files with their checksums; `needed` must be among them.
fn check_sums(dir: &Path, needed: &[&str]) -> Result<(), DataError> {
    let shown = dir.display();
    let path = dir.join(SUMS);
    let text = fs::read(&path).map_err(|error| {
        DataError::corrupt(format!("{shown} is no whole checkpoint: its {SUMS} cannot be read: {error}"))
    })?;
    let text = String::from_utf8_lossy(&text);
    let mut seen = vec![];
    for line in text.lines() {
        let Some((expected, name)) = line.split_once("  ").filter(|(_, name)| !name.contains(['/', '\\']))
        else {
            return Err(DataError::corrupt(format!("{shown}: {SUMS} is damaged")));
        };
        let found = sum(&dir.join(name)).map_err(|error| {
            DataError::corrupt(format!("{shown} is no whole checkpoint: its {name} cannot be read: {error}"))
        })?;
        if found != expected {
            return Err(DataError::corrupt(format!("{shown}: {name} does not match its checksum in {SUMS}")));
        }
        seen.push(name);
    }
    match needed.iter().find(|name| !seen.contains(name)) {
        Some(name) => Err(DataError::corrupt(format!("{shown}: {SUMS} does not name {name}"))),
        None => Ok(()),
    }
}

fn sum(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut bytes = vec![0; 1 << 20];
    loop {
        match file.read(&mut bytes)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&bytes[..read]),
        }
    }
}

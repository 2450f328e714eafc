//! Models of other tools, read as models of our own: one file for each tool.
//!
//! Whose a folder is, its files tell. What a tool does beside encoder and decoder is folded into the weights ([`Folds`]); what no
//! architecture here can express is refused by name.

mod dictionary_learning;
mod export;
mod published;
mod sae_lens;
mod sparsify;

pub(crate) use export::no_other_model;
pub use export::{Format, export_model};

use std::fs;
use std::path::Path;

use bae_model::Architecture;
use serde_json::{Map, Value, json};

use crate::error::DataError;
use crate::layout;
use crate::model_file::{CONFIG, WEIGHTS, config_of, open_own};
use crate::stored_model::{Folds, StoredModel, Weights, WeightsFile, Widths};

/// Reads everything of a model but its values: a folder of our own or of another tool, or one of its `.pt` files.
///
/// # Errors
/// As [`crate::load_model`].
pub(crate) fn open_model(path: &Path) -> Result<StoredModel, DataError> {
    if path.is_file() {
        return open_file(path);
    }
    if path.join(sparsify::WEIGHTS).exists() {
        return sparsify::open(path);
    }
    if path.join(CONFIG).exists() || path.join(WEIGHTS).exists() {
        return if sae_lens::is_theirs(path)? { sae_lens::open(path) } else { open_own(path) };
    }
    if path.join(dictionary_learning::WEIGHTS).exists() {
        return dictionary_learning::open(path);
    }
    if path.join(published::WEIGHTS).exists() {
        return published::open(&path.join(published::WEIGHTS));
    }
    let inner = models_in(path);
    if !inner.is_empty() {
        const SHOWN: usize = 8;
        let more =
            if inner.len() > SHOWN { format!(" and {} more", inner.len() - SHOWN) } else { String::new() };
        return Err(DataError::refused(format!(
            "{} holds several models: give one of its folders, {}{more}",
            path.display(),
            inner[..inner.len().min(SHOWN)].join(", ")
        )));
    }
    open_own(path)
}

/// Whether `path` looks like a model: by the names of its files alone.
pub(crate) fn is_model(path: &Path) -> bool {
    let names = [CONFIG, WEIGHTS, sparsify::WEIGHTS, dictionary_learning::WEIGHTS, published::WEIGHTS];
    names.iter().any(|name| path.join(name).exists())
}

/// A single file: what torch.save wrote of a model.
fn open_file(path: &Path) -> Result<StoredModel, DataError> {
    let is_pickle = path.extension().is_some_and(|extension| extension == "pt" || extension == "pth");
    let folder = path.parent().unwrap_or(Path::new("."));
    if !is_pickle {
        return Err(DataError::format(format!(
            "{} is no model by its name: give the folder that it lies in",
            path.display()
        )));
    }
    let is_ae = path.file_name().is_some_and(|name| name == dictionary_learning::WEIGHTS);
    if is_ae && folder.join(dictionary_learning::CONFIG).exists() {
        return dictionary_learning::open(folder);
    }
    published::open(path)
}

/// Names of the sub-folders that hold a model, sorted.
fn models_in(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return vec![] };
    let folders = entries.flatten().filter(|entry| is_model(&entry.path()));
    let mut names: Vec<_> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// A model as a neighbour's file has it: `tensors` in the order of [`bae_model::Parameters::flat`], `config` as it stands there.
struct Foreign {
    tool: &'static str,
    architecture: Architecture,
    widths: Widths,
    is_transcoder: bool,
    tensors: Vec<Option<Weights>>,
    folds: Folds,
    config: Map<String, Value>,
}

impl From<Foreign> for StoredModel {
    fn from(foreign: Foreign) -> Self {
        let Foreign { tool, architecture, widths, is_transcoder, tensors, folds, config } = foreign;
        let Value::Object(settings) = json!({ "converted_from": { "tool": tool, "config": config } }) else {
            unreachable!("an object")
        };
        let config = config_of(&architecture, widths, is_transcoder, &settings);
        Self { architecture, layer_norm: false, config, widths, tensors, folds }
    }
}

/// What no architecture here has: `what` names it.
fn cannot_express(path: &Path, what: &str) -> DataError {
    DataError::format(format!(
        "{}: {what}, which no architecture here does; read here are {}",
        path.display(),
        layout::KNOWN
    ))
}

/// A width that a file claims.
fn width(path: &Path, config: &Map<String, Value>, key: &str) -> Result<usize, DataError> {
    config.get(key).and_then(layout::whole).ok_or_else(|| {
        DataError::corrupt(format!(
            "{}: {key} is no positive whole number; save the model again",
            path.display()
        ))
    })
}

/// Refuses tensors that are none of `known`: what they do to the output would be left out.
fn only(file: &WeightsFile, path: &Path, known: &[&str]) -> Result<(), DataError> {
    match file.names().find(|name| !known.contains(name)) {
        None => Ok(()),
        Some(name) => Err(cannot_express(path, &format!("it has a tensor {name}"))),
    }
}

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bae_model::{Architecture, Parameters};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use crate::error::DataError;
use crate::folder::{cannot_write, write_folder};
use crate::input_file::InputFile;
use crate::layout::{self, Layout};
use crate::neighbours::{no_other_model, open_model};
use crate::stored_model::{Folds, StoredModel, WeightsFile, Widths, check_tensor};
use crate::tensors_out::{Values, write_tensors};

pub(crate) const WEIGHTS: &str = "sae_weights.safetensors";
pub(crate) const CONFIG: &str = "cfg.json";

/// What `cfg.json` says under `normalize_activations` of a model whose rows are layer-normalised before they are encoded.
pub const LAYER_NORM: &str = "layer_norm";

/// Writes a model folder, all or nothing: weights, and `settings` with the keys that sparse-autoencoder tools read (those of
/// [`model_config`] are set here, `metadata` added if absent). `architecture` is what the model is applied as.
///
/// With `overwrite` a model already there is replaced; other files in its folder stay.
///
/// # Errors
/// `IO` if the folder holds something and `overwrite` is false or it cannot be written, `NOT_FINITE` for parameters that no reader
/// would take, `UNSUPPORTED_FORMAT` for an architecture that is only trained. Nothing is left of a model that failed.
pub fn save_model(
    dir: &Path,
    architecture: &Architecture,
    parameters: &Parameters,
    settings: &Map<String, Value>,
    overwrite: bool,
) -> Result<(), DataError> {
    no_other_model(dir, WEIGHTS)?;
    write_folder(dir, overwrite, |new| write_model(new, architecture, parameters, settings))
}

/// A checksum (XXH3, 128 bits, hexadecimal) that tells a model's parameters from those of other models: not a safeguard against
/// forgery.
pub fn parameters_checksum(parameters: &Parameters) -> String {
    let mut hash = Xxh3::new();
    for values in parameters.flat() {
        let mut bytes = [0; 4096];
        for values in values.chunks(bytes.len() / 4) {
            let bytes = &mut bytes[..4 * values.len()];
            bytes
                .chunks_exact_mut(4)
                .zip(values)
                .for_each(|(to, value)| to.copy_from_slice(&value.to_le_bytes()));
            hash.update(bytes);
        }
    }
    format!("{:032x}", hash.digest128())
}

/// Writes the two files of a model into `dir`, which is there: for folders that hold more than a model, made with
/// [`write_folder`].
///
/// # Errors
/// As [`save_model`].
pub fn write_model(
    dir: &Path,
    architecture: &Architecture,
    parameters: &Parameters,
    settings: &Map<String, Value>,
) -> Result<(), DataError> {
    if Layout::of(architecture).is_none() {
        return Err(DataError::format(format!(
            "{architecture:?} is trained, not saved: save what it becomes when it is applied"
        )));
    }
    let weights = dir.join(WEIGHTS);
    let mut tensors = vec![];
    for (((name, _), (_, shape)), values) in
        layout::tensors_of(architecture).into_iter().zip(parameters.shapes()).zip(parameters.flat())
    {
        check_tensor(&format!("{}#{name}", weights.display()), &shape, values)?;
        tensors.push((name, shape, values));
    }
    let tensors: Vec<_> =
        tensors.iter().map(|(name, shape, values)| (*name, &shape[..], Values::F32(values))).collect();
    write_file(&weights, |file| write_tensors(file, &[], &tensors))?;

    let config = model_config(architecture, parameters, settings);
    write_file(&dir.join(CONFIG), |file| writeln!(file, "{:#}", Value::Object(config)))
}

/// What `cfg.json` says of this model: the keys that sparse-autoencoder tools read, then those of `settings`.
///
/// A model is a transcoder if its widths differ or `settings` has `d_out`.
pub fn model_config(
    architecture: &Architecture,
    parameters: &Parameters,
    settings: &Map<String, Value>,
) -> Map<String, Value> {
    let (d_in, d_out) = (parameters.d_in(), parameters.d_out());
    let is_transcoder = d_in != d_out || settings.contains_key("d_out");
    config_of(architecture, Widths { d_in, d_sae: parameters.d_sae(), d_out }, is_transcoder, settings)
}

pub(crate) fn config_of(
    architecture: &Architecture,
    Widths { d_in, d_sae, d_out }: Widths,
    is_transcoder: bool,
    settings: &Map<String, Value>,
) -> Map<String, Value> {
    let mut config = Map::new();
    let layout = Layout::of(architecture);
    let name = layout.as_ref().map_or("unsaved", |layout| layout.name(is_transcoder));
    config.insert("architecture".to_owned(), json!(name));
    config.insert("d_in".to_owned(), json!(d_in));
    config.insert("d_sae".to_owned(), json!(d_sae));
    if is_transcoder {
        config.insert("d_out".to_owned(), json!(d_out));
    }
    config.extend(layout.into_iter().flat_map(|layout| layout.settings));
    config.insert("dtype".to_owned(), json!("float32"));
    config.insert("apply_b_dec_to_input".to_owned(), json!(false));
    config.insert(
        "metadata".to_owned(),
        json!({ "made_by": concat!("binary-autoencoder ", env!("CARGO_PKG_VERSION")) }),
    );
    for (key, value) in settings {
        if matches!(key.as_str(), "metadata") || !config.contains_key(key) {
            config.insert(key.clone(), value.clone());
        }
    }
    config
}

/// A model in memory, as a file has it: it takes raw hidden states.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedModel {
    /// Its weights, and what its architecture has beside them.
    pub parameters: Parameters,
    /// How it is applied; what it was trained as, `config` says under `training`.
    pub architecture: Architecture,
    /// Whether rows are layer-normalised before they are encoded ([`bae_model::layer_norm`]).
    pub layer_norm: bool,
    /// What its `cfg.json` says.
    pub config: Map<String, Value>,
}

/// Reads a model folder of our own or of another tool: SAELens, sparsify, dictionary_learning, or the published Binary Autoencoder's
/// `model.pt` (docs/files.md). What such a tool does beside encoder and decoder is folded into the weights.
///
/// # Errors
/// `IO`; `UNSUPPORTED_FORMAT` for what no architecture here can express, by its name; `CORRUPT_FILE`, `SHAPE_MISMATCH` or `NOT_FINITE` if
/// tensors are missing, do not fit each other and `cfg.json`, or hold values that are no numbers.
pub fn load_model(dir: &Path) -> Result<LoadedModel, DataError> {
    open_model(dir)?.load()
}

/// Reads everything of a model of our own but the values.
///
/// # Errors
/// As [`load_model`].
pub(crate) fn open_own(dir: &Path) -> Result<StoredModel, DataError> {
    if !dir.join(CONFIG).exists() && dir.join("checkpoints").is_dir() {
        return Err(DataError::refused(format!(
            "{0} holds a training that has not ended: its last models are in {0}/checkpoints, and bae train --resume goes on",
            dir.display()
        )));
    }
    let path = dir.join(CONFIG);
    let config = read_config(&path)?;
    let (architecture, widths, layer_norm) = described(&path, &config)?;
    let Widths { d_in, d_sae, d_out } = widths;
    let because = match d_out == d_in {
        true => format!("d_in {d_in} and d_sae {d_sae} of {CONFIG}"),
        false => format!("d_in {d_in}, d_sae {d_sae} and d_out {d_out} of {CONFIG}"),
    };
    let file = WeightsFile::open(&dir.join(WEIGHTS))?;
    let four = [vec![d_in, d_sae], vec![d_sae], vec![d_sae, d_out], vec![d_out]];
    let shapes = four.into_iter().chain(std::iter::repeat(vec![d_sae]));
    let tensors = layout::tensors_of(&architecture).into_iter().zip(shapes);
    let tensors = tensors.map(|((name, _), shape)| file.take(name, &shape, &because).map(Some));
    let tensors = tensors.collect::<Result<_, _>>()?;
    Ok(StoredModel { architecture, layer_norm, config, widths, tensors, folds: Folds::default() })
}

/// The settings that a file holds.
pub(crate) fn read_config(path: &Path) -> Result<Map<String, Value>, DataError> {
    const MAX_BYTES: u64 = 16 << 20;
    let shown = path.display();
    let file = InputFile::open(path)?;
    if file.size() > MAX_BYTES {
        return Err(DataError::corrupt(format!(
            "{shown} has {} bytes; settings are a few thousand",
            file.size()
        )));
    }
    let bytes = file.bytes(0, file.size())?;
    serde_json::from_slice(&bytes).map_err(|error| {
        DataError::corrupt(format!("{shown} is no JSON object: {error}; save the model again"))
    })
}

/// The architecture, the widths, and whether rows are layer-normalised.
fn described(path: &Path, config: &Map<String, Value>) -> Result<(Architecture, Widths, bool), DataError> {
    let shown = path.display();
    let name = config.get("architecture");
    let known = name.and_then(Value::as_str).and_then(|name| layout::architecture_of(name, config));
    let Some(known) = known else {
        let name = name.map_or("absent".to_owned(), Value::to_string);
        return Err(DataError::format(format!(
            "{shown}: architecture is {name}; read here are {}",
            layout::KNOWN
        )));
    };
    let (architecture, is_transcoder) =
        known.map_err(|why| DataError::corrupt(format!("{shown}: {why}; save the model again")))?;
    if config.get("apply_b_dec_to_input").is_some_and(|value| value != &json!(false)) {
        return Err(DataError::format(format!(
            "{shown}: apply_b_dec_to_input is set; fold b_dec into b_enc and set it to false"
        )));
    }
    let layer_norm = match config.get("normalize_activations").and_then(Value::as_str) {
        None | Some("none") => false,
        Some(LAYER_NORM) => true,
        Some(other) => {
            return Err(DataError::format(format!(
                "{shown}: normalize_activations is \"{other}\"; fold it into the weights and set it to \"none\""
            )));
        }
    };
    let width = |key: &str| {
        let width = config.get(key).and_then(Value::as_u64).and_then(|width| usize::try_from(width).ok());
        width.filter(|&width| width > 0).ok_or_else(|| {
            DataError::corrupt(format!("{shown}: {key} is no positive whole number; save the model again"))
        })
    };
    if layer_norm && is_transcoder {
        return Err(DataError::format(format!(
            "{shown}: normalize_activations is \"{LAYER_NORM}\", and the output of a transcoder is not scaled back; train it without"
        )));
    }
    let (d_in, d_sae) = (width("d_in")?, width("d_sae")?);
    let d_out = if is_transcoder { width("d_out")? } else { d_in };
    Ok((architecture, Widths { d_in, d_sae, d_out }, layer_norm))
}

pub(crate) fn write_file(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>,
) -> Result<(), DataError> {
    File::create(path)
        .and_then(|file| {
            let mut file = BufWriter::with_capacity(1 << 20, file);
            write(&mut file)?;
            file.flush()
        })
        .map_err(|error| cannot_write(path, error))
}

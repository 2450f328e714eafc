use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bae_model::{Parameters, TENSORS};
use ndarray::ArrayView2;
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::Xxh3;

use crate::dataset::check_finite;
use crate::error::DataError;
use crate::folder::{cannot_write, write_folder};
use crate::input_file::InputFile;
use crate::numbers::{Element, read_values};
use crate::safetensors_file::Header;
use crate::tensors_out::{Values, write_tensors};

pub(crate) const WEIGHTS: &str = "sae_weights.safetensors";
pub(crate) const CONFIG: &str = "cfg.json";

/// What `cfg.json` says under `normalize_activations` of a model whose rows are layer-normalised before they are encoded.
pub const LAYER_NORM: &str = "layer_norm";

/// Writes a model folder, all or nothing: weights, and `config` with the keys that sparse-autoencoder tools read
/// (`architecture`, `d_in`, `d_sae`, `dtype`, `apply_b_dec_to_input` are set here, `metadata` added if absent).
///
/// With `overwrite` a model already there is replaced; other files in its folder stay.
///
/// # Errors
/// `IO` if the folder holds something and `overwrite` is false or it cannot be written, `NOT_FINITE` or
/// `SHAPE_MISMATCH` for parameters that no reader would take. Nothing is left of a model that failed.
pub fn save_model(
    dir: &Path,
    parameters: &Parameters,
    config: &Map<String, Value>,
    overwrite: bool,
) -> Result<(), DataError> {
    write_folder(dir, overwrite, |new| write_model(new, parameters, config))
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
    parameters: &Parameters,
    config: &Map<String, Value>,
) -> Result<(), DataError> {
    let (d_in, d_sae) = (parameters.d_in(), parameters.d_sae());
    if parameters.d_out() != d_in {
        return Err(DataError::shape(format!(
            "a model file holds models that give back their input; this one takes width {d_in} and gives width {}",
            parameters.d_out()
        )));
    }
    let weights = dir.join(WEIGHTS);
    let shapes = shapes(d_in, d_sae);
    for ((name, shape), values) in shapes.iter().zip(parameters.flat()) {
        check_tensor(&weights, name, shape, values)?;
    }
    let mut tensors = vec![];
    for ((name, shape), values) in shapes.iter().zip(parameters.flat()) {
        tensors.push((*name, shape.as_slice(), Values::F32(values)));
    }
    write_file(&weights, |file| write_tensors(file, &[], &tensors))?;

    let config = model_config(parameters, config);
    write_file(&dir.join(CONFIG), |file| writeln!(file, "{:#}", Value::Object(config)))
}

/// What `cfg.json` says of these parameters: the keys that sparse-autoencoder tools read, then those of `settings`.
pub fn model_config(parameters: &Parameters, settings: &Map<String, Value>) -> Map<String, Value> {
    let mut config = Map::new();
    config.insert("architecture".to_owned(), json!("bae"));
    config.insert("d_in".to_owned(), json!(parameters.d_in()));
    config.insert("d_sae".to_owned(), json!(parameters.d_sae()));
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

/// Reads a model folder and its `cfg.json`.
///
/// # Errors
/// `IO`; `UNSUPPORTED_FORMAT` if it is another architecture's; `CORRUPT_FILE`, `SHAPE_MISMATCH` or `NOT_FINITE` if
/// tensors are missing, do not fit each other and `cfg.json`, or hold values that are no numbers.
pub fn load_model(dir: &Path) -> Result<(Parameters, Map<String, Value>), DataError> {
    let StoredModel { file, tensors, d_in, d_sae, config } = StoredModel::open(dir)?;
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    for (StoredTensor { name, shape, element, offset }, values) in
        tensors.into_iter().zip(parameters.flat_mut())
    {
        read_values(&file, element, offset, values)?;
        check_tensor(file.path(), name, &shape, values)?;
    }
    Ok((parameters, config))
}

/// A model folder of which everything but the values has been read and found right.
pub(crate) struct StoredModel {
    file: InputFile,
    tensors: Vec<StoredTensor>,
    pub(crate) d_in: usize,
    pub(crate) d_sae: usize,
    pub(crate) config: Map<String, Value>,
}

struct StoredTensor {
    name: &'static str,
    shape: Vec<usize>,
    element: Element,
    offset: u64,
}

impl StoredModel {
    pub(crate) fn open(dir: &Path) -> Result<Self, DataError> {
        if !dir.join(CONFIG).exists() && dir.join("checkpoints").is_dir() {
            return Err(DataError::refused(format!(
                "{0} holds a training that has not ended: its last models are in {0}/checkpoints, and bae train --resume goes on",
                dir.display()
            )));
        }
        let (config, d_in, d_sae) = read_config(&dir.join(CONFIG))?;
        let file = InputFile::open(&dir.join(WEIGHTS))?;
        let header = Header::read(&file)?;
        let path = file.path().display();
        let mut tensors = Vec::with_capacity(4);
        for (name, shape) in shapes(d_in, d_sae) {
            let Some(tensor) = header.tensor(name) else {
                return Err(DataError::corrupt(format!(
                    "{path} has no tensor {name}, only {}; save the model again",
                    header.listing()
                )));
            };
            let element = Element::of_safetensors(tensor.dtype).filter(|&element| element != Element::F64);
            let Some(element) = element else {
                return Err(DataError::format(format!(
                    "{path}#{name} is of type {}; weights are F32, F16 or BF16: convert them",
                    tensor.dtype
                )));
            };
            if tensor.shape != shape {
                return Err(DataError::shape(format!(
                    "{path}#{name} has shape {:?}, but d_in {d_in} and d_sae {d_sae} of {CONFIG} make it {shape:?}; \
                     these files are not of one model",
                    tensor.shape
                )));
            }
            tensors.push(StoredTensor { name, shape, element, offset: tensor.offset });
        }
        Ok(Self { file, tensors, d_in, d_sae, config })
    }
}

fn shapes(d_in: usize, d_sae: usize) -> [(&'static str, Vec<usize>); 4] {
    let [w_enc, b_enc, w_dec, b_dec] = TENSORS;
    [(w_enc, vec![d_in, d_sae]), (b_enc, vec![d_sae]), (w_dec, vec![d_sae, d_in]), (b_dec, vec![d_in])]
}

/// The settings, d_in and d_sae.
fn read_config(path: &Path) -> Result<(Map<String, Value>, usize, usize), DataError> {
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
    let config: Map<String, Value> = serde_json::from_slice(&bytes).map_err(|error| {
        DataError::corrupt(format!("{shown} is no JSON object: {error}; save the model again"))
    })?;
    match config.get("architecture") {
        Some(Value::String(architecture)) if architecture == "bae" => {}
        other => {
            let other = other.map_or("absent".to_owned(), Value::to_string);
            return Err(DataError::format(format!(
                "{shown}: architecture is {other}; only \"bae\" models are read here"
            )));
        }
    }
    if config.get("apply_b_dec_to_input").is_some_and(|value| value != &json!(false)) {
        return Err(DataError::format(format!(
            "{shown}: apply_b_dec_to_input is set; fold b_dec into b_enc and set it to false"
        )));
    }
    match config.get("normalize_activations").and_then(Value::as_str) {
        None | Some("none" | LAYER_NORM) => {}
        Some(other) => {
            return Err(DataError::format(format!(
                "{shown}: normalize_activations is \"{other}\"; fold it into the weights and set it to \"none\""
            )));
        }
    }
    let width = |key: &str| match config
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|width| usize::try_from(width).ok())
    {
        Some(width) if width > 0 => Ok(width),
        _ => Err(DataError::corrupt(format!(
            "{shown}: {key} is no positive whole number; save the model again"
        ))),
    };
    let (d_in, d_sae) = (width("d_in")?, width("d_sae")?);
    Ok((config, d_in, d_sae))
}

fn check_tensor(path: &Path, name: &str, shape: &[usize], values: &[f32]) -> Result<(), DataError> {
    let columns = shape.last().copied().unwrap_or(1).max(1);
    let rows = ArrayView2::from_shape((values.len() / columns, columns), values)
        .expect("rows of the last dimension");
    check_finite(rows, &format!("{}#{name}", path.display()), 0)
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

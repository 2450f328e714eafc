//! SAELens: `cfg.json` and `sae_weights.safetensors`, the layout that our own folders have too.
//!
//! x is normalised, b_dec is subtracted where `apply_b_dec_to_input`, and pre-activations are multiplied by the norms of the decoder's
//! rows where `rescale_acts_by_decoder_norm`. Where `cfg.json` says nothing, it is SAELens' default that holds.

use std::path::Path;

use bae_model::Architecture;
use bae_model::architectures::{Kind, Threshold};
use serde_json::{Map, Value, json};

use super::{cannot_express, only, width};
use crate::error::DataError;
use crate::layout;
use crate::model_file::{CONFIG, LAYER_NORM, WEIGHTS, config_of, read_config};
use crate::stored_model::{Folds, StoredModel, WeightsFile, Widths};

/// Whether a folder was written by SAELens, or by others as SAELens writes: not by us.
pub(super) fn is_theirs(dir: &Path) -> Result<bool, DataError> {
    let path = dir.join(CONFIG);
    if !path.exists() {
        return Ok(false);
    }
    let config = read_config(&path)?;
    let name = config.get("architecture").and_then(Value::as_str);
    let is_bae = name.is_some_and(|name| name.starts_with("bae"));
    let metadata = config.get("metadata");
    let is_ours = metadata.and_then(|metadata| metadata.get("made_by")).and_then(Value::as_str);
    Ok(!is_bae && is_ours.is_none_or(|made_by| !made_by.starts_with("binary-autoencoder")))
}

pub(super) fn open(dir: &Path) -> Result<StoredModel, DataError> {
    let path = dir.join(CONFIG);
    let mut config = read_config(&path)?;
    let name = name_of(&path, &mut config)?;
    let batch = matches!(&*name, "batchtopk" | "matryoshka_batchtopk");
    let known = match &*name {
        _ if batch => Some(Ok((Architecture::of(Kind::Threshold(Threshold)), false))),
        name => layout::architecture_of(name, &config),
    };
    let Some(known) = known else {
        return Err(cannot_express(&path, &format!("architecture is \"{name}\"")));
    };
    let (architecture, is_transcoder) = known
        .map_err(|why| DataError::corrupt(format!("{}: {why}; save the model again", path.display())))?;
    let layer_norm = layer_norm(&path, &config)?;
    if layer_norm && is_transcoder {
        return Err(cannot_express(&path, "its input is layer-normalised and its output is not scaled back"));
    }
    let [d_in, d_sae] = [width(&path, &config, "d_in")?, width(&path, &config, "d_sae")?];
    let d_out = if is_transcoder { width(&path, &config, "d_out")? } else { d_in };
    let flag = |key: &str, default: bool| config.get(key).and_then(Value::as_bool).unwrap_or(default);
    // transcoders never have it: their b_dec is as wide as the output
    let centred = !is_transcoder && flag("apply_b_dec_to_input", true);
    let by_norm = flag("rescale_acts_by_decoder_norm", batch);

    let file = WeightsFile::open(&dir.join(WEIGHTS))?;
    let because = format!("d_in {d_in}, d_sae {d_sae} and d_out {d_out} of {CONFIG}");
    let own = layout::tensors_of(&architecture).into_iter().map(|(name, _)| name);
    let known: Vec<_> = own.chain(["topk_threshold", "log_threshold", "scaling_factor"]).collect();
    only(&file, &path, &known)?;
    if file.has("scaling_factor") {
        // the file has as many, or is refused: only then is there memory for them
        let stored = file.take("scaling_factor", &[d_sae], &because)?;
        let mut factors = vec![0.0; d_sae];
        stored.read(&mut factors)?;
        if factors.iter().any(|&factor| factor != 1.0) {
            return Err(cannot_express(&path, "it scales activations after training (scaling_factor)"));
        }
    }
    let four = [vec![d_in, d_sae], vec![d_sae], vec![d_sae, d_out], vec![d_out]];
    let shapes = four.into_iter().chain(std::iter::repeat(vec![d_sae]));
    let mut tensors = vec![];
    for ((name, _), shape) in layout::tensors_of(&architecture).into_iter().zip(shapes) {
        tensors.push(Some(if batch && name == "threshold" {
            file.take_scalar("topk_threshold")?.repeated(d_sae)
        } else if name == "threshold" && !file.has(name) && file.has("log_threshold") {
            let mut weights = file.take("log_threshold", &shape, &because)?;
            weights.is_log = true;
            weights
        } else {
            file.take(name, &shape, &because)?
        }));
    }
    // what is folded no longer holds
    if !is_transcoder {
        config.remove("d_out");
    }
    config.insert("apply_b_dec_to_input".to_owned(), json!(false));
    config.remove("rescale_acts_by_decoder_norm");
    let widths = Widths { d_in, d_sae, d_out };
    let config = config_of(&architecture, widths, is_transcoder, &config);
    Ok(StoredModel { architecture, layer_norm, config, widths, tensors, folds: Folds { centred, by_norm } })
}

/// `architecture`; before version 6 it may be absent, and topk an activation function of the standard one.
fn name_of(path: &Path, config: &mut Map<String, Value>) -> Result<String, DataError> {
    let name = match config.get("architecture") {
        None => "standard",
        Some(Value::String(name)) => name,
        Some(other) => {
            return Err(cannot_express(path, &format!("architecture is {other}")));
        }
    };
    let name = name.to_owned();
    let activation = config.get("activation_fn").or(config.get("activation_fn_str")).and_then(Value::as_str);
    match activation {
        None | Some("relu") => Ok(name),
        Some("topk") => {
            let k = config.get("activation_fn_kwargs").and_then(|settings| settings.get("k")).cloned();
            config.extend(k.map(|k| ("k".to_owned(), k)));
            Ok("topk".to_owned())
        }
        Some(other) => Err(cannot_express(path, &format!("activation_fn is \"{other}\""))),
    }
}

fn layer_norm(path: &Path, config: &Map<String, Value>) -> Result<bool, DataError> {
    match config.get("normalize_activations") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(false),
        Some(Value::String(how)) if how == "none" => Ok(false),
        Some(Value::String(how)) if how == LAYER_NORM => Ok(true),
        // the factor is in no file: whoever uses such a model brings it
        Some(other) => Err(cannot_express(path, &format!("normalize_activations is {other}"))),
    }
}

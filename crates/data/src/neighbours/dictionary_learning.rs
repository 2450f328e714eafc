//! dictionary_learning: `config.json`, whose `trainer` names the class and its settings, and `ae.pt`, its state.

use std::path::Path;

use bae_model::Architecture;
use bae_model::architectures::{Gated, Kind, Relu, Revival, Threshold, TopK};
use serde_json::{Map, Value};

use super::{Foreign, cannot_express, only, width};
use crate::error::DataError;
use crate::model_file::read_config;
use crate::stored_model::{Folds, StoredModel, Weights, WeightsFile, Widths};

pub(super) const WEIGHTS: &str = "ae.pt";
pub(super) const CONFIG: &str = "config.json";

/// How a class computes, and what it calls its tensors.
struct Class {
    kind: Kind,
    /// Of encoder, its bias, decoder and its bias. Matrices with a dot in their names are those of linear layers: turned round.
    four: [&'static str; 4],
    /// Beside these, in the order of the architecture's own.
    more: &'static [&'static str],
    /// Of no consequence for what is computed.
    unused: &'static [&'static str],
    /// Whether the decoder's bias is subtracted from what is encoded.
    centred: bool,
}

pub(super) fn open(dir: &Path) -> Result<StoredModel, DataError> {
    let path = dir.join(CONFIG);
    let config = read_config(&path)?;
    let empty = Map::new();
    let trainer = config.get("trainer").and_then(Value::as_object).unwrap_or(&empty);
    let Some(name) = trainer.get("dict_class").and_then(Value::as_str) else {
        return Err(DataError::format(format!(
            "{}: trainer.dict_class is absent, and what {WEIGHTS} computes depends on it: add it",
            path.display()
        )));
    };
    let Some(class) = class_of(name, &path, trainer)? else {
        return Err(cannot_express(&path, &format!("dict_class is \"{name}\"")));
    };
    let file = WeightsFile::torch(&dir.join(WEIGHTS))?;
    only(&file, &path, &[&class.four[..], class.more, class.unused].concat())?;
    let encoder = class.four[0];
    let [rows, columns] = file.matrix(encoder)?;
    let (d_in, d_sae) = if is_layer(encoder) { (columns, rows) } else { (rows, columns) };
    let because = format!("d_in {d_in} and d_sae {d_sae} of {encoder}");
    let take = |name: &str, shape: &[usize]| match shape {
        &[rows, columns] if is_layer(name) => Ok(file.take(name, &[columns, rows], &because)?.transposed()),
        shape => file.take(name, shape, &because),
    };
    let shapes = [&[d_in, d_sae][..], &[d_sae], &[d_sae, d_in], &[d_in]];
    let four = class.four.iter().zip(shapes).map(|(name, shape)| take(name, shape));
    let one_for_all = |name: &str| matches!(class.kind, Kind::Threshold(_)) && !is_per_feature(&file, name);
    let more = class.more.iter().map(|name| match one_for_all(name) {
        true => Ok(file.take_scalar(name)?.repeated(d_sae)),
        false => take(name, &[d_sae]),
    });
    let tensors =
        four.chain(more).map(|weights| weights.map(Some)).collect::<Result<Vec<Option<Weights>>, _>>()?;
    Ok(Foreign {
        tool: "dictionary_learning",
        architecture: Architecture::of(class.kind),
        widths: Widths { d_in, d_sae, d_out: d_in },
        is_transcoder: false,
        tensors,
        folds: Folds { centred: class.centred, by_norm: false },
        config,
    }
    .into())
}

fn class_of(name: &str, path: &Path, trainer: &Map<String, Value>) -> Result<Option<Class>, DataError> {
    const LAYERS: [&str; 4] = ["encoder.weight", "encoder.bias", "decoder.weight", "b_dec"];
    let relu = Kind::Relu(Relu { by_norm: true });
    let of = |kind, four, more: &'static [&'static str], unused: &'static [&'static str], centred| {
        Ok(Some(Class { kind, four, more, unused, centred }))
    };
    match name {
        "AutoEncoder" => {
            of(relu, ["encoder.weight", "encoder.bias", "decoder.weight", "bias"], &[], &[], true)
        }
        "AutoEncoderNew" => {
            of(relu, ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"], &[], &[], false)
        }
        "AutoEncoderTopK" => {
            let (k, revival) = (width(path, trainer, "k")?, Revival { weight: 0.0, dead_after: 0 });
            of(Kind::TopK(TopK { k, revival }), LAYERS, &[], &["k", "threshold"], true)
        }
        "BatchTopKSAE" => of(Kind::Threshold(Threshold), LAYERS, &["threshold"], &["k"], true),
        "MatryoshkaBatchTopKSAE" => {
            let four = ["W_enc", "b_enc", "W_dec", "b_dec"];
            of(Kind::Threshold(Threshold), four, &["threshold"], &["k", "group_sizes"], true)
        }
        "JumpReluAutoEncoder" => {
            of(Kind::Threshold(Threshold), ["W_enc", "b_enc", "W_dec", "b_dec"], &["threshold"], &[], false)
        }
        "GatedAutoEncoder" => {
            let four = ["encoder.weight", "gate_bias", "decoder.weight", "decoder_bias"];
            of(Kind::Gated(Gated), four, &["r_mag", "mag_bias"], &[], true)
        }
        _ => Ok(None),
    }
}

fn is_layer(name: &str) -> bool {
    name.contains('.')
}

fn is_per_feature(file: &WeightsFile, name: &str) -> bool {
    file.take_scalar(name).is_err()
}

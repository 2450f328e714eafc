//! What an architecture is called in a model's `cfg.json`, its settings there, and the names of its tensors: those of SAELens, where it
//! has the architecture. One place for both ways.

use bae_model::architectures::{Gated, KBit, Kind, Pca, Relu, Revival, Snmf, Ternary, Threshold, TopK};
use bae_model::{Activation, Architecture, Estimator, OutputActivation, TENSORS};
use serde_json::{Map, Value, json};

/// An architecture, as files have it.
pub(crate) struct Layout {
    name: &'static str,
    transcoder: &'static str,
    /// Keys of `cfg.json` beside the widths.
    pub(crate) settings: Map<String, Value>,
}

impl Layout {
    /// Of an architecture as models are applied; `None` of those that are only trained.
    pub(crate) fn of(architecture: &Architecture) -> Option<Self> {
        let (name, transcoder, settings) = match architecture.activation {
            Activation::Binary(_) => ("bae", "bae_transcoder", json!({})),
            Activation::Values(Kind::Relu(_)) => ("standard", "transcoder", json!({})),
            Activation::Values(Kind::TopK(TopK { k, .. })) => {
                ("topk", "topk_transcoder", json!({ "k": k, "rescale_acts_by_decoder_norm": false }))
            }
            Activation::Values(Kind::Threshold(_)) => ("jumprelu", "jumprelu_transcoder", json!({})),
            Activation::Values(Kind::Gated(_)) => ("gated", "gated_transcoder", json!({})),
            // these are our own names
            Activation::Values(Kind::Ternary(_)) => ("ternary", "ternary_transcoder", json!({})),
            Activation::Values(Kind::KBit(KBit { bits, .. })) => {
                ("kbit", "kbit_transcoder", json!({ "bits": bits }))
            }
            Activation::Values(Kind::Pca(_)) => ("pca", "pca_transcoder", json!({})),
            Activation::Values(Kind::Snmf(_)) => ("snmf", "snmf_transcoder", json!({})),
            _ => return None,
        };
        if architecture.output != OutputActivation::None {
            return None;
        }
        let Value::Object(settings) = settings else { unreachable!("an object") };
        Some(Self { name, transcoder, settings })
    }

    /// `architecture` in `cfg.json`.
    pub(crate) fn name(&self, is_transcoder: bool) -> &'static str {
        if is_transcoder { self.transcoder } else { self.name }
    }
}

/// The architecture of this name with the settings that `config` has, and whether it is a transcoder; `None` for names that are not
/// known, an error text for settings that make no sense.
pub(crate) fn architecture_of(
    name: &str,
    config: &Map<String, Value>,
) -> Option<Result<(Architecture, bool), String>> {
    let base = match name {
        "transcoder" => "standard",
        _ => name.strip_suffix("_transcoder").unwrap_or(name),
    };
    let kind = match base {
        "bae" => {
            // only the squarewave steps elsewhere than at 0; folders of other origin name no estimator
            let named = config.get("training").and_then(|training| training.get("estimator"));
            let estimator = named.and_then(|named| serde_json::from_value(named.clone()).ok());
            let architecture = Architecture::binary(estimator.unwrap_or(Estimator::Identity));
            return Some(Ok((architecture, name != base)));
        }
        "standard" => Kind::Relu(Relu { by_norm: true }),
        "topk" => match config.get("k").and_then(whole) {
            Some(k) => Kind::TopK(TopK { k, revival: Revival { weight: 0.0, dead_after: 0 } }),
            None => return Some(Err("k is no positive whole number".to_owned())),
        },
        "jumprelu" => Kind::Threshold(Threshold),
        "gated" => Kind::Gated(Gated),
        "ternary" => Kind::Ternary(Ternary { width: UNUSED_WIDTH }),
        "kbit" => match config.get("bits").and_then(whole).and_then(|bits| u32::try_from(bits).ok()) {
            Some(bits) if bits <= KBit::MOST => Kind::KBit(KBit { bits, width: UNUSED_WIDTH }),
            _ => return Some(Err(format!("bits is no whole number from 1 to {}", KBit::MOST))),
        },
        "pca" => Kind::Pca(Pca),
        "snmf" => Kind::Snmf(Snmf),
        _ => return None,
    };
    Some(Ok((Architecture::of(kind), name != base)))
}

/// Of a gradient's estimator, which a model that is applied does not have.
const UNUSED_WIDTH: f64 = 1.0;

/// Names that [`architecture_of`] knows, for messages.
pub(crate) const KNOWN: &str =
    "bae, standard, topk, jumprelu, gated, ternary, kbit, pca, snmf and their transcoders";

/// What files call the tensors of [`bae_model::Parameters`], in the order of its `flat`, and what it calls them itself.
pub(crate) fn tensors_of(architecture: &Architecture) -> Vec<(&'static str, &'static str)> {
    let kind = architecture.kind();
    let of_file = |name: &'static str| match (kind, name) {
        (Some(Kind::Gated(_)), "b_enc") => "b_gate",
        _ => name,
    };
    let per_feature = kind.map_or(&[][..], |kind| kind.coding::<f32>().per_feature());
    let names = TENSORS.into_iter().chain(per_feature.iter().map(|(name, _)| *name));
    names.map(|name| (of_file(name), name)).collect()
}

/// A positive whole number, perhaps written as 5.0.
pub(crate) fn whole(value: &Value) -> Option<usize> {
    let fraction = |value: f64| (value.fract() == 0.0 && value < 1e15).then_some(value as u64);
    let number = value.as_u64().or_else(|| value.as_f64().and_then(fraction))?;
    usize::try_from(number).ok().filter(|&number| number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_an_architecture_is_read_as_that_one() {
        let kinds = [
            Kind::Relu(Relu { by_norm: true }),
            Kind::TopK(TopK { k: 7, revival: Revival { weight: 0.0, dead_after: 0 } }),
            Kind::Threshold(Threshold),
            Kind::Gated(Gated),
            Kind::Ternary(Ternary { width: UNUSED_WIDTH }),
            Kind::KBit(KBit { bits: 3, width: UNUSED_WIDTH }),
            Kind::Pca(Pca),
            Kind::Snmf(Snmf),
        ];
        let binary = Architecture::binary(Estimator::Identity);
        for architecture in kinds.map(Architecture::of).into_iter().chain([binary]) {
            for is_transcoder in [false, true] {
                let layout = Layout::of(&architecture).unwrap();
                let read = architecture_of(layout.name(is_transcoder), &layout.settings);
                assert_eq!(read, Some(Ok((architecture, is_transcoder))));
            }
        }
    }
}

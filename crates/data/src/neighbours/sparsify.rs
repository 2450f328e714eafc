//! sparsify: `cfg.json` and `sae.safetensors`. a = relu((x − b_dec) encoder.weightᵀ + encoder.bias), x as it is where `transcode`; of
//! these the k largest.

use std::path::Path;

use bae_model::Architecture;
use bae_model::architectures::{Kind, Revival, TopK};
use serde_json::Value;

use super::{Foreign, cannot_express, only, width};
use crate::error::DataError;
use crate::layout;
use crate::model_file::{CONFIG, read_config};
use crate::stored_model::{Folds, StoredModel, WeightsFile, Widths};

pub(super) const WEIGHTS: &str = "sae.safetensors";

pub(super) fn open(dir: &Path) -> Result<StoredModel, DataError> {
    let path = dir.join(CONFIG);
    let config = read_config(&path)?;
    let flag = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
    match config.get("activation") {
        None => {}
        Some(Value::String(activation)) if activation == "topk" => {}
        Some(other) => return Err(cannot_express(&path, &format!("activation is {other}"))),
    }
    if flag("skip_connection") {
        return Err(cannot_express(&path, "it has a skip connection"));
    }
    let d_in = width(&path, &config, "d_in")?;
    let k = match config.get("k") {
        None => 32,
        Some(_) => width(&path, &config, "k")?,
    };
    let d_sae = match config.get("num_latents").and_then(layout::whole) {
        Some(latents) => latents,
        None => {
            let factor = config.get("expansion_factor").map_or(Some(32), layout::whole);
            factor.and_then(|factor| d_in.checked_mul(factor)).ok_or_else(|| {
                DataError::corrupt(format!(
                    "{}: expansion_factor is no width; save the model again",
                    path.display()
                ))
            })?
        }
    };
    let file = WeightsFile::open(&dir.join(WEIGHTS))?;
    only(&file, &path, &["encoder.weight", "encoder.bias", "W_dec", "b_dec"])?;
    let because = format!("d_in {d_in} and {d_sae} latents of {CONFIG}");
    let tensors = vec![
        Some(file.take("encoder.weight", &[d_sae, d_in], &because)?.transposed()),
        Some(file.take("encoder.bias", &[d_sae], &because)?),
        Some(file.take("W_dec", &[d_sae, d_in], &because)?),
        Some(file.take("b_dec", &[d_in], &because)?),
    ];
    let is_transcoder = flag("transcode");
    let revival = Revival { weight: 0.0, dead_after: 0 };
    Ok(Foreign {
        tool: "sparsify",
        architecture: Architecture::of(Kind::TopK(TopK { k, revival })),
        widths: Widths { d_in, d_sae, d_out: d_in },
        is_transcoder,
        tensors,
        folds: Folds { centred: !is_transcoder, by_norm: false },
        config,
    }
    .into())
}

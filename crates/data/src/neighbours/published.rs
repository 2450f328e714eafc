//! The published Binary Autoencoder: `model.pt`, the state of its module. The file does not say how it binarizes; what is read is
//! h = [a > 0], as its experiments have it.

use std::path::Path;

use bae_model::{Architecture, Estimator};
use serde_json::Map;

use super::{Foreign, cannot_express};
use crate::error::DataError;
use crate::stored_model::{Folds, StoredModel, WeightsFile, Widths};

pub(super) const WEIGHTS: &str = "model.pt";

pub(super) fn open(path: &Path) -> Result<StoredModel, DataError> {
    const NAMES: [&str; 4] = ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"];
    let file = WeightsFile::torch(path)?;
    if let Some(name) = file.names().find(|name| !NAMES.contains(name)) {
        return Err(cannot_express(
            path,
            &format!(
                "it has a tensor {name}, so it is no published Binary Autoencoder but a state without a description"
            ),
        ));
    }
    let [d_sae, d_in] = file.matrix(NAMES[0])?;
    let because = format!("d_in {d_in} and d_sae {d_sae} of {}", NAMES[0]);
    let bias =
        |name: &str, width: usize| file.has(name).then(|| file.take(name, &[width], &because)).transpose();
    let tensors = vec![
        Some(file.take(NAMES[0], &[d_sae, d_in], &because)?.transposed()),
        bias(NAMES[1], d_sae)?,
        Some(file.take(NAMES[2], &[d_in, d_sae], &because)?.transposed()),
        bias(NAMES[3], d_in)?,
    ];
    Ok(Foreign {
        tool: "published",
        architecture: Architecture::binary(Estimator::Identity),
        widths: Widths { d_in, d_sae, d_out: d_in },
        is_transcoder: false,
        tensors,
        folds: Folds::default(),
        config: Map::new(),
    }
    .into())
}

//! What a model makes of rows, row by row: codes with their values, and reconstructions.

use crate::TrainError;
use crate::evaluate::{Applied, Codes, measured_rows};
use bae_codes::ValueMatrix;
use bae_data::Feed;
use bae_model::layer_norm;

/// What is wanted of each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Its code, `[d_sae]`; bits are 0 and 1.
    Activations,
    /// Its reconstruction, `[d_out]`, in the units of the hidden states: of a model that layer-normalises its rows too.
    Reconstruction,
}

/// Codes or reconstructions of the rows that `feed` gives, chunk by chunk: `each` gets them row-major, and says whether to go on.
///
/// # Errors
/// Those of reading and encoding; [`TrainError::Cancelled`] if `each` says stop.
pub fn applied_chunks(
    model: &Applied,
    feed: &Feed,
    wanted: Wanted,
    mut each: impl FnMut(Vec<f32>) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, measured_rows(model.backend.d_sae()), 0);
        while let Some(x) = batches.next() {
            let mut x = x?;
            let norms = model.layer_norm.then(|| layer_norm(x.view_mut()));
            let codes = model.encode(x.view())?;
            let values = match (wanted, codes) {
                (Wanted::Activations, Codes::Bits(bits)) => ValueMatrix::from(&bits).dense(),
                (Wanted::Activations, Codes::Values(values)) => values.dense(),
                (Wanted::Reconstruction, codes) => {
                    let mut y = model.decode(&codes)?;
                    let norms = norms.into_iter().flatten();
                    for (mut row, (mean, divisor)) in y.rows_mut().into_iter().zip(norms) {
                        row.mapv_inplace(|y| y * divisor + mean);
                    }
                    y.into_raw_vec_and_offset().0
                }
            };
            if !each(values)? {
                return Err(TrainError::Cancelled);
            }
        }
        Ok(())
    })
}

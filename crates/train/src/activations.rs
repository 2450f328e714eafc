//! What a model makes of rows, row by row: codes with their values, and reconstructions.

use crate::TrainError;
use crate::evaluate::{Applied, through};
use bae_data::Feed;

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
    through(model, feed, |_, _, _, norms, codes| {
        each(match wanted {
            Wanted::Activations => codes.dense(),
            Wanted::Reconstruction => {
                let mut y = model.decode(&codes)?;
                for (mut row, &(mean, divisor)) in y.rows_mut().into_iter().zip(norms.into_iter().flatten()) {
                    row.mapv_inplace(|y| y * divisor + mean);
                }
                y.into_raw_vec_and_offset().0
            }
        })
    })
}

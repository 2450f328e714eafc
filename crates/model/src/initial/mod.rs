//! What training starts from.

mod components;
mod prediction;
mod quantiser;
mod two_valued;
mod typical;

pub use prediction::Prediction;
pub use quantiser::{Quantiser, quantiser_step};
pub use typical::Typical;

use crate::Parameters;
use ndarray::Array;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Weights and biases uniform in ±1/√fan-in, as the published code draws them (PyTorch's linear layers).
pub fn published(rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize, d_out: usize) -> Parameters {
    let mut uniform = |fan_in: usize| {
        let bound = 1.0 / (fan_in as f32).sqrt();
        rng.random::<f32>() * 2.0 * bound - bound
    };
    Parameters {
        w_enc: Array::from_shape_simple_fn((d_in, d_sae), || uniform(d_in)),
        b_enc: Array::from_shape_simple_fn(d_sae, || uniform(d_in)),
        w_dec: Array::from_shape_simple_fn((d_sae, d_out), || uniform(d_sae)),
        b_dec: Array::from_shape_simple_fn(d_out, || uniform(d_sae)),
        per_feature: vec![],
    }
}

/// Random directions of norm 1 to decode by, and the same turned round to encode by; biases 0.
pub fn tied(rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize) -> Parameters {
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    for mut row in parameters.w_dec.rows_mut() {
        row.mapv_inplace(|_| StandardNormal.sample(rng));
        let norm = row.iter().map(|&w: &f32| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
        row.mapv_inplace(|w| (f64::from(w) / norm.max(f64::MIN_POSITIVE)) as f32);
    }
    parameters.w_enc.assign(&parameters.w_dec.t());
    parameters
}

//! What training starts from.

mod components;
mod quantiser;
mod two_valued;
mod typical;

pub use quantiser::{Quantiser, quantiser_step};
pub use typical::Typical;

use crate::Parameters;
use ndarray::Array;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Weights and biases uniform in ±1/√fan-in, as the published code draws them (PyTorch's linear layers).
pub fn published(rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize) -> Parameters {
    let mut uniform = |fan_in: usize| {
        let bound = 1.0 / (fan_in as f32).sqrt();
        rng.random::<f32>() * 2.0 * bound - bound
    };
    Parameters {
        w_enc: Array::from_shape_simple_fn((d_in, d_sae), || uniform(d_in)),
        b_enc: Array::from_shape_simple_fn(d_sae, || uniform(d_in)),
        w_dec: Array::from_shape_simple_fn((d_sae, d_in), || uniform(d_sae)),
        b_dec: Array::from_shape_simple_fn(d_in, || uniform(d_sae)),
        per_feature: vec![],
    }
}

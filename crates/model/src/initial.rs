use crate::Parameters;
use ndarray::Array;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How fresh parameters are drawn.
pub enum Initial {
    /// Weights and biases uniform in ±1/√fan-in, as the published code has them.
    Published,
}

impl Initial {
    /// Fresh parameters of an autoencoder; the same generator state gives the same bits on every machine.
    pub fn draw(&self, rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize) -> Parameters {
        match self {
            Initial::Published => {
                let mut uniform = |fan_in: usize| {
                    let bound = 1.0 / (fan_in as f32).sqrt();
                    rng.random::<f32>() * 2.0 * bound - bound
                };
                Parameters {
                    w_enc: Array::from_shape_simple_fn((d_in, d_sae), || uniform(d_in)),
                    b_enc: Array::from_shape_simple_fn(d_sae, || uniform(d_in)),
                    w_dec: Array::from_shape_simple_fn((d_sae, d_in), || uniform(d_sae)),
                    b_dec: Array::from_shape_simple_fn(d_in, || uniform(d_sae)),
                }
            }
        }
    }
}

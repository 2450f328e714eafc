use crate::architectures::Kind;
use bae_kernels::{Isa, slope};
use serde::{Deserialize, Serialize};

/// What replaces the derivative of the step function, which is 0 almost everywhere.
///
/// With z a pre-activation and g the gradient arriving at its bit, the gradient passed to z is:
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum Estimator {
    /// g.
    Identity,
    /// g · σ′(z / width) · 4, with σ the logistic function: 1 at the threshold, falling off within a few widths, and 0
    /// from 8 widths on, where it is below 1.4e-3.
    Sigmoid {
        /// In units of the pre-activation.
        width: f64,
    },
    /// g where |z| < width, else 0.
    Rectangle {
        /// In units of the pre-activation.
        width: f64,
    },
    /// g (1 − g): what the published `sign_s` computes. It depends on the gradient alone, not on z.
    ReferenceSigmoid,
    /// π cos(2πg), with a step of period 2 (1 where z mod 2 < 1): the published `squarewave`.
    Squarewave,
}

/// The code of one pre-activation, and how gradients pass it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// A bit: the Binary Autoencoder.
    Binary(Estimator),
    /// z itself.
    None,
    /// max(z, 0).
    Relu,
    /// 1 / (1 + exp(−z)).
    Sigmoid,
    /// tanh z.
    Tanh,
    /// z where it is at least the k-th largest of its row (ties kept), else 0. Kept values may be negative.
    TopK(usize),
    /// z where z > the threshold, else 0; the threshold is a constant.
    JumpRelu(f64),
    /// One of [`crate::architectures`], which has an engine of its own ([`crate::Sae`]). All above are as published.
    Values(Kind),
}

/// What is applied to the decoder's output. Only the published experiments need anything but `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputActivation {
    /// The reconstruction is linear.
    #[default]
    None,
    /// max(y, 0).
    Relu,
    /// 1 / (1 + exp(−y)).
    Sigmoid,
    /// tanh y.
    Tanh,
}

impl Estimator {
    /// The step function: 1 where z > 0, else 0; NaN stays NaN. [`Estimator::Squarewave`] steps with period 2 and
    /// leaves infinities as they are.
    pub fn step(self, z: f64) -> f64 {
        if z.is_nan() {
            return z;
        }
        match self {
            Estimator::Squarewave if z.is_infinite() => z,
            Estimator::Squarewave => f64::from(u8::from(squarewave(z as f32))),
            _ => f64::from(u8::from(z > 0.0)),
        }
    }

    /// The gradient passed to z when `upstream` arrives at its bit, in f64.
    pub fn backward(self, upstream: f64, z: f64) -> f64 {
        match self {
            Estimator::Identity => upstream,
            Estimator::Sigmoid { width } => {
                let tail = libm::exp(-(z / width).abs());
                let slope = if z.abs() < SIGMOID_WINDOW * width { 4.0 * tail } else { 0.0 };
                upstream * slope / ((1.0 + tail) * (1.0 + tail))
            }
            Estimator::Rectangle { width } => upstream * f64::from(u8::from(z.abs() < width)),
            Estimator::ReferenceSigmoid => upstream * (1.0 - upstream),
            Estimator::Squarewave => std::f64::consts::PI * libm::cos(std::f64::consts::TAU * upstream),
        }
    }

    /// The |z| from which on no gradient passes, if there is one: in units of the pre-activation.
    pub fn window(self) -> Option<f64> {
        match self {
            Estimator::Sigmoid { width } => Some(SIGMOID_WINDOW * width),
            Estimator::Rectangle { width } => Some(width),
            _ => None,
        }
    }

    /// [`Estimator::backward`] over many, in f32 and in place.
    pub fn backward_slice(self, isa: Isa, upstream: &mut [f32], z: &[f32]) {
        let pairs = upstream.iter_mut().zip(z);
        match self {
            Estimator::Identity => {}
            Estimator::Sigmoid { width } => {
                let window = (SIGMOID_WINDOW * width) as f32;
                slope::times_logistic_slope(isa, upstream, z, (1.0 / width) as f32, window);
            }
            Estimator::Rectangle { width } => {
                let width = width as f32;
                pairs.for_each(|(g, &z)| *g = if z.abs() < width { *g } else { 0.0 });
            }
            Estimator::ReferenceSigmoid => pairs.for_each(|(g, _)| *g *= 1.0 - *g),
            Estimator::Squarewave => {
                pairs.for_each(|(g, &z)| *g = self.backward(f64::from(*g), f64::from(z)) as f32);
            }
        }
    }
}

/// Widths from the threshold at which the sigmoid estimator ends.
const SIGMOID_WINDOW: f64 = 8.0;

/// 1 where z mod 2 < 1, the modulus taking the sign of the divisor and rounding as f32 does: a negative z too small
/// to register gives a modulus of 2, and so 0.
pub(crate) fn squarewave(z: f32) -> bool {
    let remainder = libm::fmodf(z, 2.0);
    let modulus = if remainder < 0.0 { remainder + 2.0 } else { remainder };
    modulus < 1.0
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-value))
}

impl Activation {
    /// The codes of one row of pre-activations, in f64.
    pub fn code_row(self, z: &[f64]) -> Vec<f64> {
        let each = |f: &dyn Fn(f64) -> f64| z.iter().map(|&z| f(z)).collect();
        match self {
            Activation::Binary(estimator) => each(&|z| estimator.step(z)),
            Activation::None => z.to_vec(),
            // not `max`, which would hide NaN
            Activation::Relu => each(&|z| if z < 0.0 { 0.0 } else { z }),
            Activation::Sigmoid => each(&logistic),
            Activation::Tanh => each(&libm::tanh),
            Activation::TopK(k) => {
                let least = kth_largest(z, k);
                // the product with the mask, so that a NaN, which fails the comparison, stays NaN
                each(&|z| if z >= least { z } else { 0.0 * z })
            }
            Activation::JumpRelu(threshold) => each(&|z| if z > threshold { z } else { 0.0 }),
            Activation::Values(_) => unreachable!("has an engine of its own"),
        }
    }

    /// Turns the gradients arriving at the codes `h` of one row into those passed to `z`, in f64 and in place.
    pub fn backward_row(self, upstream: &mut [f64], z: &[f64], h: &[f64]) {
        let mut each = |f: &dyn Fn(f64, f64, f64) -> f64| {
            upstream.iter_mut().zip(z.iter().zip(h)).for_each(|(g, (&z, &h))| *g = f(*g, z, h));
        };
        let pass = |open: bool, g: f64| if open { g } else { g * 0.0 };
        match self {
            Activation::Binary(estimator) => each(&|g, z, _| estimator.backward(g, z)),
            Activation::None => {}
            Activation::Relu => each(&|g, z, _| pass(z > 0.0, g)),
            Activation::Sigmoid => each(&|g, _, h| g * h * (1.0 - h)),
            Activation::Tanh => each(&|g, _, h| g * (1.0 - h * h)),
            Activation::TopK(k) => {
                let least = kth_largest(z, k);
                each(&|g, z, _| pass(z >= least, g));
            }
            Activation::JumpRelu(threshold) => each(&|g, z, _| pass(z > threshold, g)),
            Activation::Values(_) => unreachable!("has an engine of its own"),
        }
    }
}

/// The k-th largest value of a row; NaN ranks above everything.
fn kth_largest(z: &[f64], k: usize) -> f64 {
    let mut order = z.to_vec();
    order.sort_by(|a, b| b.is_nan().cmp(&a.is_nan()).then(b.total_cmp(a)));
    if k == 0 { f64::INFINITY } else { order[k.min(order.len()) - 1] }
}

impl OutputActivation {
    /// The output of one decoded value.
    pub fn apply(self, value: f64) -> f64 {
        match self {
            OutputActivation::None => value,
            OutputActivation::Relu if value < 0.0 => 0.0,
            OutputActivation::Relu => value,
            OutputActivation::Sigmoid => logistic(value),
            OutputActivation::Tanh => libm::tanh(value),
        }
    }

    /// Derivative, written by the output y.
    pub fn derivative(self, y: f64) -> f64 {
        match self {
            OutputActivation::None => 1.0,
            OutputActivation::Relu => f64::from(u8::from(y > 0.0)),
            OutputActivation::Sigmoid => y * (1.0 - y),
            OutputActivation::Tanh => 1.0 - y * y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigmoid_is_the_slope_of_the_logistic_function() {
        let estimator = Estimator::Sigmoid { width: 0.5 };
        for z in [-3.0, -0.2, 0.0, 0.7, 4.0, 40.0] {
            let open = f64::from(u8::from(f64::abs(z) < 4.0));
            let slope = open * 4.0 * logistic(z / 0.5) * (1.0 - logistic(z / 0.5));
            assert!((estimator.backward(2.0, z) - 2.0 * slope).abs() < 1e-12);
            let mut row = [2.0f32];
            estimator.backward_slice(Isa::best(), &mut row, &[z as f32]);
            assert!((f64::from(row[0]) - 2.0 * slope).abs() < 1e-5);
        }
    }

    #[test]
    fn rectangle_is_open_inside_its_width_only() {
        let mut row = [3.0f32, 3.0, 3.0];
        Estimator::Rectangle { width: 1.0 }.backward_slice(Isa::best(), &mut row, &[0.9, 1.0, -1.5]);
        assert_eq!(row, [3.0, 0.0, 0.0]);
    }
}

//! The pieces of a step: each shader with its CPU twin, which its test compares it with.
//!
//! A shader's text is put together from files: what all know (`params.wgsl`), what some share, its own, and for products
//! the text that [`Product`] writes.

mod bias;
mod binarize;
mod clipping;
mod column_sums;
mod cross_entropy;
mod decode;
mod encode;
mod entropy;
mod errors;
mod grad_decoder;
mod grad_encoder;
mod grad_z;
mod idle;
mod live_codes;
mod peak;
mod product;
mod signed_counts;
mod signs;
#[cfg(test)]
pub mod testing;
mod totals;
mod turn;
mod values;

use bae_model::{Activation, Adam, Estimator, OutputActivation};
pub use bias::*;
pub use binarize::*;
use bytemuck::{Pod, Zeroable};
pub use clipping::*;
pub use column_sums::*;
pub use cross_entropy::*;
pub use decode::*;
pub use encode::*;
pub use entropy::*;
pub use errors::*;
pub use grad_decoder::*;
pub use grad_encoder::*;
pub use grad_z::*;
pub use idle::*;
pub use live_codes::*;
pub use peak::*;
pub use product::{DEPTH, Form, Kind, Product, Tile};
pub use signed_counts::*;
pub use signs::*;
pub use totals::*;
pub use turn::*;
pub use values::*;

/// How a shader uses a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads it.
    Read,
    /// Writes it, and perhaps reads it too.
    Write,
}

/// A shader: its text and the buffers it takes, in the order of their bindings from 1 on.
pub struct Shader {
    pub name: &'static str,
    pub parts: &'static [&'static str],
    pub access: &'static [Access],
    /// If it is a product: how it reads its factors.
    pub product: Option<Product>,
}

impl Shader {
    /// The whole text.
    pub fn source(&self, form: Option<Form>) -> String {
        let text = [include_str!("params.wgsl"), RESULTS, &self.parts.concat()].concat();
        let (Some(product), Some(form)) = (self.product, form) else { return text };
        let half = if form.half { "enable f16;\n" } else { "" };
        [half, &text, &product.source(form, &text)].concat()
    }
}

pub const ADAM: &str = include_str!("adam.wgsl");
pub const WIDE_SUM: &str = include_str!("wide_sum.wgsl");
pub const TANH: &str = include_str!("tanh.wgsl");

/// Places of a step's scalars, words of 32 bits.
pub mod results {
    /// Σ squared errors, or cross-entropies: f32.
    pub const ERROR: usize = 0;
    /// Rows whose largest output is the label: f32.
    pub const HITS: usize = 1;
    /// Σ |h|: f32.
    pub const SIZES: usize = 2;
    /// Σ_j H(p_j) in units of 2^-40 bits: this word and the next.
    pub const ENTROPY_LOW: usize = 3;
    /// Σ_{i≠j} |D_ij|: this word and the next.
    pub const ABSOLUTE_LOW: usize = 5;
    /// The first entry, row · d_sae + feature, that is not a number, or `NO_NORM` or `NONE`.
    pub const POISON: usize = 7;
    /// Σ g² over all gradients, where they are clipped: f32.
    pub const GRADIENT: usize = 8;
    pub const COUNT: usize = 9;

    /// The number of 64 bits whose low word is at `low`.
    pub fn wide(words: &[u32], low: usize) -> u64 {
        u64::from(words[low + 1]) << 32 | u64::from(words[low])
    }
}

const RESULTS: &str = "
const ERROR = 0u;
const HITS = 1u;
const SIZES = 2u;
const ENTROPY_LOW = 3u;
const ENTROPY_HIGH = 4u;
const ABSOLUTE_LOW = 5u;
const ABSOLUTE_HIGH = 6u;
const GRADIENT = 8u;
";

/// No entry.
pub const NONE: u32 = u32::MAX;
/// In an entry's place: the norm of the gradients is not finite.
pub const NO_NORM: u32 = u32::MAX - 1;

/// What every shader knows of a step: `params.wgsl`, field by field.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Params {
    pub rows: u32,
    pub d_in: u32,
    pub d_sae: u32,
    pub d_out: u32,
    pub first: u32,
    pub features: u32,
    pub last_block: u32,
    pub panels: u32,
    pub row_words: u32,
    pub activation: u32,
    pub width: f32,
    pub window: f32,
    pub output: u32,
    pub error_scale: f32,
    pub threshold_low: u32,
    pub threshold_high: u32,
    pub entropy_scale: f32,
    pub covariance_scale: f32,
    pub l1_weight: f32,
    pub undefined: u32,
    pub update: u32,
    pub keep: u32,
    pub largest: u32,
    pub partials: u32,
    pub beta1: f32,
    pub beta2: f32,
    pub one_minus_beta1: f32,
    pub one_minus_beta2: f32,
    pub step_size: f32,
    pub epsilon: f32,
    pub weight_decay: f32,
    pub plane_words: u32,
    pub lift: f32,
    pub unlift: f32,
    pub count: u32,
    pub clip_norm: f32,
}

impl Params {
    /// For a batch of `rows` and a model of these widths, all of it one block.
    pub fn new(rows: usize, d_in: usize, d_sae: usize, d_out: usize) -> Self {
        let panels = d_sae.div_ceil(32) as u32;
        Self {
            rows: rows as u32,
            d_in: d_in as u32,
            d_sae: d_sae as u32,
            d_out: d_out as u32,
            features: d_sae as u32,
            last_block: 1,
            panels,
            row_words: rows.div_ceil(32) as u32,
            plane_words: panels.next_multiple_of(DEPTH),
            lift: 1.0,
            unlift: 1.0,
            error_scale: (2.0 / (rows * d_out) as f64) as f32,
            ..Self::zeroed()
        }
    }

    /// With factors that half floats can hold: gradients go into products times about rows · d_out / 2, a power of two, and
    /// their sums come out divided by it.
    pub fn half(self) -> Self {
        let lift = (1.0 / self.error_scale).log2().round().exp2();
        Self { lift, unlift: 1.0 / lift, ..self }
    }

    /// With an activation of the code.
    pub fn activation(self, activation: Activation) -> Self {
        let (number, width, largest) = match activation {
            Activation::Binary(Estimator::Identity) => (0, 0.0, 0),
            Activation::Binary(Estimator::Sigmoid { width }) => (1, width, 0),
            Activation::Binary(Estimator::Rectangle { width }) => (2, width, 0),
            Activation::Binary(Estimator::ReferenceSigmoid) => (3, 0.0, 0),
            Activation::Binary(Estimator::Squarewave) => (4, 0.0, 0),
            Activation::None => (5, 0.0, 0),
            Activation::Relu => (6, 0.0, 0),
            Activation::Sigmoid => (7, 0.0, 0),
            Activation::Tanh => (8, 0.0, 0),
            Activation::TopK(k) => (9, 0.0, k),
            Activation::JumpRelu(threshold) => (10, threshold, 0),
            Activation::Values(_) => unreachable!("has an engine of its own, which is on the CPU"),
        };
        let window = match activation {
            Activation::Binary(estimator) => estimator.window().unwrap_or(0.0),
            _ => 0.0,
        };
        let largest = largest.min(u32::MAX as usize) as u32;
        Self { activation: number, width: width as f32, window: window as f32, largest, ..self }
    }

    /// With an activation of the output.
    pub fn output(self, output: OutputActivation) -> Self {
        let output = match output {
            OutputActivation::None => 0,
            OutputActivation::Relu => 1,
            OutputActivation::Sigmoid => 2,
            OutputActivation::Tanh => 3,
        };
        Self { output, ..self }
    }

    /// With the numbers of an optimiser's step, counted from 1.
    pub fn adam(self, adam: &Adam, step: u64) -> Self {
        let numbers = adam.numbers(step);
        Self {
            update: 1,
            beta1: numbers.beta1,
            beta2: numbers.beta2,
            one_minus_beta1: numbers.one_minus_beta1,
            one_minus_beta2: numbers.one_minus_beta2,
            step_size: numbers.step_size,
            epsilon: numbers.epsilon,
            weight_decay: numbers.weight_decay,
            clip_norm: adam.clip_norm as f32,
            ..self
        }
    }
}

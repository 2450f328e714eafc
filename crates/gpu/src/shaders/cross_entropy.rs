//! Softmax cross-entropy and its gradient.

use super::{Access, Shader};

/// Reads y and labels; writes errors, the gradient by the outputs (if kept), and cross-entropies with hits.
pub const CROSS_ENTROPY: Shader = Shader {
    name: "cross_entropy",
    parts: &[include_str!("cross_entropy.wgsl"), include_str!("output_slope.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

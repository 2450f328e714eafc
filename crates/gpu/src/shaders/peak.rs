//! Arithmetic alone: for measuring what a device allows.

use super::{Access, Shader};

/// Multiply-adds.
pub const PEAK_VALUES: Shader = Shader {
    name: "peak_values",
    parts: &[include_str!("peak_values.wgsl")],
    access: &[Access::Write],
    product: None,
};

/// Counts of bits.
pub const PEAK_BITS: Shader = Shader {
    name: "peak_bits",
    parts: &[include_str!("peak_bits.wgsl")],
    access: &[Access::Write],
    product: None,
};

//! Squared errors and their gradient.

use super::{Access, Shader};

/// Reads y and targets; writes errors, the gradient by the outputs (if kept), column sums and sums of squares.
pub const ERRORS: Shader = Shader {
    name: "errors",
    parts: &[include_str!("errors.wgsl"), include_str!("output_slope.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write, Access::Write],
    product: None,
};

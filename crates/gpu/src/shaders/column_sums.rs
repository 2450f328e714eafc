//! Sums of columns.

use super::{Access, Shader};

/// What is as wide as a block.
pub const FEATURES: &str = "fn columns() -> u32 { return params.features; }";
/// What is as wide as the output.
pub const OUTPUTS: &str = "fn columns() -> u32 { return params.d_out; }";

/// Of a matrix as wide as a block.
pub const SUMS_OF_FEATURES: Shader = Shader {
    name: "sums_of_features",
    parts: &[include_str!("column_sums.wgsl"), FEATURES],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Of a matrix as wide as the output.
pub const SUMS_OF_OUTPUTS: Shader = Shader {
    name: "sums_of_outputs",
    parts: &[include_str!("column_sums.wgsl"), OUTPUTS],
    access: &[Access::Read, Access::Write],
    product: None,
};

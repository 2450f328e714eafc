//! Outputs of codes that are bits.

use super::{Access, Kind, Product, Shader, TANH};

/// Reads codes, W_dec and b_dec; writes y.
pub const DECODE: Shader = Shader {
    name: "decode",
    parts: &[include_str!("decode.wgsl"), include_str!("output.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

//! Pre-activations.

use super::{Access, Kind, Product, Shader};

/// Reads x, W_enc and b_enc; writes z.
pub const ENCODE: Shader = Shader {
    name: "encode",
    parts: &[include_str!("encode.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

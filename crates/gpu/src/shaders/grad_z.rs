//! Gradients by the pre-activations.

use super::{Access, Kind, Product, Shader};

/// Reads errors, W_dec, pulls, signed counts and their sums; writes z in place and the gradient by the codes (if kept).
pub const GRAD_Z: Shader = Shader {
    name: "grad_z",
    parts: &[include_str!("grad_z.wgsl")],
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: true }),
};

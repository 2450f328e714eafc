//! The encoder's gradient, and its step.

use super::{ADAM, Access, Kind, Product, Shader};

/// Reads x, grad_z and poison; writes W_enc and its moments.
pub const GRAD_ENCODER: Shader = Shader {
    name: "grad_encoder",
    parts: &[include_str!("grad_encoder.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

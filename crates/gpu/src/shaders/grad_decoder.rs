//! The decoder's gradient, and its step.

use super::{ADAM, Access, Kind, Product, Shader};

/// Reads codes by feature, errors and poison; writes W_dec and its moments.
pub const GRAD_DECODER: Shader = Shader {
    name: "grad_decoder",
    parts: &[include_str!("grad_decoder.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

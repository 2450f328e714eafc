//! Codes that are real values.

use super::{ADAM, Access, Kind, Product, Shader, TANH};

/// Reads z; writes the k-th largest of each row.
pub const LARGEST: Shader = Shader {
    name: "largest",
    parts: &[include_str!("largest.wgsl")],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Reads z and the k-th largest; writes codes, sums of their sizes, and the first entry that is not a number.
pub const ACTIVATE: Shader = Shader {
    name: "activate",
    parts: &[include_str!("activate.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

/// Reads codes, W_dec and b_dec; writes y.
pub const DECODE_VALUES: Shader = Shader {
    name: "decode_values",
    parts: &[include_str!("decode_values.wgsl"), include_str!("output.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

/// Reads errors, W_dec, codes and the k-th largest; writes z in place and the gradient by the codes (if kept).
pub const GRAD_Z_VALUES: Shader = Shader {
    name: "grad_z_values",
    parts: &[include_str!("grad_z_values.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: true }),
};

/// Reads codes, errors and poison; writes W_dec and its moments.
pub const GRAD_DECODER_VALUES: Shader = Shader {
    name: "grad_decoder_values",
    parts: &[include_str!("grad_decoder_values.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

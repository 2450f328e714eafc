//! The step function, packed by rows.

use super::{Access, Shader};

/// Reads z; writes codes and the first entry that is not a number.
pub const BINARIZE: Shader = Shader {
    name: "binarize",
    parts: &[include_str!("binarize.wgsl")],
    access: &[Access::Read, Access::Write, Access::Write],
    product: None,
};

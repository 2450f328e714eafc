//! How the covariances pull at each code.

use super::{Access, Kind, Product, Shader};

/// Reads live codes, their ones, live features, planes and tiles that have zeros; writes signed counts.
pub const SIGNED_COUNTS: Shader = Shader {
    name: "signed_counts",
    parts: &[include_str!("signed_counts.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::WeightedBits, left_along_k: false, right_along_k: true }),
};

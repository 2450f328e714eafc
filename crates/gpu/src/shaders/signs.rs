//! Signs and sizes of all covariances.

use super::{Access, Kind, Product, Shader};

/// Reads codes by feature and ones; writes planes, tiles that have zeros, sums and partial sums of sizes.
pub const SIGNS: Shader = Shader {
    name: "signs",
    parts: &[include_str!("signs.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Bits, left_along_k: true, right_along_k: true }),
};

/// Adds up the partial sums of [`SIGNS`].
pub const ABSOLUTE_TOTAL: Shader = Shader {
    name: "absolute_total",
    parts: &[include_str!("absolute_total.wgsl")],
    access: &[Access::Read, Access::Write],
    product: None,
};

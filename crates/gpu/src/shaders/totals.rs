//! Scalars of a step.

use super::{Access, Shader};

/// Adds up the squared errors.
pub const SQUARES_TOTAL: Shader = Shader {
    name: "squares_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return ERROR; } fn count() -> u32 { return ((params.d_out + 31u) / 32u) * ((params.rows + 63u) / 64u); }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the cross-entropies.
pub const CROSS_ENTROPY_TOTAL: Shader = Shader {
    name: "cross_entropy_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return ERROR; } fn count() -> u32 { return params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the hits.
pub const HITS_TOTAL: Shader = Shader {
    name: "hits_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return params.rows; } fn place() -> u32 { return HITS; } fn count() -> u32 { return params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the sizes of codes.
pub const SIZES_TOTAL: Shader = Shader {
    name: "sizes_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return SIZES; } fn count() -> u32 { return ((params.features + 63u) / 64u) * params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

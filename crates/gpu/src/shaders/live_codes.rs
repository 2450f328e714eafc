//! Codes of the features that are live.

use super::{Access, Shader};

/// Reads codes and live features; writes the codes that remain and adds to the ones of each row.
pub const LIVE_CODES: Shader = Shader {
    name: "live_codes",
    parts: &[include_str!("live_codes.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
    product: None,
};

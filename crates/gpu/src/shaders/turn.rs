//! Codes by feature, and their ones.

use super::{Access, Shader};

/// Reads codes; writes them by feature and adds to the ones of each.
pub const TURN: Shader = Shader {
    name: "turn",
    parts: &[include_str!("turn.wgsl")],
    access: &[Access::Read, Access::Write, Access::Write],
    product: None,
};

//! Entropy of a batch, its gradient, and which features are live.

use super::{Access, Shader};

/// Reads ones and tables; writes pulls, live features and results.
pub const ENTROPY: Shader = Shader {
    name: "entropy",
    parts: &[include_str!("entropy.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

//! Gradients of biases, and their step.

use super::{ADAM, Access, FEATURES, OUTPUTS, Shader};

/// b_enc of a block.
pub const BIAS_OF_FEATURES: Shader = Shader {
    name: "bias_of_features",
    parts: &[include_str!("bias.wgsl"), ADAM, FEATURES],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

/// b_dec.
pub const BIAS_OF_OUTPUTS: Shader = Shader {
    name: "bias_of_outputs",
    parts: &[include_str!("bias.wgsl"), ADAM, OUTPUTS],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

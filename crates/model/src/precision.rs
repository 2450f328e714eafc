use serde::{Deserialize, Serialize};

/// Precision of the products in a training step. Parameters, sums and everything else stay f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit factors.
    #[default]
    F32,
    /// Factors rounded to bfloat16 (to nearest, ties to even): on the CPU.
    Bf16,
    /// Factors rounded to half floats: on a GPU.
    F16,
}

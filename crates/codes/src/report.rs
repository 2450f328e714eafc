use serde::{Deserialize, Serialize};

use crate::Statistics;

/// How much codes say, and how sparse they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sparsity {
    /// Σ_j H(p_j), in bits a row.
    pub entropy_bits: f64,
    /// Mean features on in a row.
    pub l0: f64,
    /// l0 / d_sae.
    pub density: f64,
    /// Share of features never on.
    pub dead_fraction: f64,
    /// Share of features on in every row.
    pub always_on_fraction: f64,
    /// Share of features on in more than half of the rows.
    pub dense_fraction: f64,
}

impl From<&Statistics> for Sparsity {
    fn from(statistics: &Statistics) -> Self {
        Self {
            entropy_bits: statistics.entropy_bits(),
            l0: statistics.l0(),
            density: statistics.density(),
            dead_fraction: statistics.dead_fraction(),
            always_on_fraction: statistics.always_on_fraction(),
            dense_fraction: statistics.dense_fraction(),
        }
    }
}

use serde::{Deserialize, Serialize};

use crate::{
    Batches, BATCH, Clusters, CodeStatistics, GroupedStatistics, Label, Statistics, Subset,
};
use crate::collision::lower_entropy_bits;
use crate::dependence::{strongest, strongest_block};
use crate::interval::{interval, standard_error};
use crate::marginal::{Estimator, entropy};

/// How often intervals hold the truth; of an interval for the joint entropy, each end.
pub const LEVEL: f64 = 0.95;

/// Rates that features are sorted by: those below the first are counted with it.
const EDGES: [f64; 19] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Pairs that are named.
const STRONGEST: usize = 20;

/// Features in a block of dependent ones, at most.
const BLOCK: usize = 24;

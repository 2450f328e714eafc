//! Bit-packed code matrices and what can be counted on them, exactly.
//!
//! A code is the row of 0/1 features that a Binary Autoencoder makes of one hidden state. Everything here is
//! integer counting until the last division; nothing knows how the codes were made.

mod batches;
mod bit_matrix;
mod buckets;
mod burstiness;
mod code_statistics;
mod compress;
pub mod entropy;
mod grouped;
mod pair_counts;
mod sample;
mod statistics;
mod subset;

pub use batches::{BATCH, Batches};
pub use bit_matrix::{BitMatrix, CodesError};
pub use buckets::{BUCKETS, Buckets};
pub use burstiness::{Burstiness, top_features};
pub use code_statistics::{Clusters, CodeStatistics, Counting};
pub use compress::MajorityCompressor;
pub use grouped::{GroupedStatistics, Label, Shards};
pub use pair_counts::{FOLDS, PairCounts};
pub use sample::{Collisions, Entry, SAMPLE_ROWS, Sample};
pub use statistics::Statistics;
pub use subset::Subset;

/// Where the pair of features i < j is kept.
pub const fn pair_index(i: usize, j: usize) -> usize {
    j * (j - 1) / 2 + i
}

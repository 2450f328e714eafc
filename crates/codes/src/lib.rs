//! Bit-packed code matrices and what can be counted on them, exactly.
//!
//! A code is the row of 0/1 features that a Binary Autoencoder makes of one hidden state. Everything here is
//! integer counting until the last division; nothing knows how the codes were made.

mod batches;
mod bit_matrix;
mod buckets;
mod burstiness;
mod code_statistics;
pub mod collision;
mod compress;
mod correspondence;
mod cross_counts;
pub mod dependence;
pub mod entropy;
mod grouped;
pub mod interval;
pub mod joint;
pub mod marginal;
mod matching;
mod pair_counts;
mod quantile;
mod report;
mod sample;
mod statistics;
mod subset;
pub mod tree;
mod value_matrix;

pub use batches::{BATCH, Batches};
pub use bit_matrix::{BitMatrix, CodesError};
pub use buckets::{BUCKETS, Buckets};
pub use burstiness::{Burstiness, top_features};
pub use code_statistics::{Clusters, CodeStatistics, Counting};
pub use compress::MajorityCompressor;
pub use correspondence::{Class, Correspondence, Corresponding, Family, Pair, Side};
pub use cross_counts::CrossCounts;
pub use dependence::pair_index;
pub use grouped::{GroupedStatistics, Label, Shards};
pub use pair_counts::{FOLDS, PairCounts};

pub use matching::{Agreement, agreements, best_matching};
pub use report::{
    DensityHistogram, GroupedReport, Interval, Joint, PairReport, Report, Sparsity, SubsetReport,
};
pub use sample::{Collisions, Entry, SAMPLE_CLUSTERS, Sample};
pub use statistics::Statistics;
pub use subset::Subset;
pub use value_matrix::ValueMatrix;

//! Bit-packed code matrices and what can be counted on them, exactly.
//!
//! A code is the row of 0/1 features that a Binary Autoencoder makes of one hidden state. Everything here is
//! integer counting until the last division; nothing knows how the codes were made.

mod bit_matrix;
mod burstiness;
pub mod collision;
mod compress;
pub mod dependence;
pub mod entropy;
pub mod interval;
pub mod joint;
pub mod marginal;
mod quantile;
mod statistics;
pub mod tree;

pub use bit_matrix::{BitMatrix, CodesError};
pub use burstiness::{Burstiness, top_features};
pub use compress::MajorityCompressor;
pub use statistics::Statistics;

//! Bit-packed code matrices and what can be counted on them, exactly.
//!
//! A code is the row of 0/1 features that a Binary Autoencoder makes of one hidden state. Everything here is
//! integer counting until the last division; nothing knows how the codes were made.

mod bit_matrix;
mod burstiness;
mod compress;
pub mod entropy;
mod matching;
mod statistics;

pub use bit_matrix::{BitMatrix, CodesError};
pub use burstiness::{Burstiness, top_features};
pub use compress::MajorityCompressor;
pub use matching::{Agreement, agreements, best_matching};
pub use statistics::Statistics;

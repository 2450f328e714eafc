//! A lower bound of the joint entropy from how often two rows are alike.

use statrs::distribution::{Beta, ContinuousCDF};

/// With confidence `level` two rows have the same code with a probability of no more than this: the upper limit of Clopper and Pearson
/// (1934), one-sided, given `collisions` among independent `pairs`. 1 without pairs.
pub fn upper_probability(collisions: u64, pairs: u64, level: f64) -> f64 {
    if collisions >= pairs {
        return 1.0;
    }
    let beta = Beta::new(collisions as f64 + 1.0, (pairs - collisions) as f64).expect("both above 0");
    beta.inverse_cdf(level)
}

/// With confidence `level` the joint entropy is no less than this, in bits: H ≥ H₂ = −log₂ Σ_x p(x)² (Rényi 1961), of which the sum is the
/// probability that two rows are alike.
pub fn lower_entropy_bits(collisions: u64, pairs: u64, level: f64) -> f64 {
    (-libm::log2(upper_probability(collisions, pairs, level))).max(0.0)
}

//! How sure a sum of entropies is.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::{BUCKETS, Buckets, Statistics};

/// Standard error of Σ_j H(p_j), in bits, and the degrees of freedom of its interval.
///
/// To first order the sum is off by Σ_j w_j (p̂_j − p_j) with w_j = log₂ ((1 − p_j) / p_j), and that is the mean over rows of how much longer
/// a row's code is than on average: Σ_j −log₂ p_j(h_j). Its spread is taken from the buckets, which are random groups of clusters:
/// L_g = Σ_j w_j (s_gj − n_g p_j) over the rows of bucket g, SE² = G / (G − 1) Σ_g L_g² / n² (Wolter 2007, equation 2.2.3 of the second edition). `None` with less than two buckets.
pub(crate) fn standard_error(buckets: &Buckets, counts: &Statistics) -> Option<(f64, f64)> {
    let n = counts.rows() as f64;
    let weights: Vec<(f64, f64)> = counts
        .ones()
        .iter()
        .map(|&ones| {
            let p = ones as f64 / n;
            let weight = if ones == 0 || ones == counts.rows() { 0.0 } else { libm::log2((1.0 - p) / p) };
            (p, weight)
        })
        .collect();
    let used: Vec<usize> = (0..BUCKETS).filter(|&bucket| buckets.rows()[bucket] > 0).collect();
    if used.len() < 2 {
        return None;
    }
    let square = |&bucket: &usize| {
        let rows = buckets.rows()[bucket] as f64;
        let ones = buckets.ones_of(bucket).iter().zip(&weights);
        ones.map(|(&ones, (p, weight))| weight * (f64::from(ones) - rows * p)).sum::<f64>().powi(2)
    };
    let groups = used.len() as f64;
    let squares: f64 = used.iter().map(square).sum();
    Some((libm::sqrt(groups / (groups - 1.0) * squares) / n, groups - 1.0))
}

/// The number that Student's t stays below with probability `level`.
pub(crate) fn student_t(level: f64, degrees_of_freedom: f64) -> f64 {
    let t = StudentsT::new(0.0, 1.0, degrees_of_freedom).expect("degrees of freedom above 0");
    t.inverse_cdf(level)
}

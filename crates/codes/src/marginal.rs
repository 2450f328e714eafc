//! Entropy of one binary feature from a sample of rows.

use std::f64::consts::LN_2;

use statrs::function::gamma::digamma;

use crate::entropy::marginal;

/// How to estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// As if the sample were all there is.
    PlugIn,
    /// Plug-in, and (observed values − 1) / (2 n ln 2) (Miller 1955).
    MillerMadow,
    /// n H − (n − 1) times the mean of H without each row in turn (Zahl 1977); not clamped, it may be above 1.
    Jackknife,
    /// log₂ n − Σ n_i G(n_i) / (n ln 2) with G(i) = ψ(i) + ½ (−1)^i (ψ((i + 1) / 2) − ψ(i / 2)) (Grassberger 2003, equations 28 and 30; arXiv physics/0307138).
    Grassberger,
}

/// Entropy, in bits, of a feature that is on in `ones` of `rows` rows, a sample of more; 0 for no rows.
pub fn entropy(estimator: Estimator, ones: u64, rows: u64) -> f64 {
    let off = rows - ones;
    let (n, k) = (rows as f64, ones as f64);
    let constant = ones == 0 || off == 0;
    match estimator {
        Estimator::PlugIn => marginal(ones, rows),
        _ if constant => 0.0,
        Estimator::MillerMadow => marginal(ones, rows) + 1.0 / (2.0 * n * LN_2),
        Estimator::Jackknife => {
            let without = k / n * marginal(ones - 1, rows - 1) + (n - k) / n * marginal(ones, rows - 1);
            n * marginal(ones, rows) - (n - 1.0) * without
        }
        Estimator::Grassberger => {
            let sum = k * grassberger(ones) + (n - k) * grassberger(off);
            libm::log2(n) - sum / (n * LN_2)
        }
    }
}

/// G of [`Estimator::Grassberger`]; G(2 i + 1) = G(2 i), and G(2 i) = ψ(i + ½) + ln 2.
fn grassberger(count: u64) -> f64 {
    if count == 1 { digamma(1.0) - LN_2 } else { digamma((count / 2) as f64 + 0.5) + LN_2 }
}

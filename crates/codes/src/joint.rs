//! The entropy of a few features taken together, from how often each pattern occurs.

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use special::Gamma;

/// −Σ f log₂ f over the shares f of the patterns: as if the sample were all there is. Runs low by about (patterns − 1) / (2 n ln 2).
pub fn plug_in(counts: &[u64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let share = |&count: &u64| if count == 0 { 0.0 } else { count as f64 / n as f64 };
    counts.iter().map(share).filter(|&f| f > 0.0).map(|f| -f * libm::log2(f)).sum()
}

/// Plug-in, and (patterns that occur − 1) / (2 n ln 2) (Miller 1955).
pub fn miller_madow(counts: &[u64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let patterns = counts.iter().filter(|&&count| count > 0).count();
    if n == 0 { 0.0 } else { plug_in(counts) + (patterns - 1) as f64 / (2.0 * n as f64 * LN_2) }
}

/// Chao & Shen 2003: −Σ C f log₂ (C f) / (1 − (1 − C f)ⁿ), with C = 1 − f₁ / n the share of the population that the patterns seen make up, f₁ of
/// them seen once. Where all were seen once, f₁ is taken for n − 1.
pub fn chao_shen(counts: &[u64]) -> f64 {
    let n: u64 = counts.iter().sum();
    if n == 0 {
        return 0.0;
    }
    let once = counts.iter().filter(|&&count| count == 1).count() as u64;
    let coverage =
        1.0 - (if once == n && n > 1 { n - 1 } else { once.min(n - u64::from(n == 1)) }) as f64 / n as f64;
    let coverage = if n == 1 { 1.0 } else { coverage };
    let term = |&count: &u64| {
        let f = coverage * count as f64 / n as f64;
        let seen = -libm::expm1(n as f64 * libm::log1p(-f));
        -f * libm::log2(f) / seen
    };
    let bits: f64 = counts.iter().filter(|&&count| count > 0).map(term).sum();
    bits.max(0.0)
}

/// Nemenman, Shafee & Bialek 2002: mean and standard deviation, in bits, of the entropy's posterior distribution, under a mixture of Dirichlet
/// priors over `states` patterns that is nearly flat in the entropy.
///
/// The mixture goes over ξ(β) = ψ(states β + 1) − ψ(β + 1), the entropy expected at concentration β; moments at each β are those of Wolpert & Wolf 1995.
///
/// # Panics
/// If more patterns occur than there are.
pub fn nsb(counts: &[u64], states: u64) -> (f64, f64) {
    let n: u64 = counts.iter().sum();
    let mut multiplicities = BTreeMap::new();
    counts
        .iter()
        .filter(|&&count| count > 0)
        .for_each(|&count| *multiplicities.entry(count).or_insert(0u64) += 1);
    let seen: u64 = multiplicities.values().sum();
    assert!(seen <= states, "{seen} patterns of {states}");
    if states < 2 || n == 0 {
        return (if states < 2 { 0.0 } else { f64::NAN }, 0.0);
    }
    let of: Vec<(f64, f64)> = multiplicities
        .into_iter()
        .map(|(count, times)| (count as f64, times as f64))
        .chain((seen < states).then_some((0.0, (states - seen) as f64)))
        .collect();
    let (n, k) = (n as f64, states as f64);
    // trapezoids over ln β: smooth, and nothing at the ends
    let (low, high, steps) = (-30.0 - libm::log(k), 30.0, 4000);
    let grid: Vec<(f64, f64)> = (0..=steps)
        .map(|step| {
            let log_beta = low + (high - low) * f64::from(step) / f64::from(steps);
            let beta = libm::exp(log_beta);
            let slope = k * (k * beta + 1.0).trigamma() - (beta + 1.0).trigamma();
            let evidence = rising(k * beta, n, -1.0)
                + of.iter().map(|&(count, times)| times * rising(beta, count, 1.0)).sum::<f64>();
            (beta, evidence + libm::log(slope.max(f64::MIN_POSITIVE)) + log_beta)
        })
        .collect();
    let most = grid.iter().map(|point| point.1).fold(f64::NEG_INFINITY, f64::max);
    let (mut weight, mut first, mut second) = (0.0, 0.0, 0.0);
    for &(beta, log_weight) in &grid {
        let share = libm::exp(log_weight - most);
        if share > 1e-18 {
            let (mean, square) = moments(&of, beta, n + k * beta);
            weight += share;
            first += share * mean;
            second += share * square;
        }
    }
    let (mean, square) = (first / weight, second / weight);
    (mean / LN_2, libm::sqrt((square - mean * mean).max(0.0)) / LN_2)
}

/// ± ln (Γ(x + count) / Γ(x)).
fn rising(x: f64, count: f64, sign: f64) -> f64 {
    if count == 0.0 { 0.0 } else { sign * (Gamma::ln_gamma(x + count).0 - Gamma::ln_gamma(x).0) }
}

/// Mean of S and S², in nats, of a Dirichlet distribution whose parameters are count + β, `total` in sum.
fn moments(of: &[(f64, f64)], beta: f64, total: f64) -> (f64, f64) {
    let (mut mean, mut linear, mut squares, mut own) = (0.0, 0.0, 0.0, 0.0);
    let (above, variance) = ((total + 2.0).digamma(), (total + 2.0).trigamma());
    for &(count, times) in of {
        let x = count + beta;
        mean += times * x * (x + 1.0).digamma();
        let shifted = (x + 1.0).digamma() - above;
        linear += times * x * shifted;
        squares += times * x * x * (shifted * shifted - variance);
        let next = (x + 2.0).digamma() - above;
        own += times * x * (x + 1.0) * (next * next + (x + 2.0).trigamma() - variance);
    }
    let mean = (total + 1.0).digamma() - mean / total;
    // Σ_{i≠j} x_i x_j (f_i f_j − v) = (Σ x f)² − v (Σ x)² − Σ x² (f² − v)
    let mixed = linear * linear - variance * total * total - squares;
    (mean, (mixed + own) / (total * (total + 1.0)))
}

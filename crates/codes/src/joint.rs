//! Estimators of the joint entropy of a few features together, from how often each pattern was seen.
//!
//! k features have 2ᵏ patterns, and with fewer rows than that the plug-in value says how many rows there are rather than
//! how much entropy. The others correct it, each by its own assumption: Miller–Madow for many rows a pattern, Chao–Shen
//! for patterns not yet seen, NSB by a prior over all distributions. Where they disagree, rows are too few.
//!
//! `counts` has the rows of each pattern; patterns without rows may be left out. All in bits; 0 without rows (NSB apart).

use std::collections::BTreeMap;
use std::f64::consts::LN_2;

use special::Gamma;

/// −Σ p̂ log2 p̂ over the observed shares: the entropy of these rows.
pub fn plug_in(counts: &[u64]) -> f64 {
    let n: f64 = counts.iter().map(|&count| count as f64).sum();
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|&count| count as f64 / n * libm::log2(n / count as f64))
        .sum()
}

/// Plug-in + (observed patterns − 1) / (2 n ln 2) (Miller 1955).
pub fn miller_madow(counts: &[u64]) -> f64 {
    let n: u64 = counts.iter().sum();
    let seen = counts.iter().filter(|count| **count > 0).count();
    if n == 0 { 0.0 } else { plug_in(counts) + (seen - 1) as f64 / (2.0 * n as f64 * LN_2) }
}

/// −Σ p log2 p / (1 − (1 − p)ⁿ) with p = C p̂ and C = 1 − (patterns seen once) / n, the share of the distribution that the
/// seen patterns cover (Chao and Shen 2003). If each pattern was seen once, C would be 0; it is 1 / n then, as
/// in the R package `entropy`.
pub fn chao_shen(counts: &[u64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let once = counts.iter().filter(|count| **count == 1).count() as u64;
    let n = total as f64;
    let coverage = if once == total { 1.0 } else { (total - once) as f64 } / n;
    let term = |count: u64| {
        let p = coverage * count as f64 / n;
        let seen = -libm::expm1(n * libm::log1p(-p));
        // a subtraction, so that no entropy is −0
        0.0 - p * libm::log2(p) / seen
    };
    counts.iter().filter(|count| **count > 0).map(|&count| term(count)).sum()
}

/// Posterior mean and standard deviation of the entropy, in bits, for `states` possible patterns (2ᵏ), under the prior of
/// Nemenman, Shafee and Bialek (2002): a mixture of symmetric Dirichlet distributions whose expected entropy is spread
/// evenly from 0 to log2 `states`. Without rows, that prior's own.
///
/// The mixture over the concentration β is integrated over ln β with as many points as it takes, at a cost of each
/// *different* count a point; all parts are differences that keep their digits from β → 0 to β → ∞, for 10⁹ rows and 2²⁰
/// patterns.
pub fn nsb(counts: &[u64], states: u64) -> (f64, f64) {
    let posterior = Posterior::new(counts, states);
    if posterior.states <= 1.0 {
        return (0.0, 0.0);
    }
    let (mean, variance) = posterior.moments();
    (mean / LN_2, libm::sqrt(variance) / LN_2)
}

/// Counts as the posterior needs them: how many patterns have each count, those without rows included.
struct Posterior {
    patterns: Vec<(f64, f64)>, // (count, patterns with it)
    rows: f64,
    states: f64,
}

impl Posterior {
    fn new(counts: &[u64], states: u64) -> Self {
        let mut patterns = BTreeMap::new();
        counts
            .iter()
            .filter(|count| **count > 0)
            .for_each(|&count| *patterns.entry(count).or_insert(0u64) += 1);
        let seen: u64 = patterns.values().sum();
        let states = states.max(seen);
        if states > seen {
            patterns.insert(0, states - seen);
        }
        Self {
            rows: counts.iter().map(|&count| count as f64).sum(),
            states: states as f64,
            patterns: patterns.into_iter().map(|(count, patterns)| (count as f64, patterns as f64)).collect(),
        }
    }

    /// Mean and variance of the entropy in nats.
    fn moments(&self) -> (f64, f64) {
        let (peak, most) = self.peak();
        // beyond these the integrand is less than 10⁻¹⁷ of its peak, and falls exponentially
        let edge = |direction: f64| {
            let mut step = 1e-4;
            while self.ln_weight(peak + direction * step) > most - 40.0 {
                step *= 1.25;
            }
            peak + direction * step
        };
        let (low, high) = (edge(-1.0), edge(1.0));
        // the trapezoid rule, twice as fine each time: errors fall exponentially with the points for a smooth peak
        let mut sums = Sums::default();
        let at = |share: f64| low + share * (high - low);
        let mut points = 64;
        (0..=points).for_each(|i| self.add(&mut sums, at(i as f64 / points as f64), most));
        loop {
            let before = sums.moments();
            (0..points).for_each(|i| self.add(&mut sums, at((i as f64 + 0.5) / points as f64), most));
            points *= 2;
            let now = sums.moments();
            // what is left is about the square of the last change
            let still = (now.0 - before.0).abs() <= 1e-6 * libm::sqrt(now.1);
            if still && (now.1 - before.1).abs() <= 1e-6 * now.1 || points >= 1 << 12 {
                return now;
            }
        }
    }

    fn add(&self, sums: &mut Sums, ln_beta: f64, most: f64) {
        let weight = libm::exp(self.ln_weight(ln_beta) - most);
        let (mean, variance) = self.given(libm::exp(ln_beta));
        sums.add(weight, mean, variance);
    }

    /// Where the integrand over ln β is largest, and its logarithm there.
    fn peak(&self) -> (f64, f64) {
        // to the left of 1/states it falls as β or faster, and to the right of rows² as 1/β
        let left = -libm::log(self.states) - 45.0;
        let right = 2.0 * libm::log(self.rows + 2.0) + 45.0;
        let steps = (right - left) as usize;
        let value = |x: f64| self.ln_weight(x);
        let best = (0..=steps)
            .map(|i| left + i as f64)
            .max_by(|&a, &b| value(a).total_cmp(&value(b)))
            .expect("two points at least");
        // golden section, until the integrand is flat to rounding
        const SECTION: f64 = 0.618_033_988_749_894_9;
        let (mut low, mut high) = (best - 1.0, best + 1.0);
        while high - low > 1e-6 {
            let (a, b) = (high - SECTION * (high - low), low + SECTION * (high - low));
            if value(a) > value(b) { high = b } else { low = a }
        }
        let peak = 0.5 * (low + high);
        (peak, value(peak))
    }

    /// Logarithm of the integrand over ln β: the evidence Γ(κ) / Γ(n + κ) Π Γ(nᵢ + β) / Γ(β), κ = states · β, times
    /// dξ / d ln β, with the prior's mean entropy ξ(β) = ψ(κ + 1) − ψ(β + 1).
    fn ln_weight(&self, ln_beta: f64) -> f64 {
        let beta = libm::exp(ln_beta);
        let kappa = self.states * beta;
        let seen: f64 =
            self.patterns.iter().map(|&(count, patterns)| patterns * ln_rising(beta, count)).sum();
        let slope = if beta < SERIES {
            self.states * (kappa + 1.0).trigamma() - (beta + 1.0).trigamma()
        } else {
            // ψ′(y + 1) = 1/y − 1/(2 y²) + 1/(6 y³) − …; the first terms cancel
            let rest = |y: f64| {
                let z = 1.0 / (y * y);
                z * (-0.5 + (1.0 / 6.0) / y - z * ((1.0 / 30.0) - z / 42.0) / y)
            };
            self.states * rest(kappa) - rest(beta)
        };
        seen - ln_rising(kappa, self.rows) + ln_beta + libm::log(slope)
    }

    /// Mean and variance in nats of the entropy of a Dirichlet distribution with parameters αᵢ = nᵢ + β, which sum to A.
    ///
    /// The mean is Σ wᵢ (ψ(A + 1) − ψ(αᵢ + 1)) with wᵢ = αᵢ / A (Wolpert and Wolf 1995). Their second moment less its
    /// square is, after all terms that cancel, (Var_w(ψ(αᵢ + 1)) + Σ wᵢ t(αᵢ + 1) − t(A + 1)) / (A + 1), t(z) = z ψ′(z).
    fn given(&self, beta: f64) -> (f64, f64) {
        let all = self.rows + self.states * beta;
        let top = (all + 1.0).digamma();
        let parts = || {
            self.patterns.iter().map(|&(count, patterns)| {
                let alpha = count + beta;
                (patterns * alpha / all, top - (alpha + 1.0).digamma(), alpha + 1.0)
            })
        };
        let (mut mean, mut curve) = (0.0, 0.0);
        for (weight, depth, z) in parts() {
            mean += weight * depth;
            curve += weight * curvature(z);
        }
        let spread: f64 = parts().map(|(weight, depth, _)| weight * (depth - mean) * (depth - mean)).sum();
        (mean, ((spread + curve - curvature(all + 1.0)) / (all + 1.0)).max(0.0))
    }
}

/// From here on the series of Stirling's type are exact to rounding.
const SERIES: f64 = 30.0;

/// ln Γ(x + n) − ln Γ(x).
fn ln_rising(x: f64, n: f64) -> f64 {
    if n == 0.0 {
        return 0.0;
    }
    if x < SERIES {
        return libm::lgamma(x + n) - libm::lgamma(x);
    }
    let rest = |x: f64| {
        let z = 1.0 / (x * x);
        (1.0 / 12.0 - z * (1.0 / 360.0 - z / 1260.0)) / x
    };
    n * libm::log(x + n) + ((x - 0.5) * libm::log1p(n / x) - n) + (rest(x + n) - rest(x))
}

/// z ψ′(z) − 1.
fn curvature(z: f64) -> f64 {
    if z < SERIES {
        return z * z.trigamma() - 1.0;
    }
    let y = 1.0 / z;
    y * (0.5 + y * (1.0 / 6.0 - y * y * (1.0 / 30.0 - y * y / 42.0)))
}

/// Weighted mean and variance of the entropy over β, added up point by point.
#[derive(Default)]
struct Sums {
    weight: f64,
    mean: f64,
    within: f64,
    between: f64,
}

impl Sums {
    /// One more point (West 1979: nothing large is subtracted).
    fn add(&mut self, weight: f64, mean: f64, variance: f64) {
        self.weight += weight;
        if weight > 0.0 {
            let apart = mean - self.mean;
            self.mean += weight / self.weight * apart;
            self.between += weight * apart * (mean - self.mean);
            self.within += weight * variance;
        }
    }

    fn moments(&self) -> (f64, f64) {
        (self.mean, (self.between + self.within) / self.weight)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Counts of `rows` draws from a distribution given as cumulative shares.
    fn sample(cumulative: &[f64], rows: usize, seed: u64) -> Vec<u64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut counts = vec![0; cumulative.len()];
        for _ in 0..rows {
            let x: f64 = random.random();
            counts[cumulative.partition_point(|&share| share <= x).min(cumulative.len() - 1)] += 1;
        }
        counts
    }

    /// A distribution with shares that fall as 1 / rank: its cumulative shares and its entropy in bits.
    fn zipf(states: usize) -> (Vec<f64>, f64) {
        let total: f64 = (1..=states).map(|rank| 1.0 / rank as f64).sum();
        let shares = || (1..=states).map(|rank| 1.0 / rank as f64 / total);
        let cumulative = shares().scan(0.0, |sum, share| {
            *sum += share;
            Some(*sum)
        });
        (cumulative.collect(), shares().map(|p| -p * p.log2()).sum())
    }

    #[test]
    fn by_hand() {
        assert_eq!(
            (plug_in(&[]), miller_madow(&[0]), chao_shen(&[]), chao_shen(&[0, 0])),
            (0.0, 0.0, 0.0, 0.0)
        );
        for estimator in [plug_in, miller_madow, chao_shen] {
            assert_eq!(estimator(&[7, 0]).to_bits(), 0.0f64.to_bits());
            assert_eq!(estimator(&[1]).to_bits(), 0.0f64.to_bits());
        }
        assert_eq!(plug_in(&[5, 0, 5, 5, 5]), 2.0);
        assert!((miller_madow(&[5, 0, 5, 5, 5]) - (2.0 + 3.0 / (40.0 * LN_2))).abs() < 1e-15);
        // two rows, two patterns: C = 1/2, p = 1/4 twice, each seen with probability 7/16
        assert!((chao_shen(&[1, 1]) - 2.0 * 0.25 * 2.0 / (7.0 / 16.0)).abs() < 1e-15);
    }

    #[test]
    fn chao_shen_as_r_has_it() {
        // −Σ p log2(p) / (1 − (1 − p)^n), p = (1 − f1/n) c/n, f1 = n − 1 if all are single; in Python's mpmath, 40 digits
        for (counts, bits) in CHAO_SHEN {
            let got = chao_shen(counts);
            assert!((got - bits).abs() < 1e-12 * bits + 1e-15, "{counts:?}: {got}");
        }
    }

    /// Posterior moments by 60-digit integration over ln β of the evidence times dξ/d ln β (trapezoid rule, 3,000 points
    /// over e⁷⁰ of the peak), with the mean and the second moment of Wolpert and Wolf (1995) as printed; mpmath 1.4.
    #[test]
    fn nsb_as_high_precision_has_it() {
        for (counts, states, mean, deviation) in NSB {
            let got = nsb(counts, states);
            assert!((got.0 - mean).abs() < 1e-8 * mean + 1e-14, "{counts:?} of {states}: {got:?} {mean}");
            assert!((got.1 / deviation - 1.0).abs() < 1e-5, "{counts:?} of {states}: {got:?} {deviation}");
        }
    }

    #[rustfmt::skip]
    const CHAO_SHEN: [(&[u64], f64); 7] = [
        (&[1, 1, 1], 3.549731683643),
        (&[4, 2, 3, 2, 4, 2], 2.688259705206),
        (&[4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2], 3.984239026053),
        (&[3, 2, 1, 1, 1, 1], 3.344976118601),
        (&[1000, 1], 0.01862148066271),
        (&[700000000, 200000000, 90000000, 10000000], 1.203679208806),
        (&[1000000000, 1], 5.018230581036e-08),
    ];

    #[rustfmt::skip]
    const NSB: [(&[u64], u64, f64, f64); 14] = [
        (&[], 4, 1.0, 0.6833356119807),
        (&[], 1048576, 10.0, 5.778864610939),
        (&[1, 1, 1], 8, 2.369822162834, 0.4874819793255),
        (&[4, 2, 3, 2, 4, 2], 9, 2.799761411328, 0.2250953758851),
        (&[4, 12, 4, 5, 3, 1, 5, 1, 2, 2, 2, 2, 11, 3, 4, 12, 12, 1, 2], 100, 4.048342105045, 0.1723687443895),
        (&[10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10], 16, 3.991168155793, 0.008770827747681),
        (&[1000], 1024, 0.001475123486554, 0.00406405781396),
        (&[3, 2, 1, 1, 1, 1], 1048576, 3.943503990385, 0.950187175262),
        (&[1; 50], 1048576, 15.74017967212, 2.620033191713),
        (&[1], 2, 0.5, 0.40309712846),
        (&[700000000, 200000000, 90000000, 10000000], 16, 1.203679212113, 3.663771926368e-05),
        (&[1000000000], 1048576, 1.430787528137e-09, 6.64277492471e-09),
        (&[200000000, 200000000, 200000000, 200000000, 1], 8, 2.000000040555, 3.755400297573e-08),
        (&[1000000; 16], 16, 3.999999909832, 9.016841439195e-08),
    ];

    #[test]
    fn prior_alone_is_even_from_none_to_all() {
        for bits in [1, 4, 20] {
            let (mean, deviation) = nsb(&[], 1 << bits);
            assert!((mean - 0.5 * f64::from(bits)).abs() < 1e-9, "{bits}: {mean}");
            // an even spread has deviation range / √12, and what a Dirichlet distribution varies by comes on top
            let even = f64::from(bits) / 12.0f64.sqrt();
            assert!(deviation >= even && deviation < even + 0.2, "{bits}: {deviation}");
        }
        assert_eq!((nsb(&[], 1), nsb(&[9], 1), nsb(&[0], 0)), ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0)));
    }

    /// The largest tables there are: a billion rows, twenty features, all counts different.
    #[test]
    fn large_tables_are_finite_and_right() {
        let counts: Vec<u64> = (0..2000u64).map(|i| 1_000_000_000 / ((i + 1) * (i + 2)) + i).collect();
        let (plain, (mean, deviation)) = (plug_in(&counts), nsb(&counts, 1 << 20));
        assert!(
            (mean - plain).abs() < 1e-4 && deviation > 0.0 && deviation < 1e-3,
            "{plain} {mean} {deviation}"
        );
        let even = vec![1000; 1 << 20];
        let (mean, deviation) = nsb(&even, 1 << 20);
        assert!((mean - 20.0).abs() < 1e-3 && deviation < 1e-3, "{mean} {deviation}");
        let single = vec![1; 1 << 19];
        let (mean, deviation) = nsb(&single, 1 << 20);
        assert!(mean > 18.9 && mean < 20.0 && deviation < 0.5, "{mean} {deviation}");
    }

    /// Which correction helps where rows are few, and that all come to the truth where they are many.
    #[test]
    fn convergence() {
        let (cumulative, truth) = zipf(1024);
        let mean = |rows, of: &dyn Fn(&[u64]) -> f64| {
            (0..10).map(|seed| of(&sample(&cumulative, rows, seed))).sum::<f64>() / 10.0 - truth
        };
        let nsb = |counts: &[u64]| nsb(counts, 1024).0;
        // 100 rows for 1,024 patterns
        let [plain, miller, chao, bayes] =
            [&plug_in as &dyn Fn(&[u64]) -> f64, &miller_madow, &chao_shen, &nsb].map(|of| mean(100, of));
        assert!(
            plain < -1.8 && plain < miller && miller < chao && chao < bayes,
            "{plain} {miller} {chao} {bayes}"
        );
        assert!(bayes.abs() < 0.8, "{bayes}");
        for (rows, within) in [(20_000, 0.05), (200_000, 0.01)] {
            for of in [&miller_madow as &dyn Fn(&[u64]) -> f64, &chao_shen, &nsb] {
                assert!(mean(rows, of).abs() < within, "{rows}: {}", mean(rows, of));
            }
        }
    }

    proptest! {
        #[test]
        fn zeros_and_order_do_not_matter(mut counts in prop::collection::vec(0u64..6, 1..30)) {
            let all = |counts: &[u64]| [plug_in(counts), miller_madow(counts), chao_shen(counts), nsb(counts, 64).0];
            let before = all(&counts);
            counts.reverse();
            counts.extend([0, 0]);
            for (a, b) in before.into_iter().zip(all(&counts)) {
                prop_assert!((a - b).abs() < 1e-12 && a.is_finite() && a >= 0.0);
            }
        }

        /// NSB lies between none and all, with an error; more states never mean less.
        #[test]
        fn nsb_is_in_range(counts in prop::collection::vec(0u64..1000, 0..20), bits in 5u32..20) {
            let (mean, deviation) = nsb(&counts, 1 << bits);
            prop_assert!(mean > 0.0 && mean < f64::from(bits) && deviation > 0.0 && deviation.is_finite());
        }
    }
}

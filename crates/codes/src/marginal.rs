//! Estimators of the entropy of one binary feature, from how often it was on.
//!
//! The plug-in value of n rows runs low by about 1 / (2 n ln 2) bits a feature: little for one, much for the sum over
//! thousands. The others correct for that. For p away from 0 and 1 what is left of the bias falls as 1/n² (Miller–Madow
//! and the jackknife, with opposite signs) or exponentially (Grassberger); features on in fewer than about one row
//! run low under all of them. The tests hold the exact biases.

use std::f64::consts::LN_2;

use special::Gamma;

use crate::entropy;

/// A way to estimate the entropy of a binary feature, in bits. A feature never seen to change has 0 under all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Estimator {
    /// The entropy of the observed shares, −Σ p̂ log2 p̂: never too high on average.
    PlugIn,
    /// Plug-in + (observed states − 1) / (2 n ln 2) (Miller 1955).
    MillerMadow,
    /// n H − (n − 1) × the mean plug-in entropy with one row left out (Zahl 1977). Not clamped: may exceed 1 bit.
    Jackknife,
    /// ψ(n) − Σ p̂ᵢ G(nᵢ) with G(k) = ψ(k) + (−1)ᵏ/2 · (ψ((k + 1)/2) − ψ(k/2)) (Grassberger 2003). May exceed 1 bit.
    ///
    /// The paper has ln n in place of ψ(n), because it lets the number of states grow with n; with two states and n
    /// given that would leave a bias of +1 / (2 n ln 2). With ψ(n) it is Schürmann's (2004) estimator with ξ = ½,
    /// whose bias is known exactly: −Σ pᵢ ∫₀^(1 − 2 pᵢ) tⁿ⁻¹ / (1 − t) dt. We depart from both where one state alone
    /// was seen: there they give ∓1 / (2 n ln 2) for an even or odd n, which thousands of dead features would add up.
    Grassberger,
}

/// Entropy in bits of a feature that was on in `ones` of `rows` rows. 0 for a constant feature and for no rows.
pub fn entropy(estimator: Estimator, ones: u64, rows: u64) -> f64 {
    if ones == 0 || ones >= rows {
        return 0.0;
    }
    let (n, on, off) = (rows as f64, ones as f64, (rows - ones) as f64);
    let mean = |of: fn(f64) -> f64| (on * of(on) + off * of(off)) / n;
    let plug_in = entropy::marginal(ones, rows);
    match estimator {
        Estimator::PlugIn => plug_in,
        Estimator::MillerMadow => plug_in + 1.0 / (2.0 * n * LN_2),
        Estimator::Jackknife => plug_in + one_left_out(n) - mean(one_left_out),
        Estimator::Grassberger => (n.digamma() - mean(grassberger)) / LN_2,
    }
}

/// −(x − 1) log2(1 − 1/x): what leaving one of `x` rows out does to their x log2 x, less log2 x. The jackknife is the
/// plug-in value plus this of all rows less its mean over the states, which keeps its digits for any number of rows.
fn one_left_out(x: f64) -> f64 {
    if x > 1.0 { -(x - 1.0) * libm::log1p(-1.0 / x) / LN_2 } else { 0.0 }
}

/// G(k) of Grassberger (2003) for whole k ≥ 1: G(2 i) = G(2 i + 1) = ψ(i + ½) + ln 2.
fn grassberger(k: f64) -> f64 {
    (libm::floor(k / 2.0) + 0.5).digamma() + LN_2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Estimator; 4] =
        [Estimator::PlugIn, Estimator::MillerMadow, Estimator::Jackknife, Estimator::Grassberger];

    /// Probability of `ones` in `rows` rows of a feature with rate `p`.
    fn binomial(ones: u64, rows: u64, p: f64) -> f64 {
        let choose = (1..=ones).map(|i| ((rows - ones + i) as f64 / i as f64).ln()).sum::<f64>();
        (choose + ones as f64 * p.ln() + (rows - ones) as f64 * (1.0 - p).ln()).exp()
    }

    /// Exact expectation over all numbers of ones that `rows` rows can have.
    fn expected(estimator: Estimator, p: f64, rows: u64) -> f64 {
        (0..=rows).map(|ones| binomial(ones, rows, p) * entropy(estimator, ones, rows)).sum()
    }

    fn truth(p: f64) -> f64 {
        -p * p.log2() - (1.0 - p) * (1.0 - p).log2()
    }

    fn bias(estimator: Estimator, p: f64, rows: u64) -> f64 {
        expected(estimator, p, rows) - truth(p)
    }

    #[test]
    fn by_hand() {
        let close = |estimator, ones, rows, bits: f64| {
            let got = entropy(estimator, ones, rows);
            assert!((got - bits).abs() < 1e-14, "{estimator:?} {ones}/{rows}: {got}");
        };
        // one of two: H = 1, with one row left out 0
        close(Estimator::PlugIn, 1, 2, 1.0);
        close(Estimator::MillerMadow, 1, 2, 1.0 + 0.25 / LN_2);
        close(Estimator::Jackknife, 1, 2, 2.0);
        // ψ(2) − G(1) = (1 − γ) − (−γ − ln 2)
        close(Estimator::Grassberger, 1, 2, (1.0 + LN_2) / LN_2);
        // one of three: 3 H(1/3) − 2/3 · (0 + 2 · 1)
        close(Estimator::Jackknife, 1, 3, 3.0 * truth(1.0 / 3.0) - 4.0 / 3.0);
        // ψ(3) − (G(1) + 2 G(2))/3 = (3/2 − γ) − (−γ − ln 2)/3 − 2 (2 − γ − ln 2)/3
        close(Estimator::Grassberger, 1, 3, (1.0 / 6.0 + LN_2) / LN_2);
        // two of four: 4 · 1 − 3 · H(1/3)
        close(Estimator::Jackknife, 2, 4, 4.0 - 3.0 * truth(1.0 / 3.0));
        // ψ(4) − G(2) = (11/6 − γ) − (2 − γ − ln 2)
        close(Estimator::Grassberger, 2, 4, (LN_2 - 1.0 / 6.0) / LN_2);
    }

    #[test]
    fn constant_features_and_no_rows_have_none() {
        for estimator in ALL {
            for rows in [0, 1, 2, 63, 64, 1 << 40] {
                assert_eq!((entropy(estimator, 0, rows), entropy(estimator, rows, rows)), (0.0, 0.0));
            }
        }
    }

    /// The digamma formula of the paper, with ψ of whole and half numbers from their sums.
    #[test]
    fn grassberger_is_the_formula_of_the_paper() {
        const GAMMA: f64 = 0.577_215_664_901_532_9;
        let whole = |k: u64| (1..k).map(|i| 1.0 / i as f64).sum::<f64>() - GAMMA;
        let half = |k: u64| (1..=k).map(|i| 2.0 / (2 * i - 1) as f64).sum::<f64>() - GAMMA - 2.0 * LN_2; // ψ(k + ½)
        let psi_of_half = |k: u64| if k.is_multiple_of(2) { whole(k / 2) } else { half(k / 2) }; // ψ(k/2)
        for k in 1..200u64 {
            let sign = if k.is_multiple_of(2) { 0.5 } else { -0.5 };
            let paper = whole(k) + sign * (psi_of_half(k + 1) - psi_of_half(k));
            assert!((grassberger(k as f64) - paper).abs() < 1e-13, "{k}");
        }
    }

    /// Jensen: the plug-in entropy is never too high on average, nor too low by more than log2(1 + 1/n) (Paninski 2003).
    #[test]
    fn plug_in_is_low_on_average() {
        for rows in 1..=64 {
            for p in [0.001, 0.01, 0.1, 0.3, 0.5, 0.9] {
                let bias = bias(Estimator::PlugIn, p, rows);
                assert!(bias < 0.0 && bias >= -(1.0 + 1.0 / rows as f64).log2(), "{rows} {p}: {bias}");
            }
        }
        // one row is always one state: the whole entropy is missed
        assert_eq!(expected(Estimator::PlugIn, 0.3, 1), 0.0);
        // two rows differ with probability 2 p q, and give 1 bit then
        assert!((expected(Estimator::PlugIn, 0.3, 2) - 0.42).abs() < 1e-15);
        assert!((expected(Estimator::Jackknife, 0.3, 2) - 0.84).abs() < 1e-15);
    }

    /// Harris (1975): E Ĥ = H − 1 / (2 n) − (1/p + 1/q − 1) / (12 n²) + O(n⁻³), in nats. Miller–Madow takes the first
    /// term away; the jackknife, n f(n) − (n − 1) f(n − 1), turns the second one round.
    #[test]
    fn first_order_goes_and_second_order_is_the_known_one() {
        for p in [0.2, 0.3, 0.5] {
            let second = (1.0 / p + 1.0 / (1.0 - p) - 1.0) / (12.0 * LN_2);
            for rows in [32, 48, 64u64] {
                let n = rows as f64;
                let scaled = |estimator, power: i32| bias(estimator, p, rows) * n.powi(power);
                let near = |got: f64, want: f64| (got / want - 1.0).abs() < 16.0 / (n * p);
                assert!(near(scaled(Estimator::PlugIn, 1), -0.5 / LN_2), "plug-in {p} {rows}");
                assert!(near(scaled(Estimator::MillerMadow, 2), -second), "Miller–Madow {p} {rows}");
                assert!(near(scaled(Estimator::Jackknife, 2), second), "jackknife {p} {rows}");
            }
            let by_order = |estimator, order: f64| {
                let ratio = bias(estimator, p, 32) / bias(estimator, p, 64);
                assert!((ratio.log2() - order).abs() < 0.25, "{estimator:?} {p}: n^-{}", ratio.log2());
            };
            if p > 0.2 {
                by_order(Estimator::PlugIn, 1.0);
                by_order(Estimator::MillerMadow, 2.0);
                by_order(Estimator::Jackknife, 2.0);
            }
        }
    }

    /// Schürmann's (2004) bias with ξ = ½, less what the two constant outcomes would have given.
    #[test]
    fn bias_of_grassberger_is_the_integral() {
        let integral = |upper: f64, n: u64| {
            // ∫₀^u tⁿ⁻¹ / (1 − t) dt by Simpson's rule
            let f = |t: f64| t.powi(n as i32 - 1) / (1.0 - t);
            let (steps, h) = (4000, upper / 4000.0);
            let inner: f64 = (1..steps).map(|i| f(i as f64 * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum();
            (f(0.0) + f(upper) + inner) * h / 3.0
        };
        for rows in 1..=64u64 {
            for p in [0.02f64, 0.1, 0.3, 0.5, 0.8] {
                let q = 1.0 - p;
                let n = rows as f64;
                let constant = (n.digamma() - grassberger(n)) * (p.powi(rows as i32) + q.powi(rows as i32));
                let exact = -p * integral(1.0 - 2.0 * p, rows) - q * integral(1.0 - 2.0 * q, rows) - constant;
                let got = bias(Estimator::Grassberger, p, rows);
                assert!((got - exact / LN_2).abs() < 1e-9, "{rows} {p}: {got} {}", exact / LN_2);
            }
        }
        // exponentially small: with p = .3 and 64 rows 2e-11 bits, where the plug-in misses .011
        assert!(bias(Estimator::Grassberger, 0.3, 64).abs() < 1e-10);
    }

    /// Share of the entropy that is missed or made up by a feature on in `lambda` of 2,000 rows on average.
    #[test]
    fn rare_features() {
        let share = |estimator, lambda: f64| {
            let p = lambda / 2000.0;
            let (mut expected, mut probability) = (0.0, (1.0 - p).powi(2000));
            for ones in 0..200u64 {
                expected += probability * entropy(estimator, ones, 2000);
                probability *= (2000 - ones) as f64 / (ones + 1) as f64 * p / (1.0 - p);
            }
            expected / truth(p) - 1.0
        };
        for (lambda, within) in [(1.0, 0.01), (3.0, 0.004), (10.0, 0.001)] {
            assert!(share(Estimator::Jackknife, lambda).abs() < within, "jackknife {lambda}");
            assert!(share(Estimator::Grassberger, lambda).abs() < within, "Grassberger {lambda}");
        }
        // below one expected row the jackknife runs low first
        assert!((share(Estimator::Jackknife, 0.25) - -0.071).abs() < 0.002);
        assert!((share(Estimator::Grassberger, 0.25) - -0.022).abs() < 0.002);
        assert!((share(Estimator::PlugIn, 0.25) - -0.155).abs() < 0.002);
    }

    proptest! {
        #[test]
        fn a_feature_and_its_complement_are_alike(rows in 1u64..1_000_000_000_000, share in 0.0f64..=1.0) {
            let ones = (rows as f64 * share) as u64;
            for estimator in ALL {
                let (a, b) = (entropy(estimator, ones, rows), entropy(estimator, rows - ones, rows));
                prop_assert!((a - b).abs() < 1e-12 && a.is_finite() && a >= 0.0);
            }
        }

        /// The definition, with every row left out in turn.
        #[test]
        fn jackknife_is_its_definition(rows in 2u64..500, share in 0.0f64..=1.0) {
            let ones = (rows as f64 * share) as u64;
            let (n, on, off) = (rows as f64, ones as f64, (rows - ones) as f64);
            let without = |ones| entropy::marginal(ones, rows - 1);
            let mut left = 0.0;
            if ones > 0 { left += on * without(ones - 1) }
            if ones < rows { left += off * without(ones) }
            let definition = n * entropy::marginal(ones, rows) - (n - 1.0) / n * left;
            prop_assert!((entropy(Estimator::Jackknife, ones, rows) - definition).abs() < 1e-11);
        }

        /// With many rows all agree, and keep their digits.
        #[test]
        fn many_rows(rows in 1_000_000_000u64..1_000_000_000_000, share in 0.01f64..0.99) {
            let ones = (rows as f64 * share) as u64;
            for estimator in ALL {
                let got = entropy(estimator, ones, rows) - entropy(Estimator::MillerMadow, ones, rows);
                prop_assert!(got.abs() < 2.0 / rows as f64 + 1e-14, "{estimator:?} {got}");
            }
        }
    }
}

//! Entropy of binary features, in bits.

/// The 1e-10 that the published objective puts inside each logarithm (section 4 of the design; the training loss
/// uses it, the statistics do not).
pub const EPSILON: f64 = 1e-10;

/// Entropy of one feature that is on in `ones` of `rows` rows, in bits: −p log2 p − (1 − p) log2 (1 − p).
///
/// Exactly 0 for a constant feature and for no rows.
pub fn marginal(ones: u64, rows: u64) -> f64 {
    if ones == 0 || ones >= rows {
        return 0.0;
    }
    let p = ones as f64 / rows as f64;
    -p * libm::log2(p) - (1.0 - p) * libm::log2(1.0 - p)
}

/// Entropy of one feature as the training loss has it: [`EPSILON`] inside each logarithm, rounded to f32.
///
/// The rounding decides two edges as f32 arithmetic does: p = ½ gives exactly 1 bit, and a constant feature exactly 0.
pub fn smoothed(p: f64) -> f64 {
    if p == 0.0 || p == 1.0 {
        return 0.0;
    }
    f64::from((-p * libm::log2(p + EPSILON) - (1.0 - p) * libm::log2(1.0 - p + EPSILON)) as f32)
}

/// Derivative of [`smoothed`] by p; ±34.66 at p = 0 and 1, where the 1e-10 alone bounds it.
pub fn smoothed_derivative(p: f64) -> f64 {
    use std::f64::consts::LN_2;
    let q = 1.0 - p;
    -libm::log2(p + EPSILON) - p / ((p + EPSILON) * LN_2)
        + libm::log2(q + EPSILON)
        + q / ((q + EPSILON) * LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        assert_eq!(marginal(0, 0), 0.0);
        assert_eq!(marginal(0, 9), 0.0);
        assert_eq!(marginal(9, 9), 0.0);
        assert_eq!(marginal(5, 10), 1.0);
        assert_eq!((smoothed(0.0), smoothed(0.5), smoothed(1.0)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn derivative_is_the_slope() {
        assert!((smoothed_derivative(0.0) - 34.661_976).abs() < 1e-5);
        assert!((smoothed_derivative(1.0) + 34.661_976).abs() < 1e-5);
        for p in [0.01f64, 0.2, 0.5, 0.9] {
            let exact = |p: f64| -p * p.log2() - (1.0 - p) * (1.0 - p).log2();
            let slope = (exact(p + 1e-6) - exact(p - 1e-6)) / 2e-6;
            assert!((smoothed_derivative(p) - slope).abs() < 1e-4, "{p}");
        }
    }
}

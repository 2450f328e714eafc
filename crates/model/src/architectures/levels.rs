use super::{Column, Entries, Pull, Real};
use crate::Estimator;
use bae_codes::entropy::EPSILON;
use ndarray::ArrayView2;
use std::ops::RangeInclusive;

/// Codes that are whole numbers from `lowest` to `lowest` + `steps`: as many steps up as thresholds lie below z, halfway between
/// neighbours. So h = round(z), held within these bounds.
///
/// Each step's derivative is replaced as that of a bit is ([`Estimator::Sigmoid`]), and the entropy is that of the levels, with the
/// 1e-10 of the Binary Autoencoder inside each logarithm.
pub(super) struct Levels {
    pub lowest: i32,
    pub steps: u32,
    /// Of the estimator, in units of the pre-activation.
    pub width: f64,
}

impl Levels {
    pub fn range(&self) -> RangeInclusive<i32> {
        self.lowest..=self.lowest + self.steps as i32
    }

    pub fn encode<T: Real>(&self, z: ArrayView2<T>, learns: bool) -> Entries<T> {
        let reach = T::of(Estimator::Sigmoid { width: self.width }.window().expect("it ends"));
        let (first, last) = (self.threshold::<T>(0), self.threshold::<T>(self.steps - 1));
        let (lowest, highest) = (T::of(f64::from(self.lowest)), self.level::<T>(self.steps as usize));
        Entries::by_values(z, |_, z| {
            let h = (z - T::of(0.5)).ceil().max(lowest).min(highest);
            let open = learns && z > first - reach && z < last + reach;
            // no −0
            (h != T::zero() || open).then_some(h + T::zero())
        })
    }

    pub fn backward<T: Real>(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        let estimator = Estimator::Sigmoid { width: self.width };
        let reach = estimator.window().expect("it ends");
        let shares = self.shares(column);
        let weight = column.objective.entropy_weight / column.rows as f64;
        let pulls: Vec<f64> = shares.windows(2).map(|p| weight * (slope(p[1]) - slope(p[0]))).collect();
        for (g, &z) in gradient.iter_mut().zip(column.z) {
            let upstream = std::mem::replace(g, T::zero());
            // the only steps whose estimator is open here
            let lowest = z.wide() - reach - f64::from(self.lowest) - 0.5;
            let (from, to) = (lowest.max(0.0) as usize, (lowest + 2.0 * reach).ceil().max(0.0) as usize);
            for (step, &pull) in pulls.iter().enumerate().take(to).skip(from) {
                let above = z - self.threshold::<T>(step as u32);
                *g += T::of(estimator.backward(upstream.wide() + pull, above.wide()));
            }
        }
        Pull { entropy_bits: Some(entropy(&shares)), ..Pull::default() }
    }

    /// Share of the batch's rows at each level, `[steps + 1]`.
    fn shares<T: Real>(&self, column: &Column<T>) -> Vec<f64> {
        let mut counts = vec![0usize; self.steps as usize + 1];
        counts[(-self.lowest) as usize] = column.rows - column.h.len();
        for h in column.h {
            counts[(h.wide() as i32 - self.lowest) as usize] += 1;
        }
        counts.into_iter().map(|count| count as f64 / column.rows as f64).collect()
    }

    fn level<T: Real>(&self, at: usize) -> T {
        T::of(f64::from(self.lowest) + at as f64)
    }

    fn threshold<T: Real>(&self, step: u32) -> T {
        T::of(f64::from(self.lowest) + f64::from(step) + 0.5)
    }
}

/// −Σ_v p_v log2(p_v + 1e-10), rounded to f32 as the bits' is; 0 where all rows are alike.
pub(super) fn entropy(shares: &[f64]) -> f64 {
    if shares.contains(&1.0) {
        return 0.0;
    }
    let bits: f64 = shares.iter().map(|p| -p * libm::log2(p + EPSILON)).sum();
    f64::from(bits as f32)
}

/// Derivative of −p log2(p + 1e-10) by p.
pub(super) fn slope(p: f64) -> f64 {
    -libm::log2(p + EPSILON) - p / ((p + EPSILON) * std::f64::consts::LN_2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that move from one level to the next.
    #[test]
    fn slopes_are_the_entropys() {
        for shares in [vec![0.2, 0.5, 0.3], vec![0.05, 0.15, 0.7, 0.1], vec![0.6, 0.4]] {
            let exact = |shares: &[f64]| shares.iter().map(|p: &f64| -p * p.log2()).sum::<f64>();
            for step in 0..shares.len() - 1 {
                let moved = |by: f64| {
                    let mut shares = shares.clone();
                    (shares[step], shares[step + 1]) = (shares[step] - by, shares[step + 1] + by);
                    exact(&shares)
                };
                let want = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                let got = slope(shares[step + 1]) - slope(shares[step]);
                assert!((got - want).abs() < 1e-6, "{got} {want}");
            }
            assert!((entropy(&shares) - exact(&shares)).abs() < 1e-6);
        }
        assert_eq!(entropy(&[0.0, 1.0, 0.0]), 0.0);
    }

    /// Of two levels they are the bits' own.
    #[test]
    fn two_levels_are_bits() {
        for p in [0.0, 0.25, 0.5, 0.99] {
            assert_eq!(entropy(&[1.0 - p, p]), bae_codes::entropy::smoothed(p));
            let want = bae_codes::entropy::smoothed_derivative(p);
            assert!((slope(p) - slope(1.0 - p) - want).abs() < 1e-9);
        }
    }
}

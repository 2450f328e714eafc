//! What eigenvalues say: entropies, ranks, rates.

use nalgebra::DMatrix;
use serde::{Deserialize, Serialize};
use std::f64::consts::LN_2;

/// Figures of a second-moment matrix M = Σ x xᵀ / n `[d, d]` with eigenvalues λ_i, and p_i = λ_i / Σ λ. All but the last
/// are the same for rows of any scale, and all for rows that are rotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spectrum {
    /// Eigenvalues above the rounding error, max(n, d) · 2⁻⁵² · λ_max (as `numpy.linalg.matrix_rank`). The others
    /// count as 0 everywhere.
    pub rank: usize,
    /// Von Neumann entropy −Σ p log2 p, in bits, of M / tr M (Giraldo, Rao & Príncipe 2015, α → 1, linear kernel; Bach 2022).
    pub von_neumann_bits: Option<f64>,
    /// Matrix-based Rényi entropy of order 2, −log2 Σ p², in bits (Giraldo, Rao & Príncipe 2015).
    pub renyi2_bits: Option<f64>,
    /// Effective rank exp(−Σ q ln q), q_i = σ_i / Σ σ with singular values σ_i = √λ_i (Roy & Vetterli 2007; as RankMe,
    /// Garrido et al. 2023, without the 1e-7 added there): between 1 and `rank`.
    pub rank_me: Option<f64>,
    /// (Σ λ)² / Σ λ²: 2 to the power of `renyi2_bits`.
    pub participation_ratio: Option<f64>,
    /// Coding rate ½ log2 det(I + d/ε² M), in bits a row (Yu et al. 2020, MCR², R(Z, ε) with M = Z Zᵀ / n), at the model's own
    /// error ε² (mean |x − x̂|²): the rate at which a Gaussian's rows, blurred by noise of that size, are told apart. At
    /// least the rate–distortion function at ε².
    pub coding_rate_bits: Option<f64>,
}

impl Spectrum {
    /// Of rows of width `d_in`; `squared_error` is ε², if there is one.
    pub fn of(eigenvalues: &Eigenvalues, d_in: usize, squared_error: Option<f64>) -> Self {
        let rank = eigenvalues.rank();
        let values = &eigenvalues.0[..rank];
        let some = |value: f64| (rank > 0).then_some(value);
        // of shares no square is too small or large
        let largest = values.first().copied().unwrap_or(1.0);
        let shares: Vec<f64> = values.iter().map(|value| value / largest).collect();
        let (sum, squares) = (total(&shares), shares.iter().rev().map(|share| share * share).sum::<f64>());
        let roots: Vec<f64> = shares.iter().map(|share| share.sqrt()).collect();
        let ratio = sum * sum / squares;
        Self {
            rank,
            von_neumann_bits: some(entropy(&shares) / LN_2),
            renyi2_bits: some(libm::log2(ratio)),
            rank_me: some(libm::exp(entropy(&roots))),
            participation_ratio: some(ratio),
            coding_rate_bits: squared_error.filter(|_| rank > 0).map(|error| {
                let scale = d_in as f64 / error;
                0.5 * values.iter().rev().map(|value| libm::log1p(scale * value)).sum::<f64>() / LN_2
            }),
        }
    }
}

/// Eigenvalues of a second-moment matrix, largest first; those within the rounding error of 0 are 0.
#[derive(Debug, Default)]
pub struct Eigenvalues(pub Vec<f64>);

impl Eigenvalues {
    /// Of a symmetric matrix whose lower triangle is given, of this many rows; `scale` is the size of what cancelled in it.
    pub fn of(matrix: &DMatrix<f64>, rows: u64, scale: f64) -> Self {
        let width = matrix.nrows();
        if width == 0 {
            return Self::default();
        }
        let mut values: Vec<f64> = matrix.symmetric_eigenvalues().iter().copied().collect();
        values.sort_unstable_by(|a, b| b.total_cmp(a));
        let noise = f64::EPSILON * (rows as f64).max(width as f64) * values[0].max(scale);
        for value in &mut values {
            if *value <= noise {
                *value = 0.0;
            }
        }
        Self(values)
    }

    /// How many are not 0.
    pub fn rank(&self) -> usize {
        self.0.partition_point(|&value| value > 0.0)
    }

    /// Bits a row that any code needs, at least, for a Gaussian of this covariance at this mean squared error, summed over
    /// dimensions. `None` where no finite number of bits is enough, and where there is no spread.
    pub fn gaussian_bits(&self, squared_error: f64) -> Option<f64> {
        let mut above = &self.0[..self.rank()];
        if above.is_empty() || squared_error <= 0.0 || !squared_error.is_finite() {
            return None;
        }
        // the water stands over the smallest first; what stands above it shares the rest of the error equally
        let mut under = 0.0;
        while let [before @ .., smallest] = above {
            let level = (squared_error - under) / above.len() as f64;
            if level < *smallest {
                return Some(0.5 * above.iter().rev().map(|value| libm::log2(value / level)).sum::<f64>());
            }
            under += smallest;
            above = before;
        }
        Some(0.0)
    }
}

/// −Σ p ln p of positive weights, in nats, p their shares; smallest last.
fn entropy(weights: &[f64]) -> f64 {
    let sum = total(weights);
    // one share of 1 leaves −0
    (-weights.iter().rev().map(|weight| weight / sum * libm::log(weight / sum)).sum::<f64>()).max(0.0)
}

/// Their sum, the small ones first.
fn total(descending: &[f64]) -> f64 {
    descending.iter().rev().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[f64]) -> Spectrum {
        Spectrum::of(&Eigenvalues(values.to_vec()), values.len(), None)
    }

    #[test]
    fn equal_eigenvalues_are_as_many_dimensions() {
        let spectrum = of(&[3.0; 8]);
        for (found, expected) in [
            (spectrum.von_neumann_bits, 3.0),
            (spectrum.renyi2_bits, 3.0),
            (spectrum.rank_me, 8.0),
            (spectrum.participation_ratio, 8.0),
        ] {
            assert!((found.unwrap() - expected).abs() < 1e-12, "{spectrum:?}");
        }
        assert_eq!(of(&[5.0]).von_neumann_bits, Some(0.0));
        assert_eq!(of(&[5.0]).rank_me, Some(1.0));
    }

    #[test]
    fn water_is_filled_in_as_on_paper() {
        let bits = |values: &[f64], error| Eigenvalues(values.to_vec()).gaussian_bits(error);
        // all above: ½ log2(4 · 1 / 1²) with the level at ½
        assert_eq!(bits(&[2.0, 0.5], 1.0), Some(1.0));
        assert_eq!(bits(&[4.0, 1.0], 1.0), Some(0.5 * (3.0 + 1.0)));
        // the second is under water: level 3 − 1
        assert_eq!(bits(&[8.0, 1.0], 3.0), Some(1.0));
        assert_eq!(bits(&[8.0, 1.0], 9.0), Some(0.0));
        assert_eq!(bits(&[8.0, 1.0], 90.0), Some(0.0));
        assert_eq!(bits(&[8.0, 1.0, 0.0], 3.0), Some(1.0));
        assert_eq!([bits(&[1.0], 0.0), bits(&[0.0], 1.0), bits(&[], 1.0)], [None; 3]);
        assert_eq!([bits(&[1.0], f64::NAN), bits(&[1.0], f64::INFINITY)], [None; 2]);
    }

    proptest! {
        #[test]
        fn bounds_of_entropies_and_ranks(values in prop::collection::vec(1e-6f64..1e6, 1..40)) {
            let mut values = values;
            values.sort_unstable_by(|a, b| b.total_cmp(a));
            let Spectrum { von_neumann_bits, renyi2_bits, rank_me, participation_ratio, .. } = of(&values);
            let (count, slack) = (values.len() as f64, 1.0 + 1e-12);
            prop_assert!(renyi2_bits.unwrap() <= von_neumann_bits.unwrap() + 1e-12);
            prop_assert!(von_neumann_bits.unwrap() <= count.log2() + 1e-12);
            prop_assert!((1.0..=count * slack).contains(&rank_me.unwrap()));
            prop_assert!((1.0 / slack..=count * slack).contains(&participation_ratio.unwrap()));
            // roots are more even than what they are roots of
            prop_assert!(rank_me.unwrap() * slack >= von_neumann_bits.unwrap().exp2());
        }

        #[test]
        fn the_rate_is_that_of_a_searched_level_and_below_the_coding_rate(
            values in prop::collection::vec(1e-3f64..1e3, 1..30), fvu in 0.001f64..1.0,
        ) {
            let mut values = values;
            values.sort_unstable_by(|a, b| b.total_cmp(a));
            let error = fvu * total(&values);
            let [mut low, mut high] = [0.0, values[0]];
            for _ in 0..200 {
                let level = 0.5 * (low + high);
                if values.iter().map(|value| value.min(level)).sum::<f64>() < error { low = level } else { high = level }
            }
            let searched: f64 =
                values.iter().filter(|&&value| value > high).map(|value| 0.5 * (value / high).log2()).sum();
            let eigenvalues = Eigenvalues(values);
            let bits = eigenvalues.gaussian_bits(error).unwrap();
            prop_assert!((bits - searched).abs() <= 1e-9 * (1.0 + searched), "{bits} {searched}");
            let spectrum = Spectrum::of(&eigenvalues, eigenvalues.0.len(), Some(error));
            prop_assert!(spectrum.coding_rate_bits.unwrap() >= bits);
        }
    }
}

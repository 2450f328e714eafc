use super::Norms;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;
use serde::Serialize;

/// How well rows x are made again as x̂, over all rows named: docs/evaluation.md has each formula. NaN where a figure is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reconstruction {
    /// Mean over rows and dimensions of (x − x̂)², in the squared units of the hidden states.
    pub mse: f64,
    /// E|x − x̂|² / (E|x|² − |E x|²).
    pub fvu: f64,
    /// 1 − fvu.
    pub explained_variance: f64,
    /// Mean over rows of 1 − |x − x̂|² / |x − E x|²; rows at the mean itself are left out.
    pub explained_variance_legacy: f64,
    /// Mean over rows of the cosine between x and x̂; 0 for a row where one of them is 0.
    pub cosine: f64,
    /// E|x̂|² / E(x · x̂) (Rajamanoharan et al. 2024a, equation 10): below 1 where the reconstruction is too short.
    pub relative_bias: f64,
}

/// Sums over rows that stream by, from which a [`Reconstruction`] follows.
pub(super) struct Errors {
    /// Of all rows that are to come, `[d_out]`.
    mean: Array1<f64>,
    rows: usize,
    apart: usize,
    sums: Sums,
}

/// Of one row, or of many.
#[derive(Clone, Copy, Default)]
struct Sums {
    error: f64,
    deviation: f64,
    legacy: f64,
    cosine: f64,
    output: f64,
    product: f64,
}

impl Errors {
    /// No rows yet, of those with this mean.
    pub fn new(mean: &Array1<f64>) -> Self {
        Self { mean: mean.clone(), rows: 0, apart: 0, sums: Sums::default() }
    }

    /// Adds rows `[n, d_out]` and what was made of them, or of what layer normalisation left of them: outputs get the mean and the size of
    /// their rows back. Runs on the current rayon pool; each sum is one chain over the rows.
    pub fn add(&mut self, x: ArrayView2<f32>, y: ArrayView2<f32>, norms: Norms) {
        debug_assert_eq!(x.dim(), y.dim(), "rows and what was made of them");
        let rows: Vec<Sums> = x
            .axis_iter(Axis(0))
            .into_par_iter()
            .zip(y.axis_iter(Axis(0)))
            .enumerate()
            .map(|(row, (x, y))| {
                let (centre, divisor) = norms.map_or((0.0, 1.0), |norms| norms[row]);
                let (centre, divisor) = (f64::from(centre), f64::from(divisor));
                let (mut sums, mut input) = (Sums::default(), 0.0);
                for ((&x, &y), &mean) in x.iter().zip(y).zip(&self.mean) {
                    let (x, y) = (f64::from(x), f64::from(y) * divisor + centre);
                    sums.error += (x - y) * (x - y);
                    sums.deviation += (x - mean) * (x - mean);
                    sums.output += y * y;
                    sums.product += x * y;
                    input += x * x;
                }
                if sums.deviation > 0.0 {
                    sums.legacy = 1.0 - sums.error / sums.deviation;
                }
                let length = (input * sums.output).sqrt();
                sums.cosine = if length > 0.0 { sums.product / length } else { 0.0 };
                sums
            })
            .collect();
        for row in &rows {
            self.sums.error += row.error;
            self.sums.deviation += row.deviation;
            self.sums.legacy += row.legacy;
            self.sums.cosine += row.cosine;
            self.sums.output += row.output;
            self.sums.product += row.product;
            self.apart += usize::from(row.deviation > 0.0);
        }
        self.rows += rows.len();
    }

    /// What the sums say. `variance`, where it is known more exactly, is Σ |x − E x|².
    pub fn figures(&self, variance: Option<f64>) -> Reconstruction {
        let Sums { error, deviation, legacy, cosine, output, product } = self.sums;
        let variance = variance.unwrap_or(deviation);
        let over = |sum: f64, divisor: f64| if divisor > 0.0 { sum / divisor } else { f64::NAN };
        let fvu = over(error, variance);
        let rows = self.rows as f64;
        Reconstruction {
            mse: over(error, rows * self.mean.len() as f64),
            fvu,
            explained_variance: 1.0 - fvu,
            explained_variance_legacy: if fvu.is_nan() { f64::NAN } else { over(legacy, self.apart as f64) },
            cosine: over(cosine, rows),
            relative_bias: if product == 0.0 { f64::NAN } else { output / product },
        }
    }
}

/// Takes the mean and the size of their rows from targets, where layer normalisation took them from the rows.
pub(super) fn taken(norms: super::Norms, targets: ArrayView2<f32>) -> Array2<f32> {
    let mut targets = targets.to_owned();
    for (mut row, &(mean, divisor)) in targets.axis_iter_mut(Axis(0)).zip(norms.into_iter().flatten()) {
        row.mapv_inplace(|y| ((f64::from(y) - f64::from(mean)) / f64::from(divisor)) as f32);
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array, s};
    use proptest::prelude::*;

    fn of(x: &Array2<f32>, y: &Array2<f32>) -> Reconstruction {
        let mut errors = Errors::new(&x.mapv(f64::from).mean_axis(Axis(0)).unwrap());
        errors.add(x.view(), y.view(), None);
        errors.figures(None)
    }

    #[test]
    fn two_rows_by_hand() {
        // mean (2, 0): both rows are 1 away from it, the first is missed by 1, the second is met
        let figures = of(&array![[3.0, 0.0], [1.0, 0.0]], &array![[3.0, 1.0], [1.0, 0.0]]);
        assert_eq!((figures.mse, figures.fvu, figures.explained_variance), (0.25, 0.5, 0.5));
        assert_eq!(figures.explained_variance_legacy, 0.5);
        assert_eq!(figures.cosine, (3.0 / 10f64.sqrt() + 1.0) / 2.0);
        // |x̂|² is 10 and 1, x · x̂ is 9 and 1
        assert_eq!(figures.relative_bias, 1.1);
    }

    #[test]
    fn the_legacy_figure_counts_each_row_alike() {
        // a large row that is met hides a small one that is missed
        let x = array![[100.0f32], [-100.0], [1.0], [-1.0]];
        let figures = of(&x, &array![[100.0f32], [-100.0], [0.0], [0.0]]);
        assert_eq!(figures.explained_variance, 1.0 - 2.0 / 20_002.0);
        assert_eq!(figures.explained_variance_legacy, 0.5);
    }

    #[test]
    fn a_reconstruction_of_half_the_length_is_biased_by_half() {
        let x = array![[1.0f32, -2.0], [3.0, 0.5], [-1.0, 1.0]];
        let figures = of(&x, &x.mapv(|x| x / 2.0));
        assert_eq!((figures.relative_bias, figures.cosine), (0.5, 1.0));
    }

    #[test]
    fn what_is_not_defined_is_not_a_number() {
        let alike = of(&array![[2.0f32, 1.0], [2.0, 1.0]], &array![[2.0f32, 1.0], [2.0, 0.0]]);
        assert_eq!(alike.mse, 0.25);
        assert!(
            [alike.fvu, alike.explained_variance, alike.explained_variance_legacy].iter().all(|f| f.is_nan())
        );
        let nothing = of(&array![[1.0f32], [2.0]], &array![[0.0f32], [0.0]]);
        assert_eq!(nothing.cosine, 0.0);
        assert!(nothing.relative_bias.is_nan());
    }

    proptest! {
        #[test]
        fn figures_are_those_of_plain_loops(rows in 2usize..40, width in 1usize..9, cut in 0usize..40, seed in 0u32..500) {
            let value = |k: usize, j: usize, by: u32| ((k * 37 + j * 11) as u32 * by + seed) % 97;
            let x = Array2::from_shape_fn((rows, width), |(k, j)| value(k, j, 7) as f32 / 9.0 - 4.0);
            let y = Array2::from_shape_fn((rows, width), |(k, j)| value(k, j, 5) as f32 / 9.0 - 5.0);
            let mean = x.mapv(f64::from).mean_axis(Axis(0)).unwrap();
            let cut = cut.min(rows);
            let mut errors = Errors::new(&mean);
            for range in [0..cut, cut..rows] {
                errors.add(x.slice(s![range.clone(), ..]), y.slice(s![range, ..]), None);
            }
            let [x, y] = [x, y].map(|m| m.mapv(f64::from));
            let square = |m: &Array2<f64>, k: usize| m.row(k).mapv(|v| v * v).sum();
            let (error, apart) = (&x - &y, &x - &mean);
            let mean_of = |f: &dyn Fn(usize) -> f64| (0..rows).map(f).sum::<f64>() / rows as f64;
            let found = errors.figures(None);
            let variance = mean_of(&|k| square(&x, k)) - mean.mapv(|v| v * v).sum();
            let expected = [
                (found.mse, mean_of(&|k| square(&error, k)) / width as f64),
                (found.fvu, mean_of(&|k| square(&error, k)) / variance),
                (found.explained_variance_legacy, mean_of(&|k| 1.0 - square(&error, k) / square(&apart, k))),
                (found.cosine, mean_of(&|k| x.row(k).dot(&y.row(k)) / (square(&x, k) * square(&y, k)).sqrt())),
                (found.relative_bias, mean_of(&|k| square(&y, k)) / mean_of(&|k| x.row(k).dot(&y.row(k)))),
            ];
            for (found, expected) in expected {
                prop_assert!(!expected.is_finite() || (found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{found} {expected}");
            }
        }
    }
}

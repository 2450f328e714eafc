//! Σ x xᵀ over rows that stream by, in f64, and its eigenvalues.

use crate::yardsticks::spectrum::Eigenvalues;
use nalgebra::DMatrix;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

/// Columns of a panel: a square of sums of this side stays in registers on every CPU.
const PANEL: usize = 4;
/// Rows that are added at once: two panels of them stay in the first-level cache.
const ROWS: usize = 256;

/// Second moments of rows about an origin near their mean, so that neither those about the mean nor those about 0 are small
/// differences of large sums.
///
/// Each sum is one chain over the rows in their order, of separate products and additions: neither threads nor CPU nor the
/// sizes of what is added at once change a bit.
pub struct SecondMoment {
    rows: u64,
    /// The mean of the first rows that came, `[d_in]`.
    origin: Array1<f64>,
    /// Σ (x − origin), `[d_in]`.
    sums: Array1<f64>,
    /// Σ (x − origin)(x − origin)ᵀ, `[d_in, d_in]`, on and right of the diagonal.
    products: Vec<f64>,
}

impl SecondMoment {
    /// No rows yet.
    pub fn new(d_in: usize) -> Self {
        Self {
            rows: 0,
            origin: Array1::zeros(d_in),
            sums: Array1::zeros(d_in),
            products: vec![0.0; d_in * d_in],
        }
    }

    /// Adds rows `[n, d_in]`.
    pub fn add(&mut self, x: ArrayView2<f32>) {
        if self.rows == 0 && x.nrows() > 0 {
            self.origin = x.fold_axis(Axis(0), 0.0, |sum, &x| sum + f64::from(x)) / x.nrows() as f64;
        }
        for start in (0..x.nrows()).step_by(ROWS) {
            self.add_block(x.slice(s![start..x.nrows().min(start + ROWS), ..]));
        }
        self.rows += x.nrows() as u64;
    }

    fn add_block(&mut self, x: ArrayView2<f32>) {
        let d_in = self.origin.len();
        let panels: Vec<Vec<[f64; PANEL]>> = (0..d_in.div_ceil(PANEL))
            .into_par_iter()
            .map(|panel| {
                let first = panel * PANEL;
                let mut packed = vec![[0.0; PANEL]; x.nrows()];
                for column in first..d_in.min(first + PANEL) {
                    let origin = self.origin[column];
                    for (to, &x) in packed.iter_mut().zip(x.column(column)) {
                        to[column - first] = f64::from(x) - origin;
                    }
                }
                packed
            })
            .collect();
        for (column, sum) in self.sums.iter_mut().enumerate() {
            for row in &panels[column / PANEL] {
                *sum += row[column % PANEL];
            }
        }
        self.products.par_chunks_mut(PANEL * d_in).enumerate().for_each(|(left, stripe)| {
            for right in left..panels.len() {
                add_square(&panels[left], &panels[right], stripe, d_in, right * PANEL);
            }
        });
    }

    /// Eigenvalues of Σ x xᵀ / n, and of the covariance Σ (x − mean)(x − mean)ᵀ / n. `go_on` is asked before each.
    pub fn eigenvalues<E>(mut self, mut go_on: impl FnMut() -> Result<(), E>) -> Result<[Eigenvalues; 2], E> {
        if self.rows == 0 {
            return Ok(Default::default());
        }
        let n = self.rows as f64;
        let shift = &self.sums / n;
        let mean = &self.origin + &shift;
        // the larger it is, the more rounding it leaves where it is taken away
        let cancelled = shift.dot(&shift);
        go_on()?;
        self.change(|sum, i, j| sum / n - shift[i] * shift[j]);
        let centred = self.solve(cancelled);
        go_on()?;
        self.change(|covariance, i, j| covariance + mean[i] * mean[j]);
        Ok([self.solve(cancelled), centred])
    }

    /// Variances about the mean along all principal directions, largest first, and the first `count` of the directions,
    /// `[d_in, count]`, orthonormal. On one thread.
    pub fn components(mut self, count: usize) -> (Vec<f64>, Array2<f32>) {
        let n = self.rows.max(1) as f64;
        let shift = &self.sums / n;
        self.change(|sum, i, j| sum / n - shift[i] * shift[j]);
        let d_in = self.origin.len();
        // only the lower triangle, column by column, is read
        let matrix = DMatrix::from_vec(d_in, d_in, std::mem::take(&mut self.products));
        let eigen = matrix.symmetric_eigen();
        let mut order: Vec<usize> = (0..d_in).collect();
        order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
        let directions = Array2::from_shape_fn((d_in, count.min(d_in)), |(row, column)| {
            eigen.eigenvectors[(row, order[column])] as f32
        });
        (order.iter().map(|&at| eigen.eigenvalues[at].max(0.0)).collect(), directions)
    }

    /// Puts another number in the place of each.
    fn change(&mut self, new: impl Fn(f64, usize, usize) -> f64 + Sync) {
        let d_in = self.origin.len();
        self.products.par_chunks_mut(d_in).enumerate().for_each(|(i, row)| {
            for (j, value) in row.iter_mut().enumerate().skip(i) {
                *value = new(*value, i, j);
            }
        });
    }

    /// Eigenvalues of what stands in the place of the products, which stays there: only its copy is destroyed.
    fn solve(&mut self, scale: f64) -> Eigenvalues {
        let d_in = self.origin.len();
        // the upper triangle row by row is the lower one column by column, and only that one is read
        let matrix = DMatrix::from_vec(d_in, d_in, std::mem::take(&mut self.products));
        let eigenvalues = Eigenvalues::of(&matrix, self.rows, scale);
        self.products = Vec::from(matrix.data);
        eigenvalues
    }
}

/// Adds leftᵀ right to a square of sums, `PANEL` rows of `d_in`, from this column on.
fn add_square(left: &[[f64; PANEL]], right: &[[f64; PANEL]], stripe: &mut [f64], d_in: usize, column: usize) {
    let width = PANEL.min(d_in - column);
    let mut sums = [[0.0; PANEL]; PANEL];
    for (sums, row) in sums.iter_mut().zip(stripe.chunks_exact(d_in)) {
        sums[..width].copy_from_slice(&row[column..column + width]);
    }
    for (a, b) in left.iter().zip(right) {
        for (sums, a) in sums.iter_mut().zip(a) {
            for (sum, b) in sums.iter_mut().zip(b) {
                *sum += a * b;
            }
        }
    }
    for (sums, row) in sums.iter().zip(stripe.chunks_exact_mut(d_in)) {
        row[column..column + width].copy_from_slice(&sums[..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_plain_loops_to_the_bit(
            d_in in 1usize..14, rows in 1usize..600, cut in 0usize..600, seed in 0u32..1000,
        ) {
            let value = |k: usize, j: usize| ((k * 31 + j * 17 + seed as usize) % 101) as f32 / 7.0 - 5.0;
            let x = Array2::from_shape_fn((rows, d_in), |(k, j)| value(k, j));
            let cut = 1.max(cut.min(rows));
            let mut streamed = SecondMoment::new(d_in);
            streamed.add(x.slice(s![..cut, ..]));
            streamed.add(x.slice(s![cut.., ..]));
            let origin: Vec<f64> = (0..d_in)
                .map(|j| (0..cut).map(|k| f64::from(value(k, j))).sum::<f64>() / cut as f64)
                .collect();
            for i in 0..d_in {
                for j in i..d_in {
                    let about = |k: usize, j: usize| f64::from(value(k, j)) - origin[j];
                    let plain: f64 = (0..rows).map(|k| about(k, i) * about(k, j)).sum();
                    prop_assert_eq!(streamed.products[i * d_in + j], plain);
                }
            }
        }
    }

    #[test]
    fn threads_change_nothing() {
        let x = Array2::from_shape_fn((700, 37), |(k, j)| ((k * 13 + j * j * 7) % 89) as f32 * 0.37 - 11.0);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut sums = SecondMoment::new(37);
                sums.add(x.view());
                sums.products
            })
        };
        let one = on(1);
        assert!([2, 3, 8].iter().all(|&threads| on(threads) == one));
    }

    #[test]
    fn a_mean_a_million_times_the_spread_costs_little() {
        let rows =
            |mean: f32| Array2::from_shape_fn((400, 3), move |(k, j)| mean + ((k * (j + 3)) % 16) as f32);
        let centred = |mean| {
            let mut sums = SecondMoment::new(3);
            sums.add(rows(mean).view());
            let [_, centred] = sums.eigenvalues(|| Ok::<_, ()>(())).unwrap();
            centred.0
        };
        for (far, near) in centred(8_000_000.0).iter().zip(centred(0.0)) {
            assert!((far / near - 1.0).abs() < 1e-9, "{far} {near}");
        }
    }
}

use super::components::{principal_directions, rms};
use crate::{ModelError, Parameters};
use bae_kernels::{Isa, product};
use nalgebra::{Cholesky, DMatrix};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip, concatenate, s};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::AtomicBool;

/// Targets as an affine map of hidden states predicts them: what a transcoder starts from is an autoencoder of these.
///
/// The map has the least squared error plus λ times its own square (ridge regression, Hoerl & Kennard 1970), over the leading
/// principal directions of the hidden states; of seven λ it takes the one that does best on the fifth of the rows that a first fit
/// leaves aside. Rows of more than three times the ordinary size, hidden states or targets, count with that size.
pub struct Prediction {
    /// `[d_in, d_out]`
    weights: Array2<f32>,
    /// `[d_out]`
    bias: Array1<f32>,
}

/// Directions looked at, at most.
const DIRECTIONS: usize = 512;
/// Outliers are longer than this many ordinary rows.
const OUTLIER: f32 = 3.0;
/// λ, in units of the directions' mean square.
const PENALTIES: [f64; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// One row of so many is left aside to choose λ by.
const ASIDE: usize = 5;

impl Prediction {
    /// Fits the map to rows `x [n, d_in]` and their targets `y [n, d_out]`, in random order and with the ordinary rows' means
    /// taken out; `typical` is the root mean square of an ordinary row of each. Runs on the current rayon pool; the same bits on
    /// any number of threads.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`] if the rows cannot be multiplied in f32; [`ModelError::Cancelled`] soon after `cancel` is
    /// raised.
    pub fn fit(
        (x, y): (ArrayView2<f32>, ArrayView2<f32>),
        typical: (f32, f32),
        rng: &mut ChaCha8Rng,
        cancel: &AtomicBool,
    ) -> Result<Self, ModelError> {
        let limits = (OUTLIER * typical.0, OUTLIER * typical.1);
        let count = x.ncols().min(DIRECTIONS);
        let directions = principal_directions(x, count, limits.0, rng, cancel)?;
        // the last column is the constant
        let projected = multiply(x, directions.view());
        let mut z = concatenate![Axis(1), projected, Array2::ones((x.nrows(), 1))];
        let mut y = y.to_owned();
        for ((mut z, mut y), x) in z.rows_mut().into_iter().zip(y.rows_mut()).zip(x.rows()) {
            let shorter = (limits.0 / rms(x)).min(1.0) * (limits.1 / rms(y.view())).min(1.0);
            z.mapv_inplace(|z| z * shorter);
            y.mapv_inplace(|y| y * shorter);
        }
        let of = |aside: bool| -> Vec<usize> {
            (0..y.nrows()).filter(|row| (row % ASIDE == ASIDE - 1) == aside).collect()
        };
        let part = |rows: &Array2<f32>, aside: bool| rows.select(Axis(0), &of(aside));
        let (tried, tried_on) =
            (Squares::of(&part(&z, false), &part(&y, false))?, (part(&z, true), part(&y, true)));
        let error = |penalty: f64| -> f64 {
            let Some(map) = tried.solve(penalty) else { return f64::INFINITY };
            let predicted = multiply(tried_on.0.view(), map.view());
            Zip::from(&predicted)
                .and(&tried_on.1)
                .fold(0.0, |sum, &a, &b| sum + f64::from(a - b) * f64::from(a - b))
        };
        let best =
            PENALTIES.into_iter().map(|penalty| (error(penalty), penalty)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (_, penalty) = best.expect("several penalties");
        let map = Squares::of(&z, &y)?.solve(penalty).ok_or(ModelError::TooLarge)?;
        Ok(Self {
            weights: multiply(directions.view(), map.slice(s![..count, ..])),
            bias: map.row(count).to_owned(),
        })
    }

    /// The targets that it predicts for rows `[n, d_in]`, `[n, d_out]`.
    pub fn of(&self, x: ArrayView2<f32>) -> Array2<f32> {
        multiply(x, self.weights.view()) + &self.bias
    }

    /// Parameters that make of a row `[d_in]` what `parameters` make of the target `[d_out]` that is predicted for it.
    pub fn before(&self, parameters: Parameters) -> Parameters {
        let w_enc = multiply(self.weights.view(), parameters.w_enc.view());
        let bias = multiply(self.bias.view().insert_axis(Axis(0)), parameters.w_enc.view());
        Parameters { w_enc, b_enc: &parameters.b_enc + &bias.row(0), ..parameters }
    }
}

/// Sums of products over rows, of which a least squares fit is made.
struct Squares {
    /// zᵀ z, `[k, k]`
    of_rows: DMatrix<f64>,
    /// zᵀ y, `[k, d_out]`
    with_targets: DMatrix<f64>,
}

impl Squares {
    fn of(z: &Array2<f32>, y: &Array2<f32>) -> Result<Self, ModelError> {
        let sums = |b: &Array2<f32>| {
            let sums = multiply(z.t(), b.view());
            let finite = sums.iter().all(|sum| sum.is_finite());
            let (rows, columns) = sums.dim();
            finite
                .then(|| DMatrix::from_fn(rows, columns, |i, j| f64::from(sums[[i, j]])))
                .ok_or(ModelError::TooLarge)
        };
        Ok(Self { of_rows: sums(z)?, with_targets: sums(y)? })
    }

    /// The map `[k, d_out]` for a penalty, which spares the constant (the last of z); `None` if rounding leaves none.
    fn solve(&self, penalty: f64) -> Option<Array2<f32>> {
        let directions = self.of_rows.nrows() - 1;
        let mean = (0..directions).map(|at| self.of_rows[(at, at)]).sum::<f64>() / directions as f64;
        let mut penalised = self.of_rows.clone();
        for at in 0..directions {
            // rows that are all alike predict nothing, whatever the penalty
            penalised[(at, at)] += if mean > 0.0 { penalty * mean } else { 1.0 };
        }
        let map = Cholesky::new(penalised)?.solve(&self.with_targets);
        let map = Array2::from_shape_fn(map.shape(), |(i, j)| map[(i, j)] as f32);
        map.iter().all(|w| w.is_finite()).then_some(map)
    }
}

fn multiply(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f32> {
    let mut product = Array2::zeros((a.nrows(), b.ncols()));
    product::add_product(Isa::best(), a, b, product.view_mut());
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Architecture, Backend, Cpu, Estimator};
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn gaussian(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || StandardNormal.sample(&mut rng))
    }

    fn fit(x: &Array2<f32>, y: &Array2<f32>) -> Result<Prediction, ModelError> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        Prediction::fit((x.view(), y.view()), (1.0, 1.0), &mut rng, &AtomicBool::new(false))
    }

    fn mean_square(rows: &Array2<f32>) -> f64 {
        rows.mapv(|e| f64::from(e) * f64::from(e)).mean().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]
        #[test]
        fn an_affine_map_is_found_outliers_or_not(d_in in 1usize..12, d_out in 1usize..12, seed: u64, outlier: bool) {
            let mut x = gaussian(300, d_in, seed);
            if outlier {
                x.row_mut(7).fill(1e4);
            }
            let map = gaussian(d_in, d_out, seed ^ 1) / (d_in as f32).sqrt();
            let mut y = x.dot(&map) + 0.25;
            if outlier {
                // one that follows no map
                x.row_mut(8).fill(3e3);
            }
            let found = fit(&x, &y).unwrap();
            let ordinary: Vec<usize> = (0..300).filter(|row| !(7..9).contains(row)).collect();
            let error = (found.of(x.view()) - &y).select(Axis(0), &ordinary);
            let allowed = if outlier { 0.03 } else { 1e-6 };
            prop_assert!(mean_square(&error) < allowed, "{}", mean_square(&error));
            // noise that no map predicts is not learnt from few rows
            y = gaussian(300, d_out, seed ^ 2);
            let found = fit(&gaussian(300, d_in, seed ^ 3), &y).unwrap();
            let predicted = mean_square(&found.of(gaussian(300, d_in, seed ^ 4).view()));
            prop_assert!(predicted < 0.15, "{predicted}");
        }
    }

    #[test]
    fn parameters_do_to_rows_what_others_do_to_predictions() {
        let (x, map) = (gaussian(200, 5, 1), gaussian(5, 7, 2));
        let prediction = fit(&x, &(x.dot(&map) - 0.5)).unwrap();
        let of_targets = Parameters {
            w_enc: gaussian(7, 20, 3),
            b_enc: gaussian(1, 20, 4).row(0).to_owned(),
            w_dec: gaussian(20, 7, 5),
            b_dec: gaussian(1, 7, 6).row(0).to_owned(),
            per_feature: vec![],
        };
        let architecture = Architecture::binary(Estimator::Identity);
        let expected =
            Cpu::new(&of_targets, 1).encode(&architecture, prediction.of(x.view()).view()).unwrap();
        let parameters = prediction.before(of_targets);
        assert_eq!((parameters.d_in(), parameters.d_out()), (5, 7));
        let got = Cpu::new(&parameters, 1).encode(&architecture, x.view()).unwrap();
        let differ = (0..200).flat_map(|row| (0..20).map(move |j| (row, j)));
        let differ = differ.filter(|&(row, j)| got.get(row, j) != expected.get(row, j)).count();
        // but for pre-activations that rounding brings over the threshold
        assert!(differ <= 2, "{differ} of 4000");
    }

    #[test]
    fn rows_that_are_all_alike_or_too_large() {
        let prediction = fit(&Array2::zeros((9, 3)), &Array2::from_elem((9, 2), 2.0)).unwrap();
        assert!(prediction.of(Array2::zeros((1, 3)).view()).iter().all(|y| (y - 2.0).abs() < 1e-6));
        let cancelled = AtomicBool::new(true);
        let rows = gaussian(9, 3, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let result = Prediction::fit((rows.view(), rows.view()), (1.0, 1.0), &mut rng, &cancelled);
        assert!(matches!(result, Err(ModelError::Cancelled)));
        // two rows, one dimension: the least there is
        let two = gaussian(2, 1, 3);
        assert!(fit(&two, &two).unwrap().of(two.view()).iter().all(|y| y.is_finite()));
    }
}

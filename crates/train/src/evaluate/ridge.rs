//! A linear decoder fitted to codes by ridge regression, through whichever is smaller: products of features, or of rows (the dual form), so
//! that its cost does not grow with d_sae².

use super::Codes;
use bae_kernels::{Isa, product};
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use std::ops::Range;

/// Features that are unpacked at once.
const FEATURES: usize = 2048;

/// Rounds of conjugate gradients, at most: with the penalties in use the error is settled by then.
pub(super) const ROUNDS: usize = 24;

/// Share of the squared residual that is left where a solution is good enough: 32-bit numbers do not settle it much further.
const SETTLED: f64 = 1e-8;

/// Codes of rows, made ready for decoders to be fitted to them.
pub(super) struct Ridge<'a> {
    codes: &'a Codes,
    /// Of each feature over the rows, `[d_sae]`.
    means: Vec<f64>,
    /// Hᵀ H `[d_sae, d_sae]` of the centred codes where features are fewer than rows, H Hᵀ `[n, n]` otherwise.
    products: Array2<f32>,
    of_features: bool,
    rows: usize,
    isa: Isa,
}

/// ŷ = (h − h̄) W + ȳ, as `w_dec` `[d_sae, d_out]` and `b_dec` `[d_out]`.
pub(super) struct Decoder {
    pub w_dec: Array2<f32>,
    pub b_dec: Array1<f32>,
}

impl<'a> Ridge<'a> {
    /// Products of all pairs, on the current rayon pool.
    pub fn new(codes: &'a Codes) -> Self {
        let isa = Isa::best();
        let active = codes.active();
        let (rows, d_sae) = (active.rows(), active.features());
        let means = means(codes);
        let of_features = d_sae < rows;
        let mut products = Array2::zeros([(rows, rows), (d_sae, d_sae)][usize::from(of_features)]);
        if of_features {
            let all = dense(codes, &means, 0..d_sae);
            product::add_product(isa, all.t(), all.view(), products.view_mut());
        } else {
            for features in blocks(d_sae) {
                let part = dense(codes, &means, features);
                product::add_product(isa, part.view(), part.t(), products.view_mut());
            }
        }
        Self { codes, means, products, of_features, rows, isa }
    }

    /// Begins to fit the decoder that makes `targets` `[n, d_out]` with the least squared error and `penalty` times the squared weights;
    /// the penalty is in units of a row's mean squared code.
    pub fn start(&self, targets: ArrayView2<f32>, penalty: f64) -> Solver<'_> {
        let rows = self.rows.max(1) as f64;
        let mean = targets.fold_axis(Axis(0), 0.0, |sum, &y| sum + f64::from(y)) / rows;
        let size = self.products.diag().iter().map(|&k| f64::from(k)).sum::<f64>() / rows;
        let mut centred = targets.to_owned();
        for mut row in centred.rows_mut() {
            row.zip_mut_with(&mean, |y, &mean| *y = (f64::from(*y) - mean) as f32);
        }
        let residual = if self.of_features { self.features_times(&centred) } else { centred };
        let squares = column_products(&residual, &residual);
        Solver {
            ridge: self,
            lambda: (penalty * size) as f32,
            // codes that never change say nothing
            rounds: if size > 0.0 { ROUNDS } else { 0 },
            mean,
            weights: Array2::zeros(residual.dim()),
            direction: residual.clone(),
            begun: squares.iter().sum(),
            squares,
            residual,
        }
    }

    /// Hᵀ · `of_rows`, `[d_sae, d_out]`.
    fn features_times(&self, of_rows: &Array2<f32>) -> Array2<f32> {
        let d_sae = self.means.len();
        let mut out = Array2::zeros((d_sae, of_rows.ncols()));
        for features in blocks(d_sae) {
            let part = dense(self.codes, &self.means, features.clone());
            product::add_product(self.isa, part.t(), of_rows.view(), out.slice_mut(s![features, ..]));
        }
        out
    }

    fn decoder(&self, weights: &Array2<f32>, mean: &Array1<f64>) -> Decoder {
        let w_dec = if self.of_features { weights.clone() } else { self.features_times(weights) };
        let mut b_dec = mean.clone();
        for (row, &code) in w_dec.rows().into_iter().zip(&self.means) {
            b_dec.zip_mut_with(&row, |b, &w| *b -= code * f64::from(w));
        }
        Decoder { w_dec, b_dec: b_dec.mapv(|b| b as f32) }
    }
}

/// Conjugate gradients (Hestenes & Stiefel 1952), column by column, on (Hᵀ H + λI) W = Hᵀ Y, or on (H Hᵀ + λI) A = Y with W = Hᵀ A.
pub(super) struct Solver<'a> {
    ridge: &'a Ridge<'a>,
    lambda: f32,
    /// Left to go.
    rounds: usize,
    mean: Array1<f64>,
    weights: Array2<f32>,
    residual: Array2<f32>,
    direction: Array2<f32>,
    squares: Vec<f64>,
    /// Their sum at the start.
    begun: f64,
}

impl Solver<'_> {
    /// One round, on the current rayon pool; false once all are done.
    pub fn round(&mut self) -> bool {
        if self.rounds == 0 {
            return false;
        }
        self.rounds -= 1;
        let Self { ridge, lambda, weights, residual, direction, squares, .. } = self;
        let mut image = direction.mapv(|p| *lambda * p);
        product::add_product(ridge.isa, ridge.products.view(), direction.view(), image.view_mut());
        let ratio = |(&above, &below): (&f64, &f64)| if below > 0.0 { (above / below) as f32 } else { 0.0 };
        let curvature = column_products(direction, &image);
        let length: Vec<f32> = squares.iter().zip(&curvature).map(ratio).collect();
        add_scaled(weights, direction, &length, 1.0);
        add_scaled(residual, &image, &length, -1.0);
        let next = column_products(residual, residual);
        let turn: Vec<f32> = next.iter().zip(&*squares).map(ratio).collect();
        for (mut p, r) in direction.rows_mut().into_iter().zip(residual.rows()) {
            for ((p, &r), turn) in p.iter_mut().zip(r).zip(&turn) {
                *p = r + turn * *p;
            }
        }
        *squares = next;
        if squares.iter().sum::<f64>() <= SETTLED * self.begun {
            self.rounds = 0;
        }
        true
    }

    /// The decoder as far as it is solved.
    pub fn decoder(&self) -> Decoder {
        self.ridge.decoder(&self.weights, &self.mean)
    }
}

fn blocks(d_sae: usize) -> impl Iterator<Item = Range<usize>> {
    (0..d_sae).step_by(FEATURES).map(move |start| start..d_sae.min(start + FEATURES))
}

fn means(codes: &Codes) -> Vec<f64> {
    let mut sums = vec![0.0; codes.active().features()];
    let rows = codes.active().rows().max(1) as f64;
    match codes {
        Codes::Bits(bits) => {
            sums.iter_mut().zip(bits.ones_per_feature()).for_each(|(sum, ones)| *sum = ones as f64);
        }
        Codes::Values(values) => {
            let (_, features, values) = values.lists();
            features.iter().zip(values).for_each(|(&j, &h)| sums[j as usize] += f64::from(h));
        }
    }
    sums.iter().map(|sum| sum / rows).collect()
}

/// Centred codes of some features, `[n, features]`.
fn dense(codes: &Codes, means: &[f64], features: Range<usize>) -> Array2<f32> {
    let (rows, first) = (codes.active().rows(), features.start);
    let mut dense = Array2::zeros((rows, features.len()));
    for (row, mut to) in dense.rows_mut().into_iter().enumerate() {
        match codes {
            Codes::Bits(bits) => {
                to.iter_mut()
                    .enumerate()
                    .for_each(|(j, h)| *h = f32::from(u8::from(bits.get(row, first + j))));
            }
            Codes::Values(values) => {
                for (&feature, &value) in std::iter::zip(values.row(row).0, values.row(row).1) {
                    if features.contains(&(feature as usize)) {
                        to[feature as usize - first] = value;
                    }
                }
            }
        }
        to.iter_mut().zip(&means[features.clone()]).for_each(|(h, mean)| *h = (f64::from(*h) - mean) as f32);
    }
    dense
}

/// Products of each column with its fellow, in f64, row after row.
fn column_products(left: &Array2<f32>, right: &Array2<f32>) -> Vec<f64> {
    let mut sums = vec![0.0; left.ncols()];
    for (left, right) in left.rows().into_iter().zip(right.rows()) {
        for ((sum, &l), &r) in sums.iter_mut().zip(left).zip(right) {
            *sum += f64::from(l) * f64::from(r);
        }
    }
    sums
}

/// Adds the columns of `from`, each times its factor.
fn add_scaled(to: &mut Array2<f32>, from: &Array2<f32>, factors: &[f32], sign: f32) {
    for (mut to, from) in to.rows_mut().into_iter().zip(from.rows()) {
        for ((to, &from), factor) in to.iter_mut().zip(from).zip(factors) {
            *to += sign * factor * from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(codes: &Codes, y: &Array2<f32>, penalty: f64) -> Decoder {
        let ridge = Ridge::new(codes);
        let mut solver = ridge.start(y.view(), penalty);
        while solver.round() {}
        solver.decoder()
    }

    use bae_codes::ValueMatrix;
    use nalgebra::DMatrix;
    use proptest::prelude::*;

    fn values(dense: &Array2<f32>) -> Codes {
        let (mut ends, mut features, mut values) = (vec![], vec![], vec![]);
        for row in dense.rows() {
            for (j, &h) in row.iter().enumerate() {
                features.push(j as u32);
                values.push(h);
            }
            ends.push(features.len());
        }
        Codes::Values(ValueMatrix::new(dense.ncols(), ends, features, values))
    }

    proptest! {
        /// A solution is settled by what is left of the equations, not by how near its weights are to the exact ones: with equations that
        /// hardly differ those may lie far away. So it is held by what is left, and by weights as far as that lets them be.
        #[test]
        fn decoders_are_those_of_the_normal_equations(rows in 2usize..14, d_sae in 1usize..9, d_out in 1usize..4, seed in 0usize..99) {
            let value = |k: usize, j: usize| ((k * 31 + j * 17 + k * j * 5 + seed) % 23) as f32 / 11.0 - 1.0;
            let h = Array2::from_shape_fn((rows, d_sae), |(k, j)| value(k, j).max(0.0));
            let y = Array2::from_shape_fn((rows, d_out), |(k, j)| value(k + 3, j + 9));
            let codes = values(&h);
            let Decoder { w_dec, b_dec } = fitted(&codes, &y, 0.1);
            let [h, y, w_dec] = [h, y, w_dec].map(|m| m.mapv(f64::from));
            let [h_mean, y_mean] = [&h, &y].map(|m| m.mean_axis(Axis(0)).unwrap());
            let (h, y) = (&h - &h_mean, &y - &y_mean);
            let size = |m: &Array2<f64>| m.mapv(|v| v * v).sum().sqrt();
            let lambda = 0.1 * size(&h) * size(&h) / rows as f64;
            if lambda > 1e-3 {
                let gram = h.t().dot(&h) + Array2::<f64>::eye(d_sae) * lambda;
                let side = h.t().dot(&y);
                // |Hᵀ r| is at most |H| |r| in the dual form, and |Hᵀ Y| at most |H| |Y| in the other
                let settled = 2.0 * SETTLED.sqrt() * size(&h) * size(&y);
                prop_assert!(size(&(gram.dot(&w_dec) - &side)) <= settled, "{w_dec}");
                let exact = DMatrix::from_fn(d_sae, d_sae, |i, j| gram[[i, j]]).lu();
                let exact = exact.solve(&DMatrix::from_fn(d_sae, d_out, |i, j| side[[i, j]])).unwrap();
                let exact = Array2::from_shape_fn((d_sae, d_out), |(i, j)| exact[(i, j)]);
                prop_assert!(size(&(&w_dec - &exact)) <= settled / lambda, "{w_dec} {exact}");
            }
            for (found, wanted) in b_dec.iter().zip(&y_mean - &h_mean.dot(&w_dec)) {
                prop_assert!((f64::from(*found) - wanted).abs() < 1e-5 * (1.0 + wanted.abs()), "{found} {wanted}");
            }
        }
    }

    #[test]
    fn codes_that_never_change_give_the_mean() {
        let codes = values(&Array2::ones((5, 3)));
        let y = Array2::from_shape_fn((5, 2), |(k, j)| (k + 5 * j) as f32);
        let Decoder { w_dec, b_dec } = fitted(&codes, &y, 0.01);
        assert_eq!((w_dec, b_dec.to_vec()), (Array2::zeros((3, 2)), vec![2.0, 7.0]));
    }
}

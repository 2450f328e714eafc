//! Entropy, covariance and their gradients on codes of any values, in f64.

use crate::Objective;
use bae_codes::entropy;
use ndarray::{Array1, Array2, Axis};

/// −1, 0 or 1; NaN for NaN.
pub fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

fn mean(h: &Array2<f64>) -> Array1<f64> {
    h.sum_axis(Axis(0)) / h.nrows() as f64
}

/// Σ_j H(p_j) in bits, smoothed as in the loss, with p the column means of `h` `[n, d_sae]`.
pub fn entropy(h: &Array2<f64>) -> f64 {
    mean(h).iter().map(|&p| entropy::smoothed(p)).sum()
}

/// Gradient of [`entropy`] by h: the same for every row, `[d_sae]`.
pub fn entropy_gradient(h: &Array2<f64>) -> Array1<f64> {
    mean(h).mapv(|p| entropy::smoothed_derivative(p) / h.nrows() as f64)
}

/// D_ij = n Σ_k h_ki h_kj − s_i s_j, which is n (n − 1) Cov_ij and exact for 0/1 codes; the diagonal is 0.
fn scaled_covariance(h: &Array2<f64>) -> Array2<f64> {
    let n = h.nrows() as f64;
    let sums = h.sum_axis(Axis(0));
    Array2::from_shape_fn((h.ncols(), h.ncols()), |(i, j)| {
        if i == j { 0.0 } else { n * (&h.column(i) * &h.column(j)).sum() - sums[i] * sums[j] }
    })
}

/// Σ_{i≠j} |Cov_ij|.
pub fn covariance(objective: &Objective, h: &Array2<f64>) -> f64 {
    objective.covariance(scaled_covariance(h).iter().map(|d| d.abs()).sum(), h.nrows())
}

/// Gradient of [`covariance`] by h, `[n, d_sae]`: 2 / (n (n − 1)) Σ_i sign(D_ij) (n h_ki − s_i). NaN for one row.
pub fn covariance_gradient(h: &Array2<f64>) -> Array2<f64> {
    let n = h.nrows() as f64;
    let sums = h.sum_axis(Axis(0));
    let signs = scaled_covariance(h).mapv(sign);
    let mut gradient = Array2::zeros(h.dim());
    for ((k, j), g) in gradient.indexed_iter_mut() {
        let pull: f64 =
            (0..h.ncols()).filter(|&i| i != j).map(|i| signs[[i, j]] * (n * h[[k, i]] - sums[i])).sum();
        *g = 2.0 / (n * (n - 1.0)) * pull;
    }
    gradient
}

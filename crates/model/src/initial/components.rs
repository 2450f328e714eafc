use crate::ModelError;
use bae_kernels::{Isa, product};
use nalgebra::DMatrix;
use ndarray::{Array2, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::sync::atomic::{AtomicBool, Ordering};

/// Rounds of orthogonal iteration; more than eight change nothing that matters (docs/training.md).
const ROUNDS: usize = 8;

/// The leading `count` principal directions of `rows` `[n, d_in]`, as orthonormal columns `[d_in, count]`, strongest
/// first, nearly: orthogonal iteration from a random start (Golub & Van Loan, section 8.2.4).
///
/// Rows longer than `limit` (root mean square over dimensions) count with that length: no few rows decide alone.
/// Runs on the current rayon pool; the same bits on any number of threads.
///
/// # Errors
/// [`ModelError::Cancelled`] soon after `cancel` is raised.
pub fn principal_directions(
    rows: ArrayView2<f32>,
    count: usize,
    limit: f32,
    rng: &mut ChaCha8Rng,
    cancel: &AtomicBool,
) -> Result<Array2<f32>, ModelError> {
    let isa = Isa::best();
    let d_in = rows.ncols();
    let mut shortened = rows.to_owned();
    for mut row in shortened.axis_iter_mut(Axis(0)) {
        let length = rms(row.view());
        if length > limit {
            row.mapv_inplace(|x| x * (limit / length));
        }
    }
    let mut second_moment = Array2::zeros((d_in, d_in));
    product::add_product(isa, shortened.t(), shortened.view(), second_moment.view_mut());
    let mut directions = Array2::from_shape_simple_fn((d_in, count), || StandardNormal.sample(rng));
    for _ in 0..ROUNDS {
        if cancel.load(Ordering::Relaxed) {
            return Err(ModelError::Cancelled);
        }
        let mut next = Array2::zeros((d_in, count));
        product::add_product(isa, second_moment.view(), directions.view(), next.view_mut());
        directions = orthonormal(&next);
    }
    Ok(directions)
}

/// Root mean square over dimensions.
pub fn rms(row: ndarray::ArrayView1<f32>) -> f32 {
    (row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>() / row.len().max(1) as f64).sqrt() as f32
}

fn orthonormal(columns: &Array2<f32>) -> Array2<f32> {
    let (rows, count) = columns.dim();
    let matrix = DMatrix::from_fn(rows, count, |row, column| f64::from(columns[[row, column]]));
    let q = matrix.qr().q();
    Array2::from_shape_fn((rows, count), |(row, column)| q[(row, column)] as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn finds_the_strong_axes_of_stretched_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let stretch = [1.0f32, 9.0, 0.5, 4.0, 0.1];
        let rows = Array2::from_shape_fn((500, 5), |(_, j)| {
            let normal: f32 = StandardNormal.sample(&mut rng);
            stretch[j] * normal
        });
        let directions =
            principal_directions(rows.view(), 3, 1e9, &mut rng, &AtomicBool::new(false)).unwrap();
        let cancelled = principal_directions(rows.view(), 3, 1e9, &mut rng, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(ModelError::Cancelled)));
        for (column, axis) in [(0, 1), (1, 3), (2, 0)] {
            assert!(directions[[axis, column]].abs() > 0.98, "{directions}");
        }
        let gram = directions.t().dot(&directions);
        assert!((gram - Array2::<f32>::eye(3)).iter().all(|e| e.abs() < 1e-5));
    }
}

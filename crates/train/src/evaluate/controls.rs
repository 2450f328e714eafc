use super::rate::{self, Rate};
use super::reconstruction::{Errors, Reconstruction};
use crate::TrainError;
use crate::yardsticks::SecondMoment;
use bae_data::Feed;
use bae_kernels::{Isa, product};
use ndarray::{Array1, Array2, ArrayView2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

/// What a score is worth is seen beside what needs no model, or a senseless one. docs/evaluation.md says how each is made. `None` where
/// there cannot be one; the evaluation's `missing` says why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Controls {
    /// Each row as the mean of all.
    pub mean_prediction: Control,
    /// Each row in as many principal components as features of the model are on in a row.
    pub pca: Option<Control>,
    /// Each row made from another row's code.
    pub shuffled_codes: Option<Control>,
    /// An encoder of random directions, each feature on as often as in the model; its decoder is fitted to the rows.
    pub frozen_encoder: Option<Control>,
    /// A decoder of random directions; its encoder is trained.
    pub frozen_decoder: Option<Control>,
}

/// What one control makes of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// Rows measured.
    pub rows: usize,
    /// How well it makes them again.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// As the model's, where the control has codes.
    pub l0: Option<f64>,
    /// As the model's.
    pub entropy_bits: Option<f64>,
    /// As the model's.
    pub rate_bits: Option<f64>,
    /// Of `pca`: its components.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Of those that are fitted: by what, and how well they make the rows that they are fitted to, which flatters them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fitted: Option<Fitted>,
}

/// How a control was fitted.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fitted {
    /// Rows that it was fitted to; none of them is among those measured.
    pub rows: usize,
    /// Steps of training, where there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// How well it makes the rows that it was fitted to.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
}

impl Control {
    /// One without codes.
    pub(super) fn plain(rows: usize, reconstruction: Reconstruction) -> Self {
        let (l0, entropy_bits, rate_bits) = (None, None, None);
        Self { rows, reconstruction, l0, entropy_bits, rate_bits, rank: None, fitted: None }
    }
}

/// Whose code each row of a chunk gets: one cycle through all of them (Sattolo 1986), so that none keeps its own. One row gets its own.
pub(super) fn derangement(rows: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    for last in (1..rows).rev() {
        order.swap(last, rng.random_range(0..last));
    }
    order
}

/// Projects rows on principal components.
pub(super) struct Pca {
    mean: Array1<f64>,
    /// `[d, rank]`
    directions: Array2<f32>,
    errors: Errors,
    rate: Rate,
}

impl Pca {
    /// The components of the largest variance, `rank` of them. `mean` is that of the rows, and `variance` Σ |x − mean|² / n of all.
    pub fn new(moments: SecondMoment, mean: &Array1<f64>, rank: usize, variance: f64) -> Self {
        let (values, directions) = moments.components(rank);
        let rank = directions.ncols();
        let explained: f64 = values.iter().take(rank).sum();
        let step = rate::step((variance - explained).max(0.0), variance, rank as f64);
        let rate = Rate::new(step, vec![1.0; rank]);
        Self { mean: mean.clone(), directions, errors: Errors::new(mean), rate }
    }

    /// Adds rows `[n, d]`, on the current rayon pool.
    pub fn add(&mut self, x: ArrayView2<f32>) {
        let isa = Isa::best();
        let mut centred = x.to_owned();
        for mut row in centred.rows_mut() {
            row.zip_mut_with(&self.mean, |x, &mean| *x = (f64::from(*x) - mean) as f32);
        }
        let mut codes = Array2::zeros((x.nrows(), self.directions.ncols()));
        product::add_product(isa, centred.view(), self.directions.view(), codes.view_mut());
        let mut y = Array2::zeros(x.dim());
        product::add_product(isa, codes.view(), self.directions.t(), y.view_mut());
        for mut row in y.rows_mut() {
            row.zip_mut_with(&self.mean, |y, &mean| *y = (f64::from(*y) + mean) as f32);
        }
        self.errors.add(x, y.view(), None);
        self.rate.add_dense(codes.view());
    }

    /// What it came to; `variance` is Σ |x − mean|².
    pub fn control(&self, rows: usize, variance: f64) -> Control {
        let rank = self.directions.ncols();
        Control {
            l0: Some(rank as f64),
            // components are always on
            entropy_bits: Some(0.0),
            rate_bits: Some(self.rate.bits()),
            rank: Some(rank),
            ..Control::plain(rows, self.errors.figures(Some(variance)))
        }
    }
}

/// Goes through rows in their order, `rows` at a time: `each` gets those done before, the hidden states, and what is to be made of them.
pub(super) fn chunks(
    feed: &Feed,
    rows: usize,
    mut each: impl FnMut(usize, ArrayView2<f32>, ArrayView2<f32>) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, rows, 0);
        let mut done = 0;
        while let Some(x) = batches.next() {
            let (x, targets) = feed.apart(x?);
            each(done, x.view(), targets.as_ref().unwrap_or(&x).view())?;
            done += x.nrows();
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn nobody_keeps_a_code() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        for rows in [2, 3, 50, 2048] {
            let mut order = derangement(rows, &mut rng);
            assert!(order.iter().enumerate().all(|(row, &other)| row != other));
            order.sort_unstable();
            assert_eq!(order, (0..rows).collect::<Vec<_>>());
        }
        assert_eq!((derangement(0, &mut rng), derangement(1, &mut rng)), (vec![], vec![0]));
    }

    #[test]
    fn components_of_a_plane_make_its_rows_again() {
        let x = Array2::from_shape_fn((60, 5), |(k, j)| {
            let (a, b) = ((k % 7) as f32 - 3.0, (k % 5) as f32 - 2.0);
            10.0 + a * [1.0, 2.0, 0.0, -1.0, 0.5][j] + b * [0.0, 1.0, 1.0, 0.0, -2.0][j]
        });
        let of_rank = |rank| {
            let mut moments = SecondMoment::new(5);
            moments.add(x.view());
            let mean = x.mapv(f64::from).mean_axis(ndarray::Axis(0)).unwrap();
            let variance = (&x.mapv(f64::from) - &mean).mapv(|v| v * v).sum();
            let mut pca = Pca::new(moments, &mean, rank, variance / 60.0);
            pca.add(x.view());
            pca.control(60, variance)
        };
        let (one, two) = (of_rank(1), of_rank(2));
        assert!(two.reconstruction.fvu < 1e-10, "{two:?}");
        assert!(one.reconstruction.fvu > 0.2 && one.reconstruction.fvu < 0.5, "{one:?}");
        assert_eq!((one.rank, two.l0, of_rank(99).rank), (Some(1), Some(2.0), Some(5)));
        assert!((one.reconstruction.relative_bias - 1.0).abs() < 1e-6);
        assert!(two.rate_bits > one.rate_bits);
    }
}

//! What readers will ask to see beside the entropy of codes: figures of the hidden states themselves, and the bits that a
//! Gaussian of their covariance needs at the error that the model makes.

mod second_moment;
mod spectrum;
mod two_nn;

pub use spectrum::Spectrum;
pub use two_nn::TwoNn;

use crate::TrainError;
use crate::evaluate::{Applied, through};
use bae_codes::Statistics;
use bae_data::{Feed, RowMoments};
use ndarray::{Array2, ArrayView2, s};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
pub(crate) use second_moment::SecondMoment;
use serde::{Deserialize, Serialize};
use spectrum::Eigenvalues;
use std::collections::BTreeMap;

/// Rows that distances are taken between, at most: their cost grows with the square.
const SAMPLE_ROWS: usize = 4096;
/// Draws them; the only thing here that is drawn.
const SEED: u64 = 0;

/// Figures to compare the entropy of codes with. All entropies and rates are in bits, those of a model in bits a row. A
/// figure that is not defined is `None`, and `missing` says why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Yardsticks {
    /// Rows measured, n.
    pub rows: usize,
    /// Width of a row, d. With n not much above d the spectrum is that of these rows rather than of their source:
    /// entropies, ranks and rates come out too low.
    pub d_in: usize,
    /// Σ_j H(p_j) of the codes, plug-in, as everywhere: of codes that hold values, of which features are on.
    pub entropy_bits: f64,
    /// ε²: the mean over rows of |x − x̂|², summed over dimensions.
    pub squared_error: f64,
    /// ε² over the mean of |x − mean|²; as [`crate::Evaluation::fvu`].
    pub fvu: Option<f64>,
    /// Of the second moments Σ x xᵀ / n, where the mean takes part.
    pub raw: Spectrum,
    /// Of the covariance Σ (x − mean)(x − mean)ᵀ / n.
    pub centred: Spectrum,
    /// What a Gaussian needs at the same error.
    pub gaussian: Gaussian,
    /// Intrinsic dimension.
    pub two_nn: TwoNn,
    /// Why a figure is `None`, by its name in JSON (`centred` for all in it).
    pub missing: BTreeMap<String, String>,
}

/// The rate–distortion function of a Gaussian of the rows' covariance, at the error of the model: reverse water-filling
/// (Cover & Thomas, Elements of Information Theory, 2nd ed., theorem 10.3.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gaussian {
    /// R(ε²): Σ_i max(0, ½ log2(λ_i / θ)), θ such that Σ_i min(λ_i, θ) = ε².
    pub bits: Option<f64>,
    /// Σ_j H(p_j) over it: how many times the bits at the same error. `None` where codes hold values.
    pub ratio: Option<f64>,
}

/// Measures the rows that `feed` gives, in one pass, beside what `model` makes of them. `progress` gets the rows done, at
/// the end once more before each of the three long computations, and says whether to go on.
///
/// The second moments are summed in f64, row after row, about the mean of the first chunk: the same bits on any number of
/// threads and any CPU. Runs on the current rayon pool. Memory beside reading and encoding: 2 d_in² f64, and up to 4,096 rows.
/// The eigenvalues (two sets, by `nalgebra`, on one thread) take 0.03 s each at d_in 576 and 5 s at 2,048.
///
/// # Errors
/// Those of reading and encoding; [`TrainError::Cancelled`] if `progress` says stop.
pub fn yardsticks(
    model: &Applied,
    feed: &Feed,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Yardsticks, TrainError> {
    let backend = &*model.backend;
    let (rows, d_in) = (feed.rows(), feed.d_in());
    let mut moments = RowMoments::new(d_in);
    let mut second_moment = SecondMoment::new(d_in);
    let mut sample = Sample::new(rows, d_in);
    let mut statistics = Statistics::new(backend.d_sae());
    let mut squared_error = 0.0;
    through(model, feed, |done, x, _, norms, codes| {
        let decoded = model.decode(&codes)?;
        for (row, (x, y)) in x.rows().into_iter().zip(decoded.rows()).enumerate() {
            let (mean, divisor) = norms.map_or((0.0, 1.0), |norms| norms[row]);
            let (mean, divisor) = (f64::from(mean), f64::from(divisor));
            for (&x, &y) in x.iter().zip(y) {
                let error = f64::from(x) - (f64::from(y) * divisor + mean);
                squared_error += error * error;
            }
        }
        moments.add(x.view());
        second_moment.add(x.view());
        sample.add(done, x.view());
        statistics.add(&codes.active()).expect("codes of one model");
        Ok(progress(done + x.nrows()))
    })?;

    let mut go_on = || if progress(rows) { Ok(()) } else { Err(TrainError::Cancelled) };
    let mut missing = Missing::default();
    let variance = moments.squared_deviation();
    let fvu = (variance > 0.0).then(|| squared_error / variance).filter(|fvu| fvu.is_finite());
    let squared_error = squared_error / rows.max(1) as f64;
    let error = Some(squared_error).filter(|error| *error > 0.0 && error.is_finite());
    if fvu.is_none() {
        missing.note("fvu", no_variance(rows));
    }

    let [raw, centred] = second_moment.eigenvalues(&mut go_on)?;
    let entropy_bits = statistics.entropy_bits();
    let bits = model.architecture.kind().is_none().then_some(entropy_bits);
    let gaussian = gaussian(&centred, squared_error, bits, rows, &mut missing);
    for (name, eigenvalues, why) in
        [("raw", &raw, nothing_but_zeros(rows)), ("centred", &centred, no_variance(rows))]
    {
        if eigenvalues.rank() == 0 {
            missing.note(name, why);
        } else if error.is_none() {
            missing.note(&format!("{name}.codingRateBits"), wrong_error(squared_error));
        }
    }

    go_on()?;
    let two_nn = two_nn::two_nn(sample.rows.view(), SEED).unwrap_or_else(|(two_nn, why)| {
        missing.note("twoNn.dimension", why);
        two_nn
    });
    Ok(Yardsticks {
        rows,
        d_in,
        entropy_bits,
        squared_error,
        fvu,
        raw: Spectrum::of(&raw, d_in, error),
        centred: Spectrum::of(&centred, d_in, error),
        gaussian,
        two_nn,
        missing: missing.0,
    })
}

/// `code_bits`: what the codes take, where that is the entropy of which features are on.
fn gaussian(
    centred: &Eigenvalues,
    squared_error: f64,
    code_bits: Option<f64>,
    rows: usize,
    missing: &mut Missing,
) -> Gaussian {
    let bits = centred.gaussian_bits(squared_error);
    let why = if centred.rank() == 0 {
        no_variance(rows)
    } else if bits.is_none() {
        wrong_error(squared_error)
    } else if bits == Some(0.0) {
        missing.note("gaussian.ratio", "the error is that of the mean or larger, which takes no bits");
        return Gaussian { bits, ratio: None };
    } else {
        if code_bits.is_none() {
            missing.note("gaussian.ratio", "the codes hold values, whose bits are not in entropyBits: rateBits of an evaluation has them");
        }
        return Gaussian { bits, ratio: bits.zip(code_bits).map(|(bits, code_bits)| code_bits / bits) };
    };
    missing.note("gaussian", why);
    Gaussian { bits: None, ratio: None }
}

/// Reasons, by the name of the figure.
#[derive(Default)]
struct Missing(BTreeMap<String, String>);

impl Missing {
    fn note(&mut self, figure: &str, why: &str) {
        self.0.insert(figure.to_owned(), why.to_owned());
    }
}

fn no_variance(rows: usize) -> &'static str {
    match rows {
        0 => "there are no rows",
        1 => "there is one row",
        _ => "all rows are alike",
    }
}

fn nothing_but_zeros(rows: usize) -> &'static str {
    if rows == 0 { no_variance(0) } else { "all rows are 0" }
}

fn wrong_error(squared_error: f64) -> &'static str {
    if squared_error == 0.0 {
        "the reconstruction is exact: a rate without error is infinite"
    } else {
        "the error of the reconstruction is not finite"
    }
}

/// Rows drawn from all, each set of them as likely as any other.
pub(crate) struct Sample {
    /// Which, ascending.
    chosen: Vec<usize>,
    /// The rows themselves, `[n, d_in]`.
    pub rows: Array2<f32>,
    filled: usize,
}

impl Sample {
    /// At most [`SAMPLE_ROWS`] of so many.
    pub fn new(of: usize, d_in: usize) -> Self {
        let count = of.min(SAMPLE_ROWS);
        let mut chosen = rand::seq::index::sample(&mut ChaCha8Rng::seed_from_u64(SEED), of, count).into_vec();
        chosen.sort_unstable();
        Self { chosen, rows: Array2::zeros((count, d_in)), filled: 0 }
    }

    /// Takes what is chosen of `x`, whose first row has this number.
    pub fn add(&mut self, first: usize, x: ArrayView2<f32>) {
        while let Some(&row) = self.chosen.get(self.filled).filter(|&&row| row < first + x.nrows()) {
            self.rows.slice_mut(s![self.filled, ..]).assign(&x.row(row - first));
            self.filled += 1;
        }
    }
}

#[cfg(test)]
mod tests;

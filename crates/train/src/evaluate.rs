//! What a model makes of rows, and how well: the figures that training watches, and those of `bae evaluate`, which stand beside
//! controls.

mod controls;
mod frozen;
mod rate;
mod reconstruction;
mod report;
mod ridge;

pub use controls::{Control, Controls};
pub use reconstruction::Reconstruction;
pub use report::{
    ControlledEvaluation, EvaluationFigures, EvaluationGroup, EvaluationOptions, evaluate_with_controls,
};

use crate::TrainError;
use bae_codes::{BitMatrix, Sparsity, Statistics, ValueMatrix};
use bae_data::{Feed, RowMoments};
use bae_model::{Architecture, Backend, ModelError, layer_norm};
use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Rows that are read and encoded at once, at most ...
const CHUNK: usize = 2048;
/// ... and their pre-activations, at most (64 MiB).
const CHUNK_VALUES: usize = 1 << 24;

/// Rows that the covariance is measured on, at most: its cost grows with rows · d_sae².
const COVARIANCE_ROWS: usize = 16_384;

/// What a model makes of rows of hidden states, over all rows named. Where they have targets, x below is the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Rows measured.
    pub rows: usize,
    /// Mean over rows and dimensions of (x − x̂)², in the squared units of the hidden states.
    pub mse: f64,
    /// Share of the variance that is not explained: E|x − x̂|² / (E|x|² − |E x|²).
    #[serde(deserialize_with = "nan_from_null")]
    pub fvu: f64,
    /// 1 − fvu.
    #[serde(deserialize_with = "nan_from_null")]
    pub explained_variance: f64,
    /// Σ_{i≠j} |Cov_ij| of the codes (of the first 16,384 rows where there are more); NaN of codes that hold values.
    #[serde(deserialize_with = "nan_from_null")]
    pub covariance: f64,
    /// What was counted on the codes.
    #[serde(flatten)]
    pub codes: Sparsity,
}

/// JSON has no NaN.
fn nan_from_null<'de, D: serde::Deserializer<'de>>(value: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(value)?.unwrap_or(f64::NAN))
}

/// A model on an engine, that takes raw hidden states.
pub struct Applied {
    /// The engine that holds its parameters.
    pub backend: Box<dyn Backend>,
    /// What it computes.
    pub architecture: Architecture,
    /// Whether rows are brought to mean 0 and variance 1 before they are encoded ([`layer_norm`]).
    pub layer_norm: bool,
}

/// What a model makes of rows.
#[derive(Clone, Debug)]
pub enum Codes {
    /// Features that are on or off.
    Bits(BitMatrix),
    /// Features that are on, with their values.
    Values(ValueMatrix),
}

impl Codes {
    /// Which features are on.
    pub fn active(&self) -> Cow<'_, BitMatrix> {
        match self {
            Self::Bits(bits) => Cow::Borrowed(bits),
            Self::Values(values) => Cow::Owned(values.active()),
        }
    }

    /// All values, `[rows, d_sae]` row-major; bits are 0 and 1.
    pub fn dense(&self) -> Vec<f32> {
        match self {
            Self::Bits(bits) => ValueMatrix::from(bits).dense(),
            Self::Values(values) => values.dense(),
        }
    }
}

impl Applied {
    /// Codes of rows `[n, d_in]` that are layer-normalised where the model asks for it.
    ///
    /// # Errors
    /// As [`Backend::values`].
    pub fn encode(&self, x: ArrayView2<f32>) -> Result<Codes, ModelError> {
        Ok(match self.architecture.kind() {
            None => Codes::Bits(self.backend.encode(&self.architecture, x)?),
            Some(_) => Codes::Values(self.backend.values(&self.architecture, x)?),
        })
    }

    /// Outputs `[n, d_out]` of codes, as the decoder gives them: of layer-normalised rows where the model asks for it.
    ///
    /// # Errors
    /// As [`Backend::decode_values`].
    pub fn decode(&self, codes: &Codes) -> Result<Array2<f32>, ModelError> {
        match codes {
            Codes::Bits(bits) => self.backend.decode(&self.architecture, bits),
            Codes::Values(values) => self.backend.decode_values(&self.architecture, values),
        }
    }
}

/// Encodes the rows that `feed` gives, chunk by chunk: `each` gets the rows done before, the hidden states and their
/// codes, and says whether to go on.
///
/// # Errors
/// Those of reading and encoding; [`TrainError::Cancelled`] if `each` says stop.
pub fn encode_chunks(
    model: &Applied,
    feed: &Feed,
    mut each: impl FnMut(usize, &Array2<f32>, BitMatrix) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    through(model, feed, |done, x, _, _, codes| {
        each(
            done,
            x,
            match codes {
                Codes::Bits(bits) => bits,
                Codes::Values(values) => values.active(),
            },
        )
    })
}

/// Measures a model on the rows that `feed` gives. `progress` gets the rows done and says whether to go on.
///
/// # Errors
/// As [`encode_chunks`].
pub fn evaluate(
    model: &Applied,
    feed: &Feed,
    progress: impl FnMut(usize) -> bool,
) -> Result<Evaluation, TrainError> {
    Ok(measure(model, feed, &Array1::ones(feed.d_out()), progress)?.0)
}

/// [`evaluate`], and the mean squared error in units of `scale` `[d_out]`: that of the space where training works.
pub(crate) fn measure(
    model: &Applied,
    feed: &Feed,
    scale: &Array1<f32>,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<(Evaluation, f64), TrainError> {
    let backend = &*model.backend;
    let mut moments = RowMoments::new(feed.d_out());
    let mut statistics = Statistics::new(backend.d_sae());
    let mut kept = BitMatrix::zeros(0, backend.d_sae());
    let (mut squared_error, mut scaled_error) = (0.0, 0.0);
    let per_dimension = scale.mapv(|scale| (f64::from(scale) * f64::from(scale)).recip());
    let holds_values = model.architecture.kind().is_some();
    through(model, feed, |done, _, x, norms, codes| {
        let decoded = model.decode(&codes)?;
        for (row, (x, y)) in x.rows().into_iter().zip(decoded.rows()).enumerate() {
            let (mean, divisor) = norms.map_or((0.0, 1.0), |norms| norms[row]);
            let (mean, divisor) = (f64::from(mean), f64::from(divisor));
            let mut scaled = 0.0;
            for ((&x, &y), weight) in x.iter().zip(y).zip(&per_dimension) {
                let error = f64::from(x) - (f64::from(y) * divisor + mean);
                squared_error += error * error;
                scaled += error * error * weight;
            }
            scaled_error += scaled / (divisor * divisor);
        }
        moments.add(x.view());
        let active = codes.active();
        statistics.add(&active).expect("codes of one model");
        if !holds_values && kept.rows() < COVARIANCE_ROWS {
            kept.append(&active).expect("codes of one model");
        }
        Ok(progress(done + x.nrows()))
    })?;
    let rows = statistics.rows() as usize;
    let values = (rows * feed.d_out()).max(1) as f64;
    let variance = moments.squared_deviation();
    let fvu = if variance > 0.0 { squared_error / variance } else { f64::NAN };
    let evaluation = Evaluation {
        rows,
        mse: squared_error / values,
        fvu,
        explained_variance: 1.0 - fvu,
        covariance: if holds_values { f64::NAN } else { backend.covariance(&kept)? },
        codes: Sparsity::from(&statistics),
    };
    Ok((evaluation, scaled_error / values))
}

/// Rows that are measured together.
pub(crate) fn measured_rows(d_sae: usize) -> usize {
    CHUNK.min(CHUNK_VALUES.div_ceil(d_sae))
}

/// Means and divisors that layer normalisation took from the rows, if the model asks for it.
pub(crate) type Norms<'a> = Option<&'a [(f32, f32)]>;

/// [`encode_chunks`], where `each` gets, behind the hidden states, what the model is to make of them (the hidden states or their
/// targets), what layer normalisation took away, and codes with their values.
pub(crate) fn through(
    model: &Applied,
    feed: &Feed,
    mut each: impl FnMut(usize, &Array2<f32>, &Array2<f32>, Norms, Codes) -> Result<bool, TrainError>,
) -> Result<(), TrainError> {
    let chunk = measured_rows(model.backend.d_sae());
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, chunk, 0);
        let mut done = 0;
        while let Some(x) = batches.next() {
            let (x, targets) = feed.apart(x?);
            let targets = targets.as_ref().unwrap_or(&x);
            let going_on = if model.layer_norm {
                let mut normalised = x.clone();
                let norms = layer_norm(normalised.view_mut());
                let codes = model.encode(normalised.view())?;
                each(done, &x, targets, Some(&norms), codes)?
            } else {
                let codes = model.encode(x.view())?;
                each(done, &x, targets, None, codes)?
            };
            done += x.nrows();
            if !going_on {
                return Err(TrainError::Cancelled);
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests;

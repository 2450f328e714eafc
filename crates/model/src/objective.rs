use crate::architectures::Kind;
use crate::backend::check_width;
use crate::{Activation, Estimator, ModelError, OutputActivation};
use ndarray::ArrayView2;

/// What is computed between input and output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Architecture {
    /// The code.
    pub activation: Activation,
    /// The output.
    pub output: OutputActivation,
}

impl Architecture {
    /// A Binary Autoencoder with a linear decoder.
    pub fn binary(estimator: Estimator) -> Self {
        Self { activation: Activation::Binary(estimator), output: OutputActivation::None }
    }

    /// The gradient estimator, if codes are bits.
    pub fn estimator(&self) -> Option<Estimator> {
        match self.activation {
            Activation::Binary(estimator) => Some(estimator),
            _ => None,
        }
    }

    /// An architecture whose codes hold values.
    pub fn of(kind: Kind) -> Self {
        Self { activation: Activation::Values(kind), output: OutputActivation::None }
    }

    /// Which of [`crate::architectures`] it is, if any.
    pub fn kind(&self) -> Option<Kind> {
        match self.activation {
            Activation::Values(kind) => Some(kind),
            _ => None,
        }
    }
}

/// Rows that one step learns from.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Hidden states, `[n, d_in]`.
    pub x: ArrayView2<'a, f32>,
    /// What the output should be.
    pub target: Target<'a>,
}

impl Batch<'_> {
    /// Refuses a batch that a model of these widths can make nothing of.
    ///
    /// # Errors
    /// [`ModelError::Shape`], [`ModelError::Rows`], [`ModelError::Empty`].
    pub fn check(&self, d_in: usize, d_out: usize) -> Result<(), ModelError> {
        check_width("the batch", d_in, self.x.ncols())?;
        let rows = self.x.nrows();
        let as_many = |got| if got == rows { Ok(()) } else { Err(ModelError::Rows { rows, got }) };
        if rows == 0 {
            return Err(ModelError::Empty);
        }
        match self.target {
            Target::Input => check_width("the output", d_out, self.x.ncols()),
            Target::States(states) => {
                check_width("the target", d_out, states.ncols())?;
                as_many(states.nrows())
            }
            Target::Labels(labels) => {
                as_many(labels.len())?;
                let largest = labels.iter().max().map_or(0, |&label| label as usize);
                if largest < d_out {
                    return Ok(());
                }
                Err(ModelError::Shape { what: "a label", expected: d_out, got: largest })
            }
        }
    }
}

/// What the output of a row should be.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// The input: an autoencoder.
    Input,
    /// Other states, `[n, d_out]`: a transcoder.
    States(ArrayView2<'a, f32>),
    /// A class for each row, `[n]`, each less than d_out: the mean softmax cross-entropy takes the squared error's place.
    Labels(&'a [u32]),
}

/// The loss of a batch: mean squared error + weights · penalties (section 4 of the design).
///
/// loss = mean over n · d_out of (y − target)² + entropy_weight · Σ_j H(p_j) + covariance_weight · Σ_{i≠j} |Cov_ij|
/// + l1_weight · Σ |h|, with H in bits and 1e-10 inside each logarithm, and Cov with divisor n − 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Objective {
    /// In units of squared error for each bit of Σ_j H(p_j).
    pub entropy_weight: f64,
    /// In units of squared error for each unit of Σ_{i≠j} |Cov_ij|.
    pub covariance_weight: f64,
    /// The entropy term counts as 0 while Σ_j H(p_j) is below this many bits.
    pub entropy_threshold: f64,
    /// In units of squared error for each unit of Σ |h|; for real-valued codes as published.
    pub l1_weight: f64,
    /// In units of squared error for each unit of the architecture's sparsity penalty, a mean over rows ([`crate::architectures`]).
    pub sparsity_weight: f64,
    /// Does as the published code does where that is a defect: the covariance of one row is NaN (else 0, no term),
    /// and a batch whose pre-activations are NaN gives NaN (else an error).
    pub as_published: bool,
}

/// What one step measured on its batch, before the update.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepStats {
    /// The whole objective.
    pub loss: f64,
    /// Mean squared error over n · d_out values (mean cross-entropy where the target is labels).
    pub mse: f64,
    /// Σ_j H(p_j) over this batch, in bits, as the loss smooths it; not gated by the threshold.
    pub entropy_bits: f64,
    /// Σ_{i≠j} |Cov_ij| over this batch.
    pub covariance: f64,
    /// Σ |h| over this batch (real-valued codes as published only).
    pub l1: f64,
    /// The architecture's sparsity penalty, before its weight.
    pub sparsity: f64,
    /// What nested reconstructions add to the squared error: their mean is the loss.
    pub nested: f64,
    /// The auxiliary loss, with its weight.
    pub auxiliary: f64,
    /// Share of rows whose largest output is the label, where the target is labels.
    pub accuracy: Option<f64>,
    /// 2-norm of all gradients before clipping and weight decay, where they are clipped.
    pub gradient_norm: Option<f64>,
}

impl Objective {
    /// The entropy that enters the loss: 0 while below the threshold (strictly).
    pub fn gated(&self, entropy_bits: f64) -> f64 {
        if entropy_bits < self.entropy_threshold { 0.0 } else { entropy_bits }
    }

    /// Whether the entropy sends a gradient: not while gated, nor where it is exactly 0, its minimum.
    pub fn entropy_pulls(&self, entropy_bits: f64) -> bool {
        self.gated(entropy_bits) != 0.0
    }

    /// Σ_{i≠j} |Cov_ij| from Σ_{i≠j} |D_ij|. One row has no covariance: 0, or NaN as published.
    pub fn covariance(&self, absolute_sum: f64, rows: usize) -> f64 {
        match rows {
            0 | 1 if self.as_published => f64::NAN,
            0 | 1 => 0.0,
            n => absolute_sum / (n as f64 * (n as f64 - 1.0)),
        }
    }

    /// Sums the terms into `stats.loss`.
    pub fn total(&self, stats: &mut StepStats) {
        stats.loss = stats.mse
            + self.entropy_weight * self.gated(stats.entropy_bits)
            + self.covariance_weight * stats.covariance
            + self.l1_weight * stats.l1
            + self.sparsity_weight * stats.sparsity
            + stats.nested
            + stats.auxiliary;
    }
}

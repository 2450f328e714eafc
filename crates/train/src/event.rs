use crate::{EngineReport, Evaluation};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a training run tells while it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// Once, before the first step.
    #[serde(skip_deserializing)]
    Start {
        /// Rows of the data.
        rows: usize,
        /// Rows trained on.
        train_rows: usize,
        /// Rows held out.
        validation_rows: usize,
        /// Rows that a condition leaves out.
        filtered_rows: usize,
        /// Rows left out because they hold a value that is not finite.
        invalid_rows: usize,
        /// Sequences there are, if whole ones are held out.
        sequences: Option<usize>,
        /// Width of a hidden state.
        d_in: usize,
        /// Width of a target, where there are some.
        d_out: Option<usize>,
        /// Features.
        d_sae: usize,
        /// Steps there will be.
        steps: usize,
        /// Epochs there will be, the last one perhaps cut short.
        epochs: usize,
        /// Where it runs.
        #[serde(flatten)]
        engine: EngineReport,
        /// Instruction set of the kernels.
        simd: String,
        /// Bytes for rows that wait, at most.
        buffer_bytes: usize,
        /// Bytes of model, optimiser and a step.
        model_bytes: usize,
    },
    /// While rows are looked at before or after the steps, about once a second.
    Reading {
        /// Rows done.
        rows: usize,
        /// Rows there are.
        total: usize,
    },
    /// Once, before the first step of a run that goes on: what follows was not done before the checkpoint.
    Resume {
        /// Steps taken before.
        step: usize,
        /// The checkpoint.
        path: PathBuf,
    },
    /// After a step; the loss is that of its batch, before the update, in the units of the training space.
    Step {
        /// Steps taken.
        step: usize,
        /// Steps there will be.
        steps: usize,
        /// Epoch, from 1.
        epoch: usize,
        /// Epochs there will be.
        epochs: usize,
        /// mse + weights · penalties.
        loss: f64,
        /// Mean squared error.
        mse: f64,
        /// Σ_j H(p_j) over the batch, in bits.
        batch_entropy_bits: f64,
        /// Σ_{i≠j} |Cov_ij| over the batch.
        covariance: f64,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Entropy weight of the step.
        entropy_weight: f64,
        /// Norm of the gradient before it was clipped, where it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        gradient_norm: Option<f64>,
    },
    /// After an epoch: means over its steps.
    Epoch {
        /// Epoch, from 1.
        epoch: usize,
        /// Epochs there will be.
        epochs: usize,
        /// Steps taken.
        step: usize,
        /// Mean loss.
        loss: f64,
        /// Mean of the batches' mean squared errors.
        mse: f64,
        /// Mean of the batches' entropies, in bits.
        batch_entropy_bits: f64,
        /// Mean of the batches' covariances.
        covariance: f64,
        /// Share of the features that were on in none of the epoch's batches.
        idle_fraction: f64,
    },
    /// The held-out rows, measured by the model as it would be saved now.
    Validation(Validation),
    /// Features that had not been on for a while were drawn anew.
    Resample {
        /// Steps taken.
        step: usize,
        /// Features drawn.
        features: usize,
    },
    /// A checkpoint was written.
    Checkpoint {
        /// Steps taken.
        step: usize,
        /// Its folder.
        path: PathBuf,
    },
    /// Something failed without which training goes on.
    Warning {
        /// Steps taken.
        step: usize,
        /// What, where, what to do.
        message: String,
    },
}

/// A measurement of the held-out rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Validation {
    /// Epochs done.
    pub epoch: usize,
    /// Steps taken.
    pub step: usize,
    /// Whether this is the best model so far, by the objective at its final weights.
    pub best: bool,
    /// The figures.
    #[serde(flatten)]
    pub evaluation: Evaluation,
}

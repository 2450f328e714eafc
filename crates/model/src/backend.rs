use crate::{Adam, Architecture, Batch, Moments, Objective, Parameters, Stages, StepStats, TrainingState};
use bae_codes::{BitMatrix, ValueMatrix};
use ndarray::{Array2, ArrayView2};

/// What can go wrong in a step.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Widths do not agree.
    #[error("{what} has width {got}, the model takes {expected}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// Width of the model.
        expected: usize,
        /// Width given.
        got: usize,
    },
    /// A batch of no rows.
    #[error("the batch has no rows: give at least one")]
    Empty,
    /// Targets or labels are not as many as the rows.
    #[error("the batch has {rows} rows and {got} targets: give one for each row")]
    Rows {
        /// Rows of the batch.
        rows: usize,
        /// Targets given.
        got: usize,
    },
    /// Products of the hidden states leave the range of f32.
    #[error(
        "products of the hidden states leave the range of 32-bit numbers; remove rows that are far larger than all others, or scale the data down"
    )]
    TooLarge,
    /// What is asked for is more than the rows have.
    #[error("{0}")]
    Invalid(String),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A pre-activation is NaN: the weights or the row are not finite.
    #[error(
        "row {row} of the batch gives a pre-activation of feature {feature} that is not a number: the weights have diverged or the row is not finite"
    )]
    NotFinite {
        /// Row of the batch, from 0.
        row: usize,
        /// Feature, from 0.
        feature: usize,
    },
    /// The norm that gradients are to be clipped by is infinite or NaN.
    #[error(
        "the norm of the batch's gradients is not finite: the weights have diverged or a row is far too large; lower the learning rate or scale the data down"
    )]
    GradientNotFinite,
    /// A device that is not there, or cannot do what is asked of it.
    #[error("{0}")]
    Unavailable(String),
    /// A device that stopped answering.
    #[error("{0}")]
    DeviceLost(String),
    /// A device without memory for what is asked of it.
    #[error("{0}")]
    DeviceMemory(String),
    /// A device that refused a command: a defect of this library or of a driver.
    #[error("the device failed: {0}")]
    Device(String),
}

/// Refuses `what` unless it is as wide as the model takes.
///
/// # Errors
/// [`ModelError::Shape`].
pub fn check_width(what: &'static str, expected: usize, got: usize) -> Result<(), ModelError> {
    if expected == got { Ok(()) } else { Err(ModelError::Shape { what, expected, got }) }
}

/// Everything one step computes, in f64, for tests and for looking into.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Pre-activations, `[n, d_sae]`.
    pub z: Array2<f64>,
    /// Codes, `[n, d_sae]`: 0 and 1 where they are bits.
    pub h: Array2<f64>,
    /// Outputs, `[n, d_out]`.
    pub y: Array2<f64>,
    /// Gradient of the loss by the outputs, `[n, d_out]`.
    pub grad_y: Array2<f64>,
    /// Gradient by the codes, before the estimator, `[n, d_sae]`. Where the estimator lets no gradient through, an engine
    /// may leave out parts of it.
    pub grad_h: Array2<f64>,
    /// Gradient by the pre-activations, `[n, d_sae]`.
    pub grad_z: Array2<f64>,
    /// Gradient by the parameters.
    pub gradient: Parameters<f64>,
    /// The losses.
    pub stats: StepStats,
}

/// An engine that holds the parameters of one model and trains or applies them.
pub trait Backend: Send {
    /// Number of features.
    fn d_sae(&self) -> usize;

    /// One training step: forward, backward, Adam. The statistics are those before the update.
    ///
    /// # Errors
    /// [`ModelError`]; the state is then as before. [`ModelError::GradientNotFinite`] only where gradients are clipped.
    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError>;

    /// As [`Backend::step`], but an engine that computes elsewhere need not wait: it may return the statistics of an
    /// earlier step, in the order of the steps, or none yet. [`Backend::catch_up`] returns those still outstanding.
    ///
    /// # Errors
    /// [`ModelError`], perhaps of an earlier step: that one and all begun after it have then changed nothing.
    fn step_ahead(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<Option<StepStats>, ModelError> {
        self.step(architecture, objective, adam, batch).map(Some)
    }

    /// Statistics of the oldest step begun that [`Backend::step_ahead`] has not returned, waited for; `None` if there is
    /// none.
    ///
    /// # Errors
    /// As [`Backend::step_ahead`].
    fn catch_up(&mut self) -> Result<Option<StepStats>, ModelError> {
        Ok(None)
    }

    /// Forward and backward without an update, with everything in between.
    ///
    /// # Errors
    /// [`ModelError`].
    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError>;

    /// Codes of hidden states `[n, d_in]`; of a model whose codes are no bits, which of them are not 0.
    ///
    /// # Errors
    /// [`ModelError`].
    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError>;

    /// Outputs `[n, d_out]` of codes.
    ///
    /// # Errors
    /// [`ModelError::Shape`].
    fn decode(&self, architecture: &Architecture, codes: &BitMatrix) -> Result<Array2<f32>, ModelError>;

    /// Codes of hidden states `[n, d_in]` with their values, whatever the architecture: a bit's is 1.
    ///
    /// # Errors
    /// [`ModelError`].
    fn values(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<ValueMatrix, ModelError> {
        Ok(ValueMatrix::from(&self.encode(architecture, x)?))
    }

    /// Outputs `[n, d_out]` of codes that hold values.
    ///
    /// # Errors
    /// [`ModelError::Shape`]; [`ModelError::Unavailable`] of an engine for bits.
    fn decode_values(&self, _: &Architecture, _: &ValueMatrix) -> Result<Array2<f32>, ModelError> {
        Err(ModelError::Unavailable("this engine decodes bits: give it codes that are bits".into()))
    }

    /// Σ_{i≠j} |Cov_ij| of all rows of `codes`, with divisor rows − 1; 0 for fewer than two rows.
    ///
    /// # Errors
    /// [`ModelError`].
    fn covariance(&self, codes: &BitMatrix) -> Result<f64, ModelError>;

    /// A copy of the parameters.
    ///
    /// # Errors
    /// Those of a device.
    fn parameters(&self) -> Result<Parameters, ModelError>;

    /// A copy of the optimiser's moments.
    ///
    /// # Errors
    /// Those of a device.
    fn moments(&self) -> Result<Moments, ModelError>;

    /// For each feature the steps since it was last on for a row of a step's batch (h > 0 where codes are not bits),
    /// `[d_sae]`; steps that failed do not count.
    ///
    /// # Errors
    /// Those of a device.
    fn idle(&self) -> Result<Vec<u32>, ModelError>;

    /// A copy of all that the steps so far left behind. [`Backend::catch_up`] comes first: steps whose statistics are
    /// outstanding may still fail.
    ///
    /// # Errors
    /// Those of a device.
    fn state(&self) -> Result<TrainingState, ModelError> {
        Ok(TrainingState { parameters: self.parameters()?, moments: self.moments()?, idle: self.idle()? })
    }

    /// Goes on from a state in place of its own: the steps that follow give the same bits as on the engine that the
    /// state is of (one of the same precision: on the CPU whatever its threads, on a GPU the same device with room for as
    /// many rows). [`Backend::catch_up`] comes first. The state holds f32, to which the reference rounds.
    ///
    /// # Errors
    /// [`ModelError::Shape`], and nothing has changed; those of a device.
    fn restore(&mut self, state: &TrainingState) -> Result<(), ModelError>;

    /// Where the time of all steps taken so far went; all 0 where an engine does not measure it.
    fn stages(&self) -> Stages {
        Stages::default()
    }
}

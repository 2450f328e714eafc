use bae_codes::CodesError;
use bae_data::DataError;
use bae_model::ModelError;
use std::path::PathBuf;

/// What can end a training run or an evaluation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An option, or two that contradict each other.
    #[error("{0}")]
    Option(String),
    /// The data, a model or an output.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Counts of codes.
    #[error(transparent)]
    Codes(#[from] CodesError),
    /// A step.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Models that cannot be compared.
    #[error("{0}")]
    Models(String),
    /// The run would not fit in memory.
    #[error("{0}")]
    Memory(String),
    /// The loss stopped being a number.
    #[error("the loss is not finite at step {step} ({cause}); lower the learning rate or the weights")]
    Diverged {
        /// Steps taken when it was seen.
        step: usize,
        /// What was seen.
        cause: String,
    },
    /// The model could not be written at the end.
    #[error("{error}; the training itself is kept in {}: resume it to write the model again", checkpoint.display())]
    Unsaved {
        /// Why.
        error: Box<TrainError>,
        /// The last checkpoint.
        checkpoint: PathBuf,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl TrainError {
    /// Whether the caller asked for it.
    pub(crate) fn is_cancel(&self) -> bool {
        matches!(
            self,
            TrainError::Cancelled
                | TrainError::Model(ModelError::Cancelled)
                | TrainError::Data(DataError::Cancelled)
        )
    }

    /// The code of section 3 of the design.
    pub fn code(&self) -> &'static str {
        match self {
            TrainError::Option(_) => "INVALID_ARGUMENT",
            TrainError::Data(error) => error.code(),
            TrainError::Codes(error) => error.code(),
            TrainError::Models(_)
            | TrainError::Model(ModelError::Shape { .. } | ModelError::Rows { .. } | ModelError::Empty) => {
                "SHAPE_MISMATCH"
            }
            TrainError::Model(ModelError::Invalid(_)) => "INVALID_ARGUMENT",
            TrainError::Model(ModelError::Cancelled) => "CANCELLED",
            TrainError::Model(ModelError::Unavailable(_)) => "DEVICE_UNAVAILABLE",
            TrainError::Model(ModelError::DeviceLost(_)) => "DEVICE_LOST",
            TrainError::Model(ModelError::DeviceMemory(_)) => "OUT_OF_MEMORY",
            TrainError::Model(ModelError::Device(_)) => "INTERNAL",
            TrainError::Model(_) | TrainError::Diverged { .. } => "NOT_FINITE",
            TrainError::Memory(_) => "OUT_OF_MEMORY",
            TrainError::Unsaved { error, .. } => error.code(),
            TrainError::Cancelled => "CANCELLED",
        }
    }
}

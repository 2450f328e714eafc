//! What training takes, stated before it starts.

use crate::evaluate::measured_rows;
use crate::{Plan, TrainError};

/// Rows that centre, scale and directions are measured on, at most ...
pub(crate) const SAMPLE_ROWS: usize = 16_384;
/// ... and their values, at most (256 MiB).
const SAMPLE_VALUES: usize = 1 << 26;
/// Rows of a sample that say little about larger data.
pub(crate) const LEAST_SAMPLE: usize = 512;
/// Bytes for rows that are measured again and again, at most.
const MEASURING: usize = 64 << 20;
/// Bytes for the windows that rows are read through once, at most: reading ahead needs no more, and nothing comes of keeping
/// them.
pub const READ_ONCE: usize = 16 << 20;

/// Bytes that the process takes beside model and rows: 60 MiB are Node's.
const PROCESS: usize = 128 << 20;

/// How the bytes of `--memory` are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// For rows that wait to be trained on.
    pub training: usize,
    /// For rows that wait to be measured.
    pub measuring: usize,
    /// Rows of the sample that training starts from.
    pub sample: usize,
}

impl Shares {
    /// A part is left to reading, to batches and to the process itself, with what the allocator keeps.
    pub fn new(memory: usize, d_in: usize) -> Self {
        let waiting = memory - PROCESS.clamp(memory / 4, memory / 2);
        let measuring = (waiting / 4).min(MEASURING);
        // rows, their projections and those sorted, twice, beside all rows where they are kept: half of the memory
        let sample = SAMPLE_ROWS.min(SAMPLE_VALUES / d_in).min(memory / (32 * d_in)).max(2);
        Self { training: waiting - measuring, measuring, sample }
    }
}

impl Plan {
    /// Bytes of model, optimiser and one step.
    pub(crate) fn model_bytes(&self, d_in: usize, training_rows: usize) -> usize {
        let batch = self.batch_size.min(training_rows);
        // parameters and two moments, the same once more and folded while a checkpoint is written, the model kept as the best
        let models =
            8 + usize::from(self.clip_norm.is_some()) + 2 * usize::from(self.resample_every.is_some());
        let step = step_bytes(d_in, self.d_sae, batch, models);
        // rows that are measured, their pre-activations and what is made of them again
        let measured = measured_rows(self.d_sae).min(training_rows);
        step.saturating_add(4 * measured.saturating_mul((2 * d_in).saturating_add(self.d_sae)))
    }

    /// Asks the system for all that training takes at once, and gives it back: running out of memory later would end
    /// the process.
    ///
    /// # Errors
    /// [`TrainError::Memory`] with the bytes.
    pub(crate) fn check_memory(&self, d_in: usize, rows: usize, waiting: usize) -> Result<(), TrainError> {
        ask_memory(self.model_bytes(d_in, rows).saturating_add(waiting), || {
            format!(
                "training {} features on {d_in} values in batches of {}",
                self.d_sae,
                self.batch_size.min(rows)
            )
        })
    }
}

/// Bytes that steps take, with so many times the model's own size for parameters, moments and copies (the formula of
/// docs/performance.md, without the threads' own memory).
pub(crate) fn step_bytes(d_in: usize, d_sae: usize, batch: usize, models: usize) -> usize {
    let model = 2 * d_in.saturating_mul(d_sae);
    // pre-activations, codes with their lists, and signed counts; the rows packed twice, outputs and errors
    let batch = batch.saturating_mul((7 * d_sae / 4).saturating_add(6 * d_in));
    // signs of all pairs, a bit each, the tables of the sparse way, and in small batches the pairs without a sign
    let pairs = d_sae.saturating_mul(d_sae) / 2;
    4usize.saturating_mul(models.saturating_mul(model).saturating_add(batch).saturating_add(pairs))
}

/// Asks the system for so many bytes at once, and gives them back.
pub(crate) fn ask_memory(bytes: usize, what: impl FnOnce() -> String) -> Result<(), TrainError> {
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| {
        TrainError::Memory(format!(
            "{} takes about {:.1} GiB, which this system does not give; lower dSae or batchSize",
            what(),
            bytes as f64 / f64::from(1 << 30)
        ))
    })
}

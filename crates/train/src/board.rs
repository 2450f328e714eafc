use crate::run_folder::remove_file;
use crate::tensorboard::Writer;
use crate::{Event, TrainError, Validation};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Folder of the event files, in that of the training.
pub(crate) const FOLDER: &str = "tensorboard";

/// Deletes the event files of earlier trainings, and nothing else, from the folder `dir` of a training.
///
/// # Errors
/// `IO`.
pub(crate) fn delete_files(dir: &Path) -> Result<(), TrainError> {
    for entry in std::fs::read_dir(dir.join(FOLDER)).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("events.out.tfevents.")
            && name.to_string_lossy().contains(".bae.")
        {
            remove_file(&entry.path())?;
        }
    }
    Ok(())
}

/// Shows the figures of events to TensorBoard, under the names that events have.
pub(crate) struct Board(Writer);

impl Board {
    /// Begins an event file in the folder `dir` of a training.
    ///
    /// # Errors
    /// `IO`.
    pub fn create(dir: &Path) -> Result<Self, TrainError> {
        Ok(Self(Writer::create(&dir.join(FOLDER))?))
    }

    /// Adds what an event says in numbers.
    ///
    /// # Errors
    /// `IO`.
    pub fn add(&mut self, event: &Event) -> Result<(), TrainError> {
        let (step, figures) = match event {
            Event::Step {
                step,
                loss,
                mse,
                batch_entropy_bits,
                covariance,
                learning_rate,
                gradient_norm,
                ..
            } => {
                let mut figures = vec![
                    ("step/loss", *loss),
                    ("step/mse", *mse),
                    ("step/batchEntropyBits", *batch_entropy_bits),
                    ("step/covariance", *covariance),
                    ("step/learningRate", *learning_rate),
                ];
                figures.extend(gradient_norm.map(|norm| ("step/gradientNorm", norm)));
                (*step, figures)
            }
            Event::Epoch { step, idle_fraction, .. } => (*step, vec![("epoch/idleFraction", *idle_fraction)]),
            Event::Validation(Validation { step, evaluation, .. }) => {
                let codes = &evaluation.codes;
                let figures = vec![
                    ("validation/mse", evaluation.mse),
                    ("validation/fvu", evaluation.fvu),
                    ("validation/explainedVariance", evaluation.explained_variance),
                    ("validation/entropyBits", codes.entropy_bits),
                    ("validation/covariance", evaluation.covariance),
                    ("validation/l0", codes.l0),
                    ("validation/density", codes.density),
                    ("validation/deadFraction", codes.dead_fraction),
                    ("validation/alwaysOnFraction", codes.always_on_fraction),
                    ("validation/denseFraction", codes.dense_fraction),
                ];
                (*step, figures)
            }
            _ => return Ok(()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        for (tag, value) in figures {
            self.0.scalar(step as u64, now, tag, value as f32)?;
        }
        // steps may wait, so that they cost nothing
        if matches!(event, Event::Step { .. }) { Ok(()) } else { self.0.flush() }
    }
}

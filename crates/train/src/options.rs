use crate::schedule::LearningRate;
use crate::{Task, TrainError};
use bae_data::Dataset;
use bae_gpu::{Wanted, Widths};
use bae_model::initial::{self, Quantiser, Typical};
use bae_model::{Adam, Architecture, Estimator, Normalisation, Objective, Parameters, Precision};
use ndarray::Array2;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Options of a training run, under the names that JSON, Node and (hyphenated) the command line use.
///
/// What is not given comes from the preset.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrainOptions {
    /// The recipe: `default` (see docs/training.md) or `reference`, the published settings.
    pub preset: Preset,
    /// Features for each dimension of a hidden state; 4 unless given.
    pub expansion: Option<f64>,
    /// Features; instead of `expansion`.
    pub d_sae: Option<usize>,
    /// What replaces the step function's gradient.
    pub estimator: Option<EstimatorName>,
    /// Width of the sigmoid or rectangle estimator, in units of the pre-activation.
    pub gradient_width: Option<f64>,
    /// Passes over the training rows.
    pub epochs: Option<usize>,
    /// Training steps; instead of `epochs`.
    pub steps: Option<usize>,
    /// Rows a step.
    pub batch_size: usize,
    /// Adam's learning rate at its highest.
    pub learning_rate: Option<f64>,
    /// Weight of Σ_j H(p_j).
    pub entropy_weight: Option<f64>,
    /// Weight of Σ_{i≠j} |Cov_ij|.
    pub covariance_weight: Option<f64>,
    /// Epoch, from 0, in which the entropy term begins.
    pub entropy_start_epoch: Option<usize>,
    /// Share of the rows held out for validation: at least 0, less than 1.
    pub validation_fraction: f64,
    /// Whether rows are shuffled each epoch (and split at random).
    pub shuffle: bool,
    /// Whether training centres and scales its input.
    pub normalize: Option<Normalize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Where to compute: `auto`, `cpu`, `gpu`, or a device by index or name.
    pub device: Wanted,
    /// Threads; 0 for the physical cores.
    pub threads: usize,
    /// Precision of the training steps' products.
    pub precision: Precision,
    /// Folder to save the model in.
    pub out: Option<PathBuf>,
    /// Whether `out` may replace what is there.
    pub overwrite: bool,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            preset: Preset::Default,
            expansion: None,
            d_sae: None,
            estimator: None,
            gradient_width: None,
            epochs: None,
            steps: None,
            batch_size: 512,
            learning_rate: None,
            entropy_weight: None,
            covariance_weight: None,
            entropy_start_epoch: None,
            validation_fraction: 0.2,
            shuffle: true,
            normalize: None,
            seed: 0,
            device: Wanted::Auto,
            threads: 0,
            precision: Precision::F32,
            out: None,
            overwrite: false,
        }
    }
}

/// A named set of settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// The recipe that docs/training.md justifies by experiment.
    #[default]
    Default,
    /// The published settings and behaviour, exactly.
    Reference,
}

/// Names of the gradient estimators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EstimatorName {
    /// [`Estimator::Identity`].
    Identity,
    /// [`Estimator::Sigmoid`].
    Sigmoid,
    /// [`Estimator::Rectangle`].
    Rectangle,
    /// [`Estimator::ReferenceSigmoid`].
    ReferenceSigmoid,
    /// [`Estimator::Squarewave`].
    Squarewave,
}

impl EstimatorName {
    /// The estimator of this width, in units of the pre-activation.
    pub(crate) fn of_width(self, width: Option<f64>) -> Result<Estimator, TrainError> {
        let given = width.is_some();
        let width = positive("gradientWidth", width.unwrap_or(DEFAULT_WIDTH))?;
        Ok(match self {
            EstimatorName::Sigmoid => Estimator::Sigmoid { width },
            EstimatorName::Rectangle => Estimator::Rectangle { width },
            _ if given => {
                let message = "gradientWidth belongs to the estimators sigmoid and rectangle";
                return Err(TrainError::Option(message.into()));
            }
            EstimatorName::Identity => Estimator::Identity,
            EstimatorName::ReferenceSigmoid => Estimator::ReferenceSigmoid,
            EstimatorName::Squarewave => Estimator::Squarewave,
        })
    }
}

/// What is done to hidden states before they are learnt; folded into the saved weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Centred by the mean and divided by the root mean square of what remains, outliers left aside.
    Default,
    /// Nothing.
    None,
}

/// Training runs that give neither epochs nor steps take as many whole epochs as reach this many steps.
const DEFAULT_STEPS: usize = 420;

/// A run's settings, complete and checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Where the settings come from.
    pub preset: Preset,
    /// Features.
    pub d_sae: usize,
    /// What replaces the step function's gradient.
    pub estimator: Estimator,
    /// Steps in all.
    pub steps: usize,
    /// Steps of a whole epoch.
    pub steps_per_epoch: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Adam's learning rate at its highest.
    pub learning_rate: f64,
    /// Weight of Σ_j H(p_j), in units of squared error (of the training space) a bit.
    pub entropy_weight: f64,
    /// Weight of Σ_{i≠j} |Cov_ij|.
    pub covariance_weight: f64,
    /// First epoch of the entropy term.
    pub entropy_start_epoch: usize,
    /// What is done to the input.
    pub normalize: Normalize,
    /// Share of the rows held out.
    pub validation_fraction: f64,
    /// Whether rows are shuffled.
    pub shuffle: bool,
    /// Precision of the training steps' products.
    pub precision: Precision,
    /// Seed of everything random.
    pub seed: u64,
}

impl TrainOptions {
    /// Whether the held-out rows are drawn at random; the published code takes the last ones.
    pub(crate) fn splits_at_random(&self) -> bool {
        self.shuffle && self.preset == Preset::Default
    }

    /// Completes and checks the options for data of this width and number of training rows.
    ///
    /// # Errors
    /// [`TrainError::Option`] naming the option, its value and what it may be.
    pub fn plan(&self, d_in: usize, training_rows: usize) -> Result<Plan, TrainError> {
        let reference = self.preset == Preset::Reference;
        let refuse = |message: String| Err(TrainError::Option(message));
        let d_sae = match (self.d_sae, self.expansion) {
            (Some(_), Some(_)) => return refuse("give dSae or expansion, not both".into()),
            (Some(d_sae), None) => d_sae,
            (None, expansion) => {
                let expansion = positive("expansion", expansion.unwrap_or(4.0))?;
                (expansion * d_in as f64).round() as usize
            }
        };
        if d_sae == 0 || d_sae.checked_mul(d_in).is_none_or(|n| n > 1 << 40) {
            return refuse(format!("dSae is {d_sae}: it must be at least 1 and dSae x dIn at most 2^40"));
        }
        let name = self.estimator.unwrap_or(if reference {
            EstimatorName::ReferenceSigmoid
        } else {
            EstimatorName::Sigmoid
        });
        let estimator = name.of_width(self.gradient_width)?;
        let batch_size = at_least_one("batchSize", self.batch_size)?;
        if self.threads > MAX_THREADS {
            return refuse(format!("threads is {}: it must be at most {MAX_THREADS}", self.threads));
        }
        let steps_per_epoch = training_rows.div_ceil(batch_size);
        let steps = match (self.steps, self.epochs) {
            (Some(_), Some(_)) => return refuse("give epochs or steps, not both".into()),
            (Some(steps), None) => at_least_one("steps", steps)?,
            (None, Some(epochs)) => at_least_one("epochs", epochs)?.saturating_mul(steps_per_epoch),
            (None, None) => DEFAULT_STEPS.div_ceil(steps_per_epoch) * steps_per_epoch,
        };
        let preset = |default: f64, published: f64| if reference { published } else { default };
        Ok(Plan {
            preset: self.preset,
            d_sae,
            estimator,
            steps,
            steps_per_epoch,
            batch_size,
            learning_rate: positive("learningRate", self.learning_rate.unwrap_or(preset(2e-4, 5e-4)))?,
            entropy_weight: not_negative("entropyWeight", self.entropy_weight.unwrap_or(preset(6e-4, 1e-7)))?,
            covariance_weight: not_negative(
                "covarianceWeight",
                self.covariance_weight.unwrap_or(preset(1e-6, 1e-7)),
            )?,
            entropy_start_epoch: self.entropy_start_epoch.unwrap_or(0),
            normalize: self.normalize.unwrap_or(if reference { Normalize::None } else { Normalize::Default }),
            validation_fraction: self.validation_fraction,
            shuffle: self.shuffle,
            precision: self.precision,
            seed: self.seed,
        })
    }
}

/// More threads than this help nowhere and exhaust the system.
pub const MAX_THREADS: usize = 1024;

/// Width of the sigmoid estimator in the default recipe.
const DEFAULT_WIDTH: f64 = 0.25;

pub(crate) fn positive(name: &str, value: f64) -> Result<f64, TrainError> {
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(TrainError::Option(format!("{name} is {value}: it must be above 0")))
}

fn not_negative(name: &str, value: f64) -> Result<f64, TrainError> {
    if value >= 0.0 && value.is_finite() {
        return Ok(value);
    }
    Err(TrainError::Option(format!("{name} is {value}: it must be 0 or more")))
}

fn at_least_one(name: &str, value: usize) -> Result<usize, TrainError> {
    if value > 0 { Ok(value) } else { Err(TrainError::Option(format!("{name} is 0: it must be at least 1"))) }
}

impl Plan {
    /// Epochs begun in all steps.
    pub fn epochs(&self) -> usize {
        self.steps.div_ceil(self.steps_per_epoch)
    }

    /// What is computed.
    pub fn architecture(&self) -> Architecture {
        Architecture::binary(self.estimator)
    }

    /// What the engine is to do.
    pub(crate) fn task(&self, d_in: usize, training_rows: usize) -> Task {
        let widths = Widths { d_in, d_sae: self.d_sae, d_out: d_in };
        Task { precision: self.precision, rows: self.batch_size.min(training_rows), widths }
    }

    /// The objective with all penalties at their full weight.
    pub fn final_objective(&self) -> Objective {
        Objective {
            entropy_weight: self.entropy_weight,
            covariance_weight: self.covariance_weight,
            as_published: self.preset == Preset::Reference,
            ..Objective::default()
        }
    }

    /// The objective of a step in `epoch`, from 1.
    pub(crate) fn objective(&self, epoch: usize) -> Objective {
        let objective = self.final_objective();
        let begun = epoch > self.entropy_start_epoch;
        Objective { entropy_weight: if begun { objective.entropy_weight } else { 0.0 }, ..objective }
    }

    /// The optimiser of the step that follows `done` steps.
    pub(crate) fn adam(&self, done: usize) -> Adam {
        let schedule = match self.preset {
            Preset::Default => LearningRate::WarmUpCosine,
            Preset::Reference => LearningRate::Constant,
        };
        Adam::new(self.learning_rate * schedule.factor(done, self.steps))
    }

    /// Asks the system for all that training takes at once, and gives it back: running out of memory later would end
    /// the process.
    ///
    /// # Errors
    /// [`TrainError::Memory`] with the bytes.
    pub(crate) fn check_memory(&self, d_in: usize, training_rows: usize) -> Result<(), TrainError> {
        let batch = self.batch_size.min(training_rows);
        // parameters and two moments, the model kept as the best, one being measured and its folded copy
        let step = step_bytes(d_in, self.d_sae, batch, 6);
        let sample = 3 * SAMPLE_VALUES.min(training_rows.saturating_mul(d_in));
        ask_memory(step.saturating_add(4 * sample), || {
            format!("training {} features on {d_in} values in batches of {batch}", self.d_sae)
        })
    }

    /// Measures a sample of the training rows and draws what training starts from. Runs on the engine's threads.
    pub(crate) fn begin(
        &self,
        data: &Dataset,
        training: &[usize],
        rng: &mut ChaCha8Rng,
        cancel: &AtomicBool,
    ) -> Result<Start, TrainError> {
        let d_in = data.d_in();
        let sampled = training.len().min(SAMPLE_ROWS).min(SAMPLE_VALUES.div_ceil(d_in));
        let mut rows = Array2::zeros((sampled, d_in));
        data.read_rows(&training[..sampled], rows.view_mut())?;
        let typical = Typical::measure(rows.view());
        let (normalisation, typical) = match self.normalize {
            Normalize::Default => (Normalisation { centre: typical.centre, scale: typical.rms }, 1.0),
            Normalize::None => (Normalisation::none(d_in), typical.rms),
        };
        if self.preset == Preset::Reference {
            return Ok(Start {
                normalisation,
                parameters: initial::published(rng, d_in, self.d_sae),
                noise: 0.0,
            });
        }
        normalisation.apply(rows.view_mut());
        let quantiser =
            Quantiser { rows: rows.view(), typical, entropy_weight: self.entropy_weight, d_sae: self.d_sae };
        let (parameters, step) = quantiser.draw(rng, cancel)?;
        Ok(Start { normalisation, parameters, noise: (NOISE * step) as f32 })
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

/// What training starts from.
pub(crate) struct Start {
    /// The map into the training space.
    pub normalisation: Normalisation,
    /// Parameters there.
    pub parameters: Parameters,
    /// Standard deviation of the noise that the encoder's input gets at each step, in the training space.
    pub noise: f32,
}

/// Input noise of the default recipe, in quantiser steps: it keeps rows from being learnt by heart.
const NOISE: f64 = 0.16;
/// Rows that centre, scale and directions are measured on, at most ...
const SAMPLE_ROWS: usize = 16_384;
/// ... and their values, at most (256 MiB).
const SAMPLE_VALUES: usize = 1 << 26;

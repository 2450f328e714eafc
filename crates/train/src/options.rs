use crate::schedule::{Decay, warm_up};
use crate::{Task, TrainError};
use bae_data::{Condition, Dataset, HoldOut};
use bae_gpu::{Wanted, Widths};
use bae_model::architectures::{Begin, Kind, Settings};
use bae_model::{Adam, Architecture, Estimator, Objective, Parameters, Precision};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// Options of a training run, under the names that JSON, Node and (hyphenated) the command line use.
///
/// What is not given comes from the preset.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrainOptions {
    /// The recipe: `default` and `minimal` (see docs/training.md), or `reference`, the published settings.
    pub preset: Preset,
    /// What is trained: `bae`, or one of [`bae_model::architectures`].
    pub architecture: Option<String>,
    /// Features for each dimension of a hidden state; 4 unless given.
    pub expansion: Option<f64>,
    /// Features; instead of `expansion`.
    pub d_sae: Option<usize>,
    /// What replaces the step function's gradient.
    pub estimator: Option<EstimatorName>,
    /// Width of the estimator of a step's gradient (sigmoid, rectangle, that of an architecture), in units of the pre-activation.
    pub gradient_width: Option<f64>,
    /// Features that are on in a row, of the architectures that fix it.
    pub k: Option<usize>,
    /// Bits of a feature's code, of the architecture `kbit`.
    pub bits: Option<u32>,
    /// Weight of the architecture's sparsity penalty.
    pub sparsity_weight: Option<f64>,
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
    /// What is done to hidden states before they are learnt.
    pub normalize: Option<Normalize>,
    /// How the learning rate goes down.
    pub lr_schedule: Option<Decay>,
    /// Steps over which the learning rate goes up.
    pub warm_up_steps: Option<usize>,
    /// Steps over which the weights of the penalties go up.
    pub penalty_warm_up_steps: usize,
    /// Largest norm of a step's gradient; larger ones are scaled down to it.
    pub clip_norm: Option<f64>,
    /// Steps after which features that were never on since the last time are drawn anew.
    pub resample_every: Option<usize>,
    /// Steps between two measurements of the held-out rows; an epoch unless given.
    pub validate_every: Option<usize>,
    /// Measurements without a better model after which training ends.
    pub patience: Option<usize>,
    /// Seed of everything random.
    pub seed: u64,
    /// Where to compute: `auto`, `cpu`, `gpu`, or a device by index or name.
    pub device: Wanted,
    /// Threads; 0 for the physical cores.
    pub threads: usize,
    /// Precision of the training steps' products.
    pub precision: Precision,
    /// Bytes for hidden states that wait for their turn, and for all that reading takes.
    pub memory: usize,
    /// Conditions that rows must meet, as [`Condition`] reads them.
    #[serde(rename = "where")]
    pub conditions: Vec<String>,
    /// Whether rows that hold a value that is not finite are left out.
    pub skip_invalid: bool,
    /// Folder to save the model in, with what is needed to go on.
    pub out: Option<PathBuf>,
    /// Whether `out` may replace what is there.
    pub overwrite: bool,
    /// Whether to go on from the last checkpoint in `out`.
    pub resume: bool,
    /// Steps between two checkpoints.
    pub checkpoint_every: Option<usize>,
    /// Minutes between two checkpoints; 30 unless given, or steps are.
    pub checkpoint_minutes: Option<f64>,
    /// Checkpoints that are kept.
    pub keep_checkpoints: usize,
    /// Whether to write TensorBoard event files into `out`.
    pub tensorboard: bool,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            preset: Preset::Default,
            architecture: None,
            k: None,
            bits: None,
            sparsity_weight: None,
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
            lr_schedule: None,
            warm_up_steps: None,
            penalty_warm_up_steps: 0,
            clip_norm: None,
            resample_every: None,
            validate_every: None,
            patience: None,
            seed: 0,
            device: Wanted::Auto,
            threads: 0,
            precision: Precision::F32,
            memory: 1 << 30,
            conditions: vec![],
            skip_invalid: false,
            out: None,
            overwrite: false,
            resume: false,
            checkpoint_every: None,
            checkpoint_minutes: None,
            keep_checkpoints: 3,
            tensorboard: false,
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
    /// The same at an entropy weight of 5e-3: only bits that explain a two-hundredth of the variance each, so that noise is left
    /// alone and, where a state is a sum of switched directions, a feature is a switch.
    Minimal,
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
    /// Divided by one number, so that the mean Euclidean norm is the root of d_in.
    MeanNorm,
    /// Each row by itself, to mean 0 and variance 1 ([`bae_model::layer_norm`]). Not folded into the weights, which cannot do it:
    /// `cfg.json` says so, and whoever applies the model does it.
    LayerNorm,
    /// Each dimension to mean 0 and variance 1.
    Standardize,
}

/// Name of the Binary Autoencoder among the architectures ...
pub const BAE: &str = "bae";
/// ... and the training options that are its own.
const BAE_OPTIONS: &[&str] =
    &["gradientWidth", "estimator", "entropyWeight", "covarianceWeight", "resampleEvery", "preset"];

/// Names of all architectures that can be trained.
pub fn architectures() -> impl Iterator<Item = &'static str> {
    [BAE].into_iter().chain(Kind::names().map(|(name, _)| name))
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
    /// What is trained.
    pub architecture: String,
    /// What it is, if its codes hold values.
    #[serde(skip)]
    pub kind: Option<Kind>,
    /// What replaces the step function's gradient, of `bae`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimator: Option<Estimator>,
    /// Width of the architecture's own estimator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradient_width: Option<f64>,
    /// Features that are on in a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Bits of a feature's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits: Option<u32>,
    /// Weight of the architecture's sparsity penalty, in units of squared error (of the training space).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sparsity_weight: Option<f64>,
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
    /// How the learning rate goes down.
    pub lr_schedule: Decay,
    /// Steps over which it goes up first.
    pub warm_up_steps: usize,
    /// Steps over which the weights of the penalties go up.
    pub penalty_warm_up_steps: usize,
    /// Largest norm of a step's gradient.
    pub clip_norm: Option<f64>,
    /// Steps after which idle features are drawn anew.
    pub resample_every: Option<usize>,
    /// Steps between two measurements of the held-out rows.
    pub validate_every: usize,
    /// Measurements without a better model after which training ends.
    pub patience: Option<usize>,
    /// What is done to the input.
    pub normalize: Normalize,
    /// Conditions that rows meet.
    #[serde(rename = "where")]
    pub conditions: Vec<String>,
    /// Whether rows that are not finite were left out.
    pub skip_invalid: bool,
    /// Bytes for waiting rows and reading: the order of the rows depends on it where they do not all fit.
    pub memory: usize,
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
    /// What can be said of these options before a row is read: [`crate::train`] refuses them for the same reasons.
    ///
    /// # Errors
    /// As [`TrainOptions::plan`]; [`TrainError::Data`] for a condition that is none.
    pub fn check(&self, data: &Dataset) -> Result<Plan, TrainError> {
        self.conditions()?;
        self.checkpoint_interval()?;
        if !(0.0..1.0).contains(&self.validation_fraction) {
            return Err(TrainError::Option(format!(
                "validationFraction is {}: it must be at least 0 and less than 1",
                self.validation_fraction
            )));
        }
        let plan = self.plan(data.d_in(), data.rows())?;
        if data.has_target() && plan.normalize == Normalize::LayerNorm {
            return Err(TrainError::Option(
                "normalize is layer-norm, and a target's own mean and size are not in the code: choose another".into(),
            ));
        }
        Ok(plan)
    }

    /// Name of the architecture.
    pub(crate) fn name(&self) -> &str {
        self.architecture.as_deref().unwrap_or(BAE)
    }

    /// Whether an option that not all architectures have belongs to this one.
    fn has(&self, option: &str) -> bool {
        let of = |name: &str| match name {
            BAE => BAE_OPTIONS,
            name => Kind::names().find(|(of, _)| *of == name).map_or(&[][..], |(_, options)| options),
        };
        of(self.name()).contains(&option)
    }

    /// The architecture with its settings, unless it is the Binary Autoencoder; all other options must be its own.
    pub(crate) fn kind(&self, steps: usize, d_sae: usize) -> Result<Option<Kind>, TrainError> {
        let name = self.name();
        let settings = Settings {
            d_sae,
            k: self.k,
            bits: self.bits,
            gradient_width: self.gradient_width,
            dead_after: u32::try_from(steps / 16).unwrap_or(u32::MAX).clamp(1, 1000),
            seed: self.seed,
        };
        let kind = match name {
            BAE => None,
            name => match Kind::named(name, settings) {
                None => {
                    return Err(TrainError::Option(format!(
                        "architecture is \"{name}\": it may be {}",
                        architectures().collect::<Vec<_>>().join(", ")
                    )));
                }
                Some(kind) => Some(kind.map_err(TrainError::Option)?),
            },
        };
        for (option, given) in [
            ("k", self.k.is_some()),
            ("bits", self.bits.is_some()),
            ("sparsityWeight", self.sparsity_weight.is_some()),
            ("gradientWidth", self.gradient_width.is_some()),
            ("estimator", self.estimator.is_some()),
            ("entropyWeight", self.entropy_weight.is_some()),
            ("covarianceWeight", self.covariance_weight.is_some()),
            ("resampleEvery", self.resample_every.is_some()),
            ("preset", self.preset != Preset::Default),
        ] {
            if given && !self.has(option) {
                let all = Kind::names().chain([(BAE, BAE_OPTIONS)]);
                let owners: Vec<_> =
                    all.filter(|(_, options)| options.contains(&option)).map(|(name, _)| name).collect();
                return Err(TrainError::Option(format!(
                    "{option} is not for architecture {name}, but for {}: leave it out",
                    owners.join(", ")
                )));
            }
        }
        if kind.is_some() && self.precision != Precision::F32 {
            return Err(TrainError::Option(format!(
                "precision is for architecture {BAE}; {name} computes in f32: leave it out"
            )));
        }
        Ok(kind)
    }

    /// How rows are held out.
    pub(crate) fn hold_out(&self) -> HoldOut {
        match (self.preset, self.shuffle) {
            (Preset::Reference, _) => HoldOut::LastRows,
            (_, true) => HoldOut::Random { seed: self.seed },
            (_, false) => HoldOut::Last,
        }
    }

    /// Which rows are taken at all.
    ///
    /// # Errors
    /// [`TrainError::Data`] for a condition that is none.
    pub(crate) fn conditions(&self) -> Result<Vec<Condition>, TrainError> {
        Ok(self.conditions.iter().map(|text| text.parse()).collect::<Result<_, _>>()?)
    }

    /// Time between two checkpoints, unless steps decide.
    pub(crate) fn checkpoint_interval(&self) -> Result<Option<Duration>, TrainError> {
        const DEFAULT_MINUTES: f64 = 30.0;
        let minutes = match (self.checkpoint_minutes, self.checkpoint_every) {
            (Some(minutes), _) => positive("checkpointMinutes", minutes)?,
            (None, Some(_)) => return Ok(None),
            (None, None) => DEFAULT_MINUTES,
        };
        Ok(Some(Duration::try_from_secs_f64(60.0 * minutes).unwrap_or(Duration::MAX)))
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
        let kind = self.kind(steps, d_sae)?;
        let recipe = kind.map(|kind| kind.recipe());
        let estimator = match kind {
            Some(_) => None,
            None => {
                let usual = if reference { EstimatorName::ReferenceSigmoid } else { EstimatorName::Sigmoid };
                Some(self.estimator.unwrap_or(usual).of_width(self.gradient_width)?)
            }
        };
        let fitted = recipe.is_some_and(|recipe| recipe.start == Begin::Fitted);
        for (option, given) in [
            ("steps", self.steps.is_some()),
            ("epochs", self.epochs.is_some()),
            ("learningRate", self.learning_rate.is_some()),
            ("lrSchedule", self.lr_schedule.is_some()),
            ("warmUpSteps", self.warm_up_steps.is_some()),
            ("clipNorm", self.clip_norm.is_some()),
            ("validateEvery", self.validate_every.is_some()),
            ("checkpointEvery", self.checkpoint_every.is_some()),
        ] {
            if fitted && given {
                return refuse(format!(
                    "{} is fitted, not stepped, so {option} means nothing: leave it out",
                    self.name()
                ));
            }
        }
        let steps = if fitted { 0 } else { steps };
        let preset = |default: f64, published: f64| if reference { published } else { default };
        for (name, count) in [
            ("resampleEvery", self.resample_every),
            ("validateEvery", self.validate_every),
            ("patience", self.patience),
            ("checkpointEvery", self.checkpoint_every),
            ("keepCheckpoints", Some(self.keep_checkpoints)),
            ("memory", Some(self.memory)),
        ] {
            at_least_one(name, count.unwrap_or(1))?;
        }
        if self.patience.is_some() && self.validation_fraction == 0.0 {
            return refuse(
                "patience needs rows to be measured on, and validationFraction is 0: give one of them up"
                    .into(),
            );
        }
        if self.out.is_none() {
            for (name, given) in [
                ("resume", self.resume),
                ("checkpointEvery", self.checkpoint_every.is_some()),
                ("checkpointMinutes", self.checkpoint_minutes.is_some()),
                ("tensorboard", self.tensorboard),
            ] {
                if given {
                    return refuse(format!("{name} needs out: the folder that the training is kept in"));
                }
            }
        }
        if self.patience.is_some()
            && kind.is_some_and(|kind| kind.recipe().start == Begin::Fitted || self.has("sparsityWeight"))
        {
            return refuse(format!("patience is not for architecture {}: leave it out", self.name()));
        }
        if self.resume && self.overwrite {
            return refuse("resume goes on with what overwrite would delete: give one of them".into());
        }
        Ok(Plan {
            preset: self.preset,
            architecture: self.name().to_owned(),
            kind,
            d_sae,
            estimator,
            gradient_width: recipe.and_then(|recipe| self.gradient_width.or(recipe.gradient_width)),
            k: recipe.and_then(|recipe| self.k.or(recipe.k_of(d_sae))),
            bits: recipe.and_then(|recipe| self.bits.or(recipe.bits)),
            sparsity_weight: recipe
                .filter(|_| self.has("sparsityWeight"))
                .map(|recipe| {
                    not_negative("sparsityWeight", self.sparsity_weight.unwrap_or(recipe.sparsity_weight))
                })
                .transpose()?,
            steps,
            steps_per_epoch,
            batch_size,
            learning_rate: positive(
                "learningRate",
                self.learning_rate
                    .unwrap_or(recipe.map_or(preset(2e-4, 5e-4), |recipe| recipe.learning_rate)),
            )?,
            entropy_weight: not_negative(
                "entropyWeight",
                self.entropy_weight.unwrap_or(match (recipe, self.preset) {
                    (Some(recipe), _) => recipe.entropy_weight,
                    (None, Preset::Default) => 6e-4,
                    (None, Preset::Minimal) => 5e-3,
                    (None, Preset::Reference) => 1e-7,
                }),
            )?,
            covariance_weight: not_negative(
                "covarianceWeight",
                self.covariance_weight.unwrap_or(if kind.is_some() { 0.0 } else { preset(1e-6, 1e-7) }),
            )?,
            entropy_start_epoch: self.entropy_start_epoch.unwrap_or(0),
            lr_schedule: self.lr_schedule.unwrap_or(if reference { Decay::Constant } else { Decay::Cosine }),
            warm_up_steps: self.warm_up_steps.unwrap_or(if reference { 0 } else { (steps / 10).max(1) }),
            penalty_warm_up_steps: self.penalty_warm_up_steps,
            clip_norm: self.clip_norm.map(|norm| positive("clipNorm", norm)).transpose()?,
            resample_every: self.resample_every,
            validate_every: self.validate_every.unwrap_or(steps_per_epoch),
            patience: self.patience,
            conditions: self.conditions.clone(),
            skip_invalid: self.skip_invalid,
            memory: self.memory,
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

pub(crate) fn not_negative(name: &str, value: f64) -> Result<f64, TrainError> {
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
        match (self.kind, self.estimator) {
            (Some(kind), _) => Architecture::of(kind),
            (None, estimator) => Architecture::binary(estimator.unwrap_or(Estimator::Identity)),
        }
    }

    /// Whether the last model is kept, and not the best: held-out rows do not show the penalties of codes that hold values.
    pub(crate) fn keeps_last(&self) -> bool {
        self.kind.is_some() && (self.sparsity_weight.is_some() || self.entropy_weight > 0.0)
    }

    /// Parameters in the shapes that are trained, all values 0.
    pub(crate) fn zeros(&self, d_in: usize, d_out: usize) -> Parameters {
        let mut parameters = Parameters::zeros(d_in, self.d_sae, d_out);
        let names = self.kind.map_or(&[][..], |kind| kind.coding::<f32>().per_feature());
        parameters.per_feature =
            names.iter().map(|&(name, _)| (name, ndarray::Array1::zeros(self.d_sae))).collect();
        parameters
    }

    /// What a trained model (on raw hidden states) is applied and saved as.
    pub fn applied(&self, trained: Parameters) -> (Architecture, Parameters) {
        match self.kind {
            Some(kind) => kind.applied(trained),
            None => (self.architecture(), trained),
        }
    }

    /// What the engine is to do.
    pub(crate) fn task(&self, (d_in, d_out): (usize, usize), training_rows: usize) -> Task {
        let widths = Widths { d_in, d_sae: self.d_sae, d_out };
        let rows = self.batch_size.min(training_rows);
        Task { architecture: self.architecture(), precision: self.precision, rows, widths }
    }

    /// The objective with all penalties at their full weight.
    pub fn final_objective(&self) -> Objective {
        Objective {
            entropy_weight: self.entropy_weight,
            covariance_weight: self.covariance_weight,
            sparsity_weight: self.sparsity_weight.unwrap_or(0.0),
            as_published: self.preset == Preset::Reference,
            ..Objective::default()
        }
    }

    /// The objective of the step that follows `done` steps.
    pub(crate) fn objective(&self, done: usize) -> Objective {
        let objective = self.final_objective();
        let begun = done / self.steps_per_epoch >= self.entropy_start_epoch;
        let share = warm_up(done, self.penalty_warm_up_steps);
        Objective {
            entropy_weight: if begun { share * objective.entropy_weight } else { 0.0 },
            covariance_weight: share * objective.covariance_weight,
            sparsity_weight: share * objective.sparsity_weight,
            ..objective
        }
    }

    /// The optimiser of the step that follows `done` steps.
    pub(crate) fn adam(&self, done: usize) -> Adam {
        let factor = self.lr_schedule.factor(done, self.warm_up_steps, self.steps);
        let clip_norm = self.clip_norm.unwrap_or(f64::INFINITY);
        Adam { clip_norm, ..Adam::new(self.learning_rate * factor) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn k_is_at_most_the_features() {
        let of = |k: Option<usize>, d_sae: usize, architecture: &str| {
            let options = TrainOptions {
                architecture: Some(architecture.to_owned()),
                d_sae: Some(d_sae),
                k,
                ..TrainOptions::default()
            };
            options.plan(8, 100).map(|plan| (plan.k, plan.kind)).map_err(|error| error.to_string())
        };
        for name in ["topk", "batchtopk", "matryoshka-batchtopk"] {
            // files with more would not run in SAELens
            let (k, kind) = of(None, 16, name).unwrap();
            assert_eq!((k, of(Some(16), 16, name).unwrap().1), (Some(16), kind));
            assert_eq!(of(None, 64, name).unwrap().0, Some(32));
            for k in [0, 17, usize::MAX] {
                assert_eq!(
                    of(Some(k), 16, name).unwrap_err(),
                    format!("k is {k}: it must be from 1 to dSae, here 16")
                );
            }
        }
        assert_eq!(of(None, 16, "relu").unwrap().0, None);
    }

    #[test]
    fn what_belongs_to_steps_is_refused_where_there_are_none() {
        for (option, value) in [
            ("steps", json!(9)),
            ("epochs", json!(9)),
            ("learningRate", json!(1e-3)),
            ("lrSchedule", json!("linear")),
            ("warmUpSteps", json!(9)),
            ("clipNorm", json!(1)),
            ("validateEvery", json!(9)),
        ] {
            let of = |architecture: &str| {
                let options = json!({ "architecture": architecture, "dSae": 4, option: value });
                serde_json::from_value::<TrainOptions>(options).unwrap().plan(8, 100).map(|_| ())
            };
            for fitted in ["pca", "snmf"] {
                assert_eq!(
                    of(fitted).unwrap_err().to_string(),
                    format!("{fitted} is fitted, not stepped, so {option} means nothing: leave it out")
                );
            }
            of("relu").unwrap();
        }
    }
}

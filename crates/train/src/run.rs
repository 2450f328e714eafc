use crate::options::Start;
use crate::{Engine, EngineReport, Evaluation, Event, Plan, TrainError, TrainOptions, Validation, evaluate};
use bae_data::{Dataset, check_output, training_rows};
use bae_kernels::Isa;
use bae_model::{Backend, Batch, ModelError, Normalisation, Objective, Parameters, StepStats, Target};
use ndarray::Array2;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::Serialize;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a run came to.
pub struct Outcome {
    /// The best model by the objective on the held-out rows (the last one if nothing is held out); it takes raw
    /// hidden states.
    pub model: Parameters,
    /// How `model` does, and how the run went.
    pub summary: Summary,
    /// All epochs and validations, in order.
    pub history: Vec<Event>,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stopped>,
    /// What was run.
    pub plan: Plan,
}

/// Why a run ended before its last step. The best model up to there is kept.
#[derive(Debug)]
pub enum Stopped {
    /// The caller asked for it.
    Cancelled,
    /// The data could not be read any further, or the loss was not finite.
    Failed(TrainError),
}

impl From<TrainError> for Stopped {
    fn from(error: TrainError) -> Self {
        if error.is_cancel() { Stopped::Cancelled } else { Stopped::Failed(error) }
    }
}

/// The figures at the end of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Where it ran.
    #[serde(flatten)]
    pub engine: EngineReport,
    /// Steps taken.
    pub steps: usize,
    /// Epochs begun.
    pub epochs: usize,
    /// Wall time of the run, in seconds.
    pub seconds: f64,
    /// The model on the rows it was trained on, unless the run was stopped.
    pub train: Option<TrainFigures>,
    /// The model on the held-out rows, if any.
    pub validation: Option<Evaluation>,
    /// The untrained model on the same rows: what training started from.
    pub before: Option<Evaluation>,
    /// Steps after which the model that is kept was measured.
    pub best_step: usize,
}

/// The model on the rows it was trained on.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainFigures {
    /// The objective at its final weights, in the units of the training space.
    pub loss: f64,
    /// As in [`Evaluation`].
    pub mse: f64,
    /// As in [`Evaluation`].
    pub explained_variance: f64,
    /// As in [`crate::Codes`].
    pub entropy_bits: f64,
    /// As in [`Evaluation`].
    pub covariance: f64,
}

/// Trains a Binary Autoencoder on the rows of `data`.
///
/// Same data, options and seed give the same bits, whatever the threads. `cancel` is looked at before each step;
/// `on_event` is called on this thread.
///
/// # Errors
/// [`TrainError`]. A run that is cancelled after its first step, or fails after its first epoch, is an [`Outcome`].
pub fn train(
    data: &Dataset,
    options: &TrainOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    let began = Instant::now();
    if let Some(out) = &options.out {
        check_output(out, options.overwrite)?;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let (training, held_out) = split(data.rows(), options, &mut rng)?;
    let plan = options.plan(data.d_in(), training.len())?;
    plan.check_memory(data.d_in(), training.len())?;
    let engine = Engine::choose(&options.device, options.threads, plan.task(data.d_in(), training.len()))?;
    on_event(&Event::Start {
        rows: data.rows(),
        train_rows: training.len(),
        validation_rows: held_out.len(),
        d_in: data.d_in(),
        d_sae: plan.d_sae,
        steps: plan.steps,
        epochs: plan.epochs(),
        engine: engine.report(),
        simd: Isa::best().name(),
    });
    let mut run = Run::start(data, &plan, training, held_out, engine, rng, cancel)?;
    let mut history = vec![];
    let mut tell = |event: Event| {
        on_event(&event);
        if !matches!(event, Event::Step { .. }) {
            history.push(event);
        }
    };
    let before = run.validate(&run.folded()?)?;
    if let Some(evaluation) = &before {
        tell(Event::Validation(Validation {
            epoch: 0,
            step: 0,
            best: false,
            evaluation: evaluation.clone(),
        }));
    }
    let (mut stopped, best) = match (run.epochs(&mut tell).err(), run.best.take()) {
        (stopped, Some(best)) => (stopped, best),
        (Some(Stopped::Failed(error)), None) => return Err(error),
        // cancelled within the first epoch: what was learnt so far is worth more than nothing
        (stopped, None) => {
            let best = Best { model: run.folded()?, step: run.step, loss: f64::INFINITY, evaluation: None };
            (stopped, best)
        }
    };
    let mut train = None;
    if stopped.is_none() {
        match run.train_figures(&best.model) {
            Ok(figures) => train = Some(figures),
            Err(error) => stopped = Some(error.into()),
        }
    }
    let summary = Summary {
        engine: run.engine.report(),
        steps: run.step,
        epochs: run.step.div_ceil(plan.steps_per_epoch),
        seconds: began.elapsed().as_secs_f64(),
        train,
        validation: best.evaluation,
        before,
        best_step: best.step,
    };
    Ok(Outcome { model: Arc::unwrap_or_clone(best.model), summary, history, stopped, plan })
}

/// Rows to train on and rows to hold out: at random, or in file order without shuffling or as published.
fn split(
    rows: usize,
    options: &TrainOptions,
    rng: &mut ChaCha8Rng,
) -> Result<(Vec<usize>, Vec<usize>), TrainError> {
    if rows < 2 {
        return Err(TrainError::Option(format!(
            "the data has {rows} row: entropy and covariance need at least 2 rows, a useful model thousands; give more data"
        )));
    }
    if !(0.0..1.0).contains(&options.validation_fraction) {
        return Err(TrainError::Option(format!(
            "validationFraction is {}: it must be at least 0 and less than 1",
            options.validation_fraction
        )));
    }
    let mut order: Vec<usize> = (0..rows).collect();
    if options.splits_at_random() {
        order.shuffle(rng);
    }
    let held_out = order.split_off(training_rows(rows, options.validation_fraction));
    if order.is_empty() {
        return Err(TrainError::Option(format!(
            "validationFraction {} of {rows} rows leaves none to train on; lower it or give more data",
            options.validation_fraction
        )));
    }
    Ok((order, held_out))
}

struct Best {
    model: Arc<Parameters>,
    step: usize,
    loss: f64,
    evaluation: Option<Evaluation>,
}

/// A step that was begun.
struct Sent {
    step: usize,
    epoch: usize,
    rows: usize,
    learning_rate: f64,
    entropy_weight: f64,
}

/// A run in progress: the engine and what it reads.
struct Run<'a> {
    data: &'a Dataset,
    plan: &'a Plan,
    training: Vec<usize>,
    held_out: Vec<usize>,
    engine: Engine,
    model: Box<dyn Backend>,
    /// Steps begun whose statistics have not come back yet.
    sent: VecDeque<Sent>,
    /// Steps that were told of.
    told: usize,
    normalisation: Normalisation,
    /// Standard deviation of the encoder's input noise.
    noise: f32,
    rng: ChaCha8Rng,
    cancel: &'a AtomicBool,
    step: usize,
    best: Option<Best>,
}

impl<'a> Run<'a> {
    fn start(
        data: &'a Dataset,
        plan: &'a Plan,
        training: Vec<usize>,
        held_out: Vec<usize>,
        engine: Engine,
        mut rng: ChaCha8Rng,
        cancel: &'a AtomicBool,
    ) -> Result<Self, TrainError> {
        let begin = || plan.begin(data, &training, &mut rng, cancel);
        let Start { normalisation, parameters, noise } = engine.install(begin)?;
        let model = engine.trained(&parameters, plan.task(data.d_in(), training.len()), false)?;
        Ok(Self {
            data,
            plan,
            training,
            held_out,
            engine,
            model,
            sent: VecDeque::new(),
            told: 0,
            normalisation,
            noise,
            rng,
            cancel,
            step: 0,
            best: None,
        })
    }

    /// All epochs, validated one by one.
    fn epochs(&mut self, tell: &mut dyn FnMut(Event)) -> Result<(), Stopped> {
        for epoch in 1..=self.plan.epochs() {
            if self.plan.shuffle {
                self.training.shuffle(&mut self.rng);
            }
            let means = self.epoch(epoch, tell)?;
            tell(means.event(epoch, self));
            let model = self.folded()?;
            if !model.flat().iter().all(|values| values.iter().all(|value| value.is_finite())) {
                let cause = "the weights are not finite".into();
                return Err(TrainError::Diverged { step: self.step, cause }.into());
            }
            let evaluation = self.validate(&model)?;
            let loss = evaluation.as_ref().map(|evaluation| self.objective_of(evaluation));
            // with nothing held out, the last model is the one to keep
            let is_best = self.best.as_ref().is_none_or(|best| loss.is_none_or(|loss| loss < best.loss));
            if is_best {
                let loss = loss.unwrap_or(f64::INFINITY);
                self.best = Some(Best { model, step: self.step, loss, evaluation: evaluation.clone() });
            }
            if let Some(evaluation) = evaluation {
                tell(Event::Validation(Validation { epoch, step: self.step, best: is_best, evaluation }));
            }
        }
        Ok(())
    }

    /// The steps of one epoch, from 1. However it ends, every step that was taken is told of, and no other is counted.
    fn epoch(&mut self, epoch: usize, tell: &mut dyn FnMut(Event)) -> Result<Means, Stopped> {
        let mut means = Means::default();
        let begun = self.begin_steps(epoch, &mut means, tell);
        let told = self.catch_up(&mut means, tell);
        if begun.is_err() || told.is_err() {
            self.step = self.told;
            self.sent.clear();
        }
        begun?;
        told?;
        Ok(means)
    }

    fn begin_steps(
        &mut self,
        epoch: usize,
        means: &mut Means,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), Stopped> {
        let Plan { batch_size, steps, .. } = *self.plan;
        for start in (0..self.training.len()).step_by(batch_size).take(steps - self.step) {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Stopped::Cancelled);
            }
            let rows = start..self.training.len().min(start + batch_size);
            if let Some(stats) = self.learn(epoch, rows)? {
                self.tell_step(&stats, means, tell)?;
            }
        }
        Ok(())
    }

    /// Waits for the steps whose statistics have not come back yet.
    fn catch_up(&mut self, means: &mut Means, tell: &mut dyn FnMut(Event)) -> Result<(), TrainError> {
        while let Some(stats) = self.model.catch_up().map_err(|error| self.diverged(error.into()))? {
            self.tell_step(&stats, means, tell)?;
        }
        Ok(())
    }

    /// Begins one step on these of the training rows; gives the statistics of the oldest that has come back.
    fn learn(&mut self, epoch: usize, rows: Range<usize>) -> Result<Option<StepStats>, TrainError> {
        let count = rows.len();
        let mut x = Array2::zeros((count, self.data.d_in()));
        self.data.read_rows(&self.training[rows], x.view_mut())?;
        self.normalisation.apply(x.view_mut());
        let adam = self.plan.adam(self.step);
        let objective = self.plan.objective(epoch);
        let noisy;
        let batch = if self.noise == 0.0 {
            Batch { x: x.view(), target: Target::Input }
        } else {
            noisy = x.mapv(|x| {
                let normal: f32 = StandardNormal.sample(&mut self.rng);
                x + self.noise * normal
            });
            Batch { x: noisy.view(), target: Target::States(x.view()) }
        };
        self.step += 1;
        self.sent.push_back(Sent {
            step: self.step,
            epoch,
            rows: count,
            learning_rate: adam.learning_rate,
            entropy_weight: objective.entropy_weight,
        });
        let stats = self.model.step_ahead(&self.plan.architecture(), &objective, &adam, batch);
        stats.map_err(|error| self.diverged(error.into()))
    }

    /// Tells of the oldest step begun.
    fn tell_step(
        &mut self,
        stats: &StepStats,
        means: &mut Means,
        tell: &mut dyn FnMut(Event),
    ) -> Result<(), TrainError> {
        let Sent { step, epoch, rows, learning_rate, entropy_weight } =
            self.sent.pop_front().expect("statistics are of a step that was begun");
        self.told = step;
        means.add(stats);
        tell(Event::Step {
            step,
            steps: self.plan.steps,
            epoch,
            epochs: self.plan.epochs(),
            loss: stats.loss,
            mse: stats.mse,
            batch_entropy_bits: stats.entropy_bits,
            covariance: stats.covariance,
            learning_rate,
            entropy_weight,
        });
        if stats.loss.is_finite() {
            Ok(())
        } else {
            Err(TrainError::Diverged { step, cause: cause_of(stats, rows) })
        }
    }

    /// The model as it would be saved now: it takes raw hidden states.
    fn folded(&self) -> Result<Arc<Parameters>, TrainError> {
        let (parameters, normalisation) = (self.model.parameters()?, &self.normalisation);
        Ok(Arc::new(self.engine.install(|| normalisation.fold(&parameters))))
    }

    /// Measures a model as it would be saved on the held-out rows.
    fn validate(&self, model: &Arc<Parameters>) -> Result<Option<Evaluation>, TrainError> {
        if self.held_out.is_empty() { Ok(None) } else { self.measure(model, &self.held_out).map(Some) }
    }

    fn measure(&self, model: &Arc<Parameters>, rows: &[usize]) -> Result<Evaluation, TrainError> {
        let model = self.engine.applied(model)?;
        let going_on = |_| !self.cancel.load(Ordering::Relaxed);
        evaluate(&*model, &self.plan.architecture(), self.data, Some(rows), going_on)
            .map_err(|e| self.diverged(e))
    }

    fn train_figures(&self, model: &Arc<Parameters>) -> Result<TrainFigures, TrainError> {
        let measured = self.measure(model, &self.training)?;
        Ok(TrainFigures {
            loss: self.objective_of(&measured),
            mse: measured.mse,
            explained_variance: measured.explained_variance,
            entropy_bits: measured.codes.entropy_bits,
            covariance: measured.covariance,
        })
    }

    /// Finite rows give pre-activations that are not finite only by weights that are not.
    fn diverged(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::Model(cause @ ModelError::NotFinite { .. }) => {
                TrainError::Diverged { step: self.told, cause: cause.to_string() }
            }
            other => other,
        }
    }

    /// The objective at its final weights, in the units of the training space.
    fn objective_of(&self, evaluation: &Evaluation) -> f64 {
        let Objective { entropy_weight, covariance_weight, .. } = self.plan.final_objective();
        let scale = f64::from(self.normalisation.scale);
        evaluation.mse / (scale * scale)
            + entropy_weight * evaluation.codes.entropy_bits
            + covariance_weight * evaluation.covariance
    }
}

/// Why a loss is not finite, as far as a step shows it.
fn cause_of(stats: &StepStats, rows: usize) -> String {
    if rows == 1 && stats.covariance.is_nan() {
        "the published objective is undefined for a batch of one row; choose another --batch-size".into()
    } else {
        format!("mse {}, entropy {} bits, covariance {}", stats.mse, stats.entropy_bits, stats.covariance)
    }
}

#[derive(Default)]
struct Means {
    sums: [f64; 4],
    steps: usize,
}

impl Means {
    fn add(&mut self, stats: &StepStats) {
        let values = [stats.loss, stats.mse, stats.entropy_bits, stats.covariance];
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.steps += 1;
    }

    fn event(&self, epoch: usize, run: &Run) -> Event {
        let [loss, mse, batch_entropy_bits, covariance] = self.sums.map(|sum| sum / self.steps.max(1) as f64);
        Event::Epoch {
            epoch,
            epochs: run.plan.epochs(),
            step: run.step,
            loss,
            mse,
            batch_entropy_bits,
            covariance,
        }
    }
}

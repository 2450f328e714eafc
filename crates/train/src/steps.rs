//! The loop: steps, and what is due after some of them.

use crate::evaluate::measure;
use crate::memory::{READ_ONCE, Shares};
use crate::options::Normalize;
use crate::resample::resample;
use crate::run::{Listeners, Outcome, Pace, Stopped, Summary, TrainFigures};
use crate::run_folder::Saved;
use crate::saved::{Best, Means, Progress, state_of, tensors_of};
use crate::spaces::Spaces;
use crate::start::{Start, moments};
use crate::{Applied, Engine, Evaluation, Event, Plan, TrainError, Validation};
use bae_data::{Dataset, Feed, LAYER_NORM, Order, Purpose, RowSet, generator, model_config};
use bae_model::{
    Architecture, Backend, Batch, Cpu, ModelError, Objective, Parameters, StepStats, Target, TrainingState,
    layer_norm,
};
use ndarray::Array2;
use rand_distr::{Distribution, StandardNormal};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a run reads, and what it is to do.
#[derive(Clone, Copy)]
pub(crate) struct Inputs<'a> {
    pub data: &'a Dataset,
    /// What tells it from other data.
    pub described: &'a Value,
    pub training: &'a RowSet,
    pub feed: &'a Feed<'a>,
    pub measured: &'a Feed<'a>,
    pub plan: &'a Plan,
    pub cancel: &'a AtomicBool,
}

/// When checkpoints are due.
pub(crate) struct Due {
    pub every: Option<usize>,
    pub interval: Option<Duration>,
    /// Whether one is due when all is done.
    pub at_end: bool,
    pub last: Instant,
}

/// A step that was begun.
struct Sent {
    step: usize,
    rows: usize,
    learning_rate: f64,
    entropy_weight: f64,
}

/// A run in progress.
pub(crate) struct Run<'a> {
    inputs: Inputs<'a>,
    engine: Engine,
    model: Box<dyn Backend>,
    /// Steps begun whose statistics have not come back yet.
    sent: VecDeque<Sent>,
    spaces: Spaces,
    /// What a trained model is applied as.
    applied: Architecture,
    progress: Progress,
    /// The best model so far, as `progress` tells of it; before there is one, what training started from, which is finite.
    best: Arc<Parameters>,
    listeners: Listeners<'a>,
    due: Due,
    /// The step that the last checkpoint is of.
    kept: Option<usize>,
    /// The step that this run began after.
    first: usize,
    began: Instant,
}

impl<'a> Run<'a> {
    /// Measures the data, draws the first parameters and measures those.
    pub fn start(
        inputs: Inputs<'a>,
        engine: Engine,
        listeners: Listeners<'a>,
        due: Due,
        began: Instant,
    ) -> Result<Self, TrainError> {
        let Inputs { data, training, feed, plan, cancel, .. } = inputs;
        let mut pace = Pace::default();
        let moments = moments(plan, data, training, |rows| {
            pace.tell(rows, training.count(), listeners.on_event);
            !cancel.load(Ordering::Relaxed)
        })?;
        let begin = || Start::new(plan, moments.as_ref(), feed, cancel);
        let Start { spaces, parameters, noise } = engine.install(begin)?;
        let model =
            engine.trained(&parameters, plan.task((data.d_in(), data.d_out()), training.count()), false)?;
        let (applied, best) = plan.applied(engine.install(|| spaces.fold(&parameters)));
        let best = Arc::new(best);
        let progress = Progress { noise, ..Progress::default() };
        let sent = VecDeque::new();
        let mut run = Self {
            inputs,
            engine,
            model,
            sent,
            spaces,
            applied,
            progress,
            best,
            listeners,
            due,
            kept: None,
            first: 0,
            began,
        };
        let before = run.measure_held_out(&run.best.clone())?.map(|(evaluation, _)| evaluation);
        if let Some(evaluation) = &before {
            let evaluation = evaluation.clone();
            run.tell(Event::Validation(Validation { epoch: 0, step: 0, best: false, evaluation }));
        }
        run.progress.before = before;
        Ok(run)
    }

    /// Goes on from a checkpoint.
    pub fn resume(
        inputs: Inputs<'a>,
        engine: Engine,
        listeners: Listeners<'a>,
        due: Due,
        began: Instant,
        (progress, state, spaces): (Progress, TrainingState, Spaces),
    ) -> Result<Self, TrainError> {
        let Inputs { data, training, plan, .. } = inputs;
        let mut model = engine.trained(
            &state.parameters,
            plan.task((data.d_in(), data.d_out()), training.count()),
            false,
        )?;
        model.restore(&state)?;
        let (applied, current) = plan.applied(engine.install(|| spaces.fold(&state.parameters)));
        let best = match (&progress.best, &*listeners.folder) {
            (Some(best), Some(folder)) if best.step != progress.step => folder.best(best.step)?,
            _ => current,
        };
        let (sent, kept, step) = (VecDeque::new(), Some(progress.step), progress.step);
        let best = Arc::new(best);
        let mut run = Self {
            inputs,
            engine,
            model,
            sent,
            spaces,
            applied,
            progress,
            best,
            listeners,
            due,
            kept,
            first: step,
            began,
        };
        if let Some(folder) = run.listeners.folder {
            folder.keep();
            let path = folder.checkpoint_of(step);
            run.tell(Event::Resume { step, path });
        }
        Ok(run)
    }

    /// Takes all steps that are left, and keeps what they came to.
    pub fn finish(mut self) -> Result<Outcome, TrainError> {
        let mut stopped = self.steps().err();
        let step = self.progress.step;
        match stopped {
            Some(Stopped::Failed(error)) if step == 0 => return Err(error),
            _ => {}
        }
        let diverged = matches!(stopped, Some(Stopped::Failed(TrainError::Diverged { .. })));
        let mut best_step = self.progress.best.as_ref().map(|best| best.step);
        if best_step.is_none()
            && !diverged
            && let Ok(current) = self.folded()
        {
            // what was learnt in the first epoch is worth more than nothing
            (self.best, best_step) = (current, Some(step));
        }
        let mut train = None;
        if stopped.is_none() {
            match self.train_figures() {
                Ok(figures) => train = Some(figures),
                Err(error) => stopped = Some(error.into()),
            }
        }
        let wanted =
            if stopped.is_some() { step > 0 && !diverged } else { self.due.at_end || self.has_checkpoints() };
        let checkpoint = if wanted { self.checkpoint() } else { None };
        let best = self.progress.best.take();
        let summary = Summary {
            engine: self.engine.report(),
            steps: step,
            epochs: step.div_ceil(self.inputs.plan.steps_per_epoch),
            seconds: self.seconds(),
            train,
            best_step: best_step.unwrap_or(self.first),
            validation: best.and_then(|best| best.evaluation),
            before: self.progress.before.take(),
            ended_early: self.progress.ended_early,
        };
        let mut settings = self.settings();
        settings.insert("summary".into(), json!(summary));
        let checkpoint = checkpoint.or_else(|| {
            let folder = self.listeners.folder.as_ref()?;
            self.kept.map(|step| folder.checkpoint_of(step))
        });
        let mut saved = None;
        if let Some(folder) = self.listeners.folder.as_mut().filter(|_| stopped.is_none() || step > 0) {
            folder.keep();
            match folder.install(&self.applied, &self.best, &settings) {
                Ok(()) => saved = Some(folder.dir().to_owned()),
                // why it stopped matters more
                Err(error) if stopped.is_some() => self.listeners.warn(error.to_string()),
                Err(error) => {
                    return Err(match checkpoint {
                        Some(checkpoint) => TrainError::Unsaved { error: Box::new(error), checkpoint },
                        None => error,
                    });
                }
            }
        }
        Ok(Outcome {
            architecture: self.applied,
            model: Arc::unwrap_or_clone(self.best),
            settings,
            summary,
            history: self.progress.history,
            stopped,
            plan: self.inputs.plan.clone(),
            saved,
            checkpoint,
        })
    }

    fn steps(&mut self) -> Result<(), Stopped> {
        if self.progress.pending {
            self.settle()?;
        }
        // what is fitted takes no step, and is measured as it is
        if self.inputs.plan.steps == 0 && self.progress.best.is_none() {
            self.validate()?;
        }
        while self.progress.step < self.inputs.plan.steps && !self.progress.ended_early {
            self.pass()?;
        }
        Ok(())
    }

    /// The steps of one pass over the training rows, or those that are left of it. However it ends, every step that was
    /// taken is told of, and no other is counted.
    fn pass(&mut self) -> Result<(), Stopped> {
        let begun = self.begin_steps();
        if begun.is_err() {
            let told = self.catch_up();
            self.sent.clear();
            begun?;
            told?;
        }
        Ok(())
    }

    fn begin_steps(&mut self) -> Result<(), Stopped> {
        let Inputs { feed, plan, cancel, .. } = self.inputs;
        let (pass, skip) =
            (self.progress.step / plan.steps_per_epoch, self.progress.step % plan.steps_per_epoch);
        std::thread::scope(|scope| {
            // pass 0 is that of the sample
            let mut batches = feed.batches(scope, pass as u64 + 1, plan.batch_size, skip);
            while self.begun() < plan.steps && !self.progress.ended_early {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Stopped::Cancelled);
                }
                let Some(x) = batches.next() else { break };
                self.learn(x.map_err(TrainError::from)?)?;
                let step = self.begun();
                let timed = self.due.interval.is_some_and(|interval| self.due.last.elapsed() >= interval);
                if timed || self.is_boundary(step) {
                    self.catch_up()?;
                    self.settle()?;
                    if timed || self.due.every.is_some_and(|every| step.is_multiple_of(every)) {
                        self.checkpoint();
                    }
                }
            }
            Ok(())
        })
    }

    /// Steps begun, told of or not.
    fn begun(&self) -> usize {
        self.progress.step + self.sent.len()
    }

    /// Whether anything is to be done between `step` and the next.
    fn is_boundary(&self, step: usize) -> bool {
        let plan = self.inputs.plan;
        let every = |steps: Option<usize>| steps.is_some_and(|steps| step.is_multiple_of(steps));
        step == plan.steps
            || step.is_multiple_of(plan.steps_per_epoch)
            || step.is_multiple_of(plan.validate_every)
            || every(plan.resample_every)
            || every(self.due.every)
    }

    /// What is due after the last step: the means of its epoch, and a measurement of the held-out rows.
    fn settle(&mut self) -> Result<(), Stopped> {
        let plan = self.inputs.plan;
        let step = self.progress.step;
        let ends = |every: usize| step == plan.steps || step.is_multiple_of(every);
        if ends(plan.steps_per_epoch) && !self.progress.pending {
            self.tell_epoch()?;
        }
        if ends(plan.validate_every) {
            self.progress.pending = true;
            self.validate()?;
            self.progress.pending = false;
        }
        Ok(())
    }

    fn tell_epoch(&mut self) -> Result<(), TrainError> {
        let plan = self.inputs.plan;
        let Means { sums, steps } = std::mem::take(&mut self.progress.means);
        let [loss, mse, batch_entropy_bits, covariance] = sums.map(|sum| sum / steps.max(1) as f64);
        let idle = self.model.idle()?.iter().filter(|&&idle| idle as usize >= steps).count();
        self.tell(Event::Epoch {
            epoch: self.progress.step.div_ceil(plan.steps_per_epoch),
            epochs: plan.epochs(),
            step: self.progress.step,
            loss,
            mse,
            batch_entropy_bits,
            covariance,
            idle_fraction: idle as f64 / plan.d_sae as f64,
        });
        Ok(())
    }

    /// Measures the model as it would be saved now, and keeps it if it is the best.
    fn validate(&mut self) -> Result<(), TrainError> {
        let plan = self.inputs.plan;
        let step = self.progress.step;
        let model = self.folded()?;
        if !model.flat().iter().all(|values| values.iter().all(|value| value.is_finite())) {
            return Err(TrainError::Diverged { step, cause: "the weights are not finite".into() });
        }
        let measured = self.measure_held_out(&model)?;
        let loss = measured.as_ref().map(|(evaluation, mse)| self.objective_of(evaluation, *mse));
        if loss.is_some_and(|loss| !loss.is_finite()) {
            let cause = "the squared error on the held-out rows is not finite".into();
            return Err(TrainError::Diverged { step, cause });
        }
        // with nothing held out, or a penalty that held-out rows do not show, the last model is the one to keep
        let before = self.progress.best.as_ref().map(|best| best.loss);
        let best = match (before, loss) {
            (Some(Some(before)), Some(loss)) if !plan.keeps_last() => loss < before,
            _ => true,
        };
        let evaluation = measured.map(|(evaluation, _)| evaluation);
        if best {
            self.best = model;
            self.progress.best = Some(Best { step, loss, evaluation: evaluation.clone() });
            self.progress.since_best = 0;
        } else {
            self.progress.since_best += 1;
            self.progress.ended_early =
                plan.patience.is_some_and(|patience| self.progress.since_best >= patience);
        }
        if let Some(evaluation) = evaluation {
            let epoch = step.div_ceil(plan.steps_per_epoch);
            self.tell(Event::Validation(Validation { epoch, step, best, evaluation }));
        }
        Ok(())
    }

    /// Begins one step on these rows, and tells of those that have come back.
    fn learn(&mut self, rows: Array2<f32>) -> Result<(), TrainError> {
        let Inputs { plan, feed, .. } = self.inputs;
        let done = self.begun();
        let (mut x, mut targets) = feed.apart(rows);
        let rows = x.nrows();
        if plan.normalize == Normalize::LayerNorm {
            layer_norm(x.view_mut());
        }
        self.spaces.input.apply(x.view_mut());
        if let Some(targets) = &mut targets {
            self.spaces.output().apply(targets.view_mut());
        }
        if let Some(every) = plan.resample_every.filter(|&every| done > 0 && done.is_multiple_of(every)) {
            self.resample(&x, targets.as_ref(), every)?;
        }
        let adam = plan.adam(done);
        let objective = plan.objective(done);
        let noise = self.progress.noise;
        let noisy;
        let batch = if noise == 0.0 {
            let target = targets.as_ref().map_or(Target::Input, |targets| Target::States(targets.view()));
            Batch { x: x.view(), target }
        } else {
            let mut random = generator(plan.seed, Purpose::Noise, done as u64);
            noisy = x.mapv(|x| {
                let normal: f32 = StandardNormal.sample(&mut random);
                x + noise * normal
            });
            Batch { x: noisy.view(), target: Target::States(targets.as_ref().unwrap_or(&x).view()) }
        };
        self.sent.push_back(Sent {
            step: done + 1,
            rows,
            learning_rate: adam.learning_rate,
            entropy_weight: objective.entropy_weight,
        });
        let stats = self.model.step_ahead(&plan.architecture(), &objective, &adam, batch);
        match stats.map_err(|error| self.diverged(error.into()))? {
            Some(stats) => self.tell_step(&stats),
            None => Ok(()),
        }
    }

    /// Draws idle features anew. All steps begun have come back: the step before was a boundary.
    fn resample(
        &mut self,
        x: &Array2<f32>,
        targets: Option<&Array2<f32>>,
        every: usize,
    ) -> Result<(), TrainError> {
        let step = self.progress.step;
        let mut state = self.model.state()?;
        let mut random = generator(self.inputs.plan.seed, Purpose::Resample, step as u64);
        let threads = Cpu::new(&Parameters::zeros(0, 0, 0), self.engine.report().threads);
        let features = resample(&mut state, x, targets, every, &threads, &mut random)?;
        if features > 0 {
            self.model.restore(&state)?;
        }
        self.tell(Event::Resample { step, features });
        Ok(())
    }

    /// Waits for the steps whose statistics have not come back yet.
    fn catch_up(&mut self) -> Result<(), TrainError> {
        while let Some(stats) = self.model.catch_up().map_err(|error| self.diverged(error.into()))? {
            self.tell_step(&stats)?;
        }
        Ok(())
    }

    /// Tells of the oldest step begun.
    fn tell_step(&mut self, stats: &StepStats) -> Result<(), TrainError> {
        let Sent { step, rows, learning_rate, entropy_weight } =
            self.sent.pop_front().expect("statistics are of a step that was begun");
        let plan = self.inputs.plan;
        self.progress.step = step;
        self.progress.means.add(stats);
        self.tell(Event::Step {
            step,
            steps: plan.steps,
            epoch: step.div_ceil(plan.steps_per_epoch),
            epochs: plan.epochs(),
            loss: stats.loss,
            mse: stats.mse,
            batch_entropy_bits: stats.entropy_bits,
            covariance: stats.covariance,
            learning_rate,
            entropy_weight,
            gradient_norm: stats.gradient_norm,
        });
        if stats.loss.is_finite() {
            Ok(())
        } else {
            Err(TrainError::Diverged { step, cause: cause_of(stats, rows) })
        }
    }

    fn tell(&mut self, event: Event) {
        self.listeners.tell(&event);
        if matches!(event, Event::Epoch { .. } | Event::Validation(_)) {
            self.progress.history.push(event);
        }
    }

    /// Writes a checkpoint if there is a folder for it. That it cannot be written ends nothing: the one before is still there.
    fn checkpoint(&mut self) -> Option<PathBuf> {
        let folder = self.listeners.folder.as_ref()?;
        self.due.last = Instant::now();
        let step = self.progress.step;
        // the one that is there leads to the same bits, and whoever is killed while replacing it has none
        if self.kept == Some(step) {
            return Some(folder.checkpoint_of(step));
        }
        match self.write_checkpoint() {
            Ok(path) => {
                self.kept = Some(step);
                self.listeners.tell(&Event::Checkpoint { step, path: path.clone() });
                Some(path)
            }
            Err(error) => {
                self.listeners.warn(format!("no checkpoint of step {step}: {error}"));
                None
            }
        }
    }

    fn write_checkpoint(&mut self) -> Result<PathBuf, TrainError> {
        let Inputs { plan, described, .. } = self.inputs;
        self.progress.seconds = self.seconds();
        self.began = Instant::now();
        let training = self.model.state()?;
        let folded = self.engine.install(|| self.spaces.fold(&training.parameters));
        let (architecture, model) = plan.applied(folded);
        let config = model_config(&architecture, &model, &self.settings());
        let step = self.progress.step;
        let best = self.progress.best.as_ref().filter(|best| best.step != step);
        let saved = Saved {
            architecture: &architecture,
            model: &model,
            best: best.map(|best| (best.step, &*self.best)),
            config: &config,
            tensors: tensors_of(&training, &self.spaces),
            state: state_of(plan, described, &self.engine.report(), &self.progress),
        };
        let folder = self.listeners.folder.as_mut().expect("asked before");
        folder.keep();
        folder.checkpoint(step, &saved)
    }

    fn has_checkpoints(&self) -> bool {
        self.listeners.folder.as_ref().is_some_and(|folder| folder.has_checkpoints())
    }

    /// What `cfg.json` says beside the widths.
    fn settings(&self) -> Map<String, Value> {
        let mut settings = Map::new();
        if self.inputs.plan.normalize == Normalize::LayerNorm {
            settings.insert("normalize_activations".into(), json!(LAYER_NORM));
        }
        if self.inputs.data.has_target() {
            settings.insert("d_out".into(), json!(self.inputs.data.d_out()));
        }
        settings.insert("training".into(), json!(self.inputs.plan));
        settings
    }

    fn seconds(&self) -> f64 {
        self.progress.seconds + self.began.elapsed().as_secs_f64()
    }

    /// The model as it would be saved now: it takes raw hidden states.
    fn folded(&self) -> Result<Arc<Parameters>, TrainError> {
        let (parameters, spaces) = (self.model.parameters()?, &self.spaces);
        let folded = self.engine.install(|| spaces.fold(&parameters));
        Ok(Arc::new(self.inputs.plan.applied(folded).1))
    }

    /// Measures a model as it would be saved on the held-out rows, if there are any.
    fn measure_held_out(&mut self, model: &Parameters) -> Result<Option<(Evaluation, f64)>, TrainError> {
        let held_out = self.inputs.measured;
        if held_out.rows() == 0 { Ok(None) } else { self.measure(model, held_out).map(Some) }
    }

    fn measure(&mut self, model: &Parameters, rows: &Feed) -> Result<(Evaluation, f64), TrainError> {
        let Inputs { plan, cancel, .. } = self.inputs;
        let applied = Applied {
            backend: self.engine.applied(&self.applied, model)?,
            architecture: self.applied,
            layer_norm: plan.normalize == Normalize::LayerNorm,
        };
        let mut pace = Pace::default();
        let going_on = |done| {
            pace.tell(done, rows.rows(), self.listeners.on_event);
            !cancel.load(Ordering::Relaxed)
        };
        measure(&applied, rows, &self.spaces.output().scale, going_on).map_err(|e| self.diverged(e))
    }

    fn train_figures(&mut self) -> Result<TrainFigures, TrainError> {
        let Inputs { data, training, plan, cancel, .. } = self.inputs;
        let memory = Shares::new(plan.memory, data.width()).measuring.min(READ_ONCE);
        let feed = Feed::new(data, training, Order::Stored, memory).until(cancel);
        let (measured, mse) = self.measure(&self.best.clone(), &feed)?;
        Ok(TrainFigures {
            loss: self.objective_of(&measured, mse),
            mse: measured.mse,
            explained_variance: measured.explained_variance,
            entropy_bits: measured.codes.entropy_bits,
            covariance: measured.covariance,
        })
    }

    /// Finite rows give pre-activations that are not finite only by weights that are not.
    fn diverged(&self, error: TrainError) -> TrainError {
        match error {
            TrainError::Model(cause @ (ModelError::NotFinite { .. } | ModelError::GradientNotFinite)) => {
                TrainError::Diverged { step: self.progress.step, cause: cause.to_string() }
            }
            other => other,
        }
    }

    /// The objective at its final weights, for a squared error in the units of the training space.
    fn objective_of(&self, evaluation: &Evaluation, mse: f64) -> f64 {
        let Objective { entropy_weight, covariance_weight, .. } = self.inputs.plan.final_objective();
        let covariance =
            if covariance_weight == 0.0 { 0.0 } else { covariance_weight * evaluation.covariance };
        mse + entropy_weight * evaluation.codes.entropy_bits + covariance
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

use crate::board::Board;
use crate::memory::{LEAST_SAMPLE, Shares};
use crate::run_folder::RunFolder;
use crate::saved::{described, restore};
use crate::steps::{Due, Inputs, Run};
use crate::{Engine, EngineReport, Evaluation, Event, Plan, TrainError, TrainOptions};
use bae_data::{Column, Dataset, Feed, Order, RowSet, Selection, Split};
use bae_kernels::Isa;
use bae_model::{Architecture, Parameters};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What a run came to.
pub struct Outcome {
    /// The best model by the objective on the held-out rows (the last one if nothing is held out). It takes raw
    /// hidden states.
    pub model: Parameters,
    /// What that model is applied as.
    pub architecture: Architecture,
    /// What `cfg.json` says beside the widths: `training`, the complete settings, and `summary`, the figures.
    pub settings: Map<String, Value>,
    /// How `model` does, and how the run went.
    pub summary: Summary,
    /// All epochs and validations, in order.
    pub history: Vec<Event>,
    /// Why the run ended early, if it did.
    pub stopped: Option<Stopped>,
    /// What was run.
    pub plan: Plan,
    /// The folder that the model was saved in, if one was asked for.
    pub saved: Option<PathBuf>,
    /// The checkpoint that a run that was stopped goes on from.
    pub checkpoint: Option<PathBuf>,
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
    /// Wall time of the run, in seconds, with the time before it was resumed.
    pub seconds: f64,
    /// The model on the rows it was trained on, unless the run was stopped.
    pub train: Option<TrainFigures>,
    /// The model on the held-out rows, if any.
    pub validation: Option<Evaluation>,
    /// The untrained model on the same rows: what training started from.
    pub before: Option<Evaluation>,
    /// Steps after which the model that is kept was measured.
    pub best_step: usize,
    /// Whether it ended because nothing got better any more.
    pub ended_early: bool,
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
    /// As in [`bae_codes::Sparsity`].
    pub entropy_bits: f64,
    /// As in [`Evaluation`].
    pub covariance: f64,
}

/// Trains a Binary Autoencoder on the rows of `data`, or a transcoder where they have targets.
///
/// Same data, options and seed give the same bits, whatever the threads, and however often the run was killed and resumed. `cancel` is
/// looked at before each step; `on_event` is called on this thread.
///
/// # Errors
/// [`TrainError`]. A run that is cancelled or fails after its first step is an [`Outcome`].
pub fn train(
    data: &Dataset,
    options: &TrainOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Outcome, TrainError> {
    let began = Instant::now();
    // says what is wrong with the options before anything is read or made
    options.check(data)?;
    let conditions = options.conditions()?;
    let interval = options.checkpoint_interval()?;
    let mut folder = options.out.as_deref().map(|out| RunFolder::take(out, options)).transpose()?;
    let checkpoint = match &folder {
        Some(folder) if options.resume => folder.last_checkpoint()?,
        _ => None,
    };
    let mut pace = Pace::default();
    let going_on = |rows| {
        pace.tell(rows, data.rows(), on_event);
        !cancel.load(Ordering::Relaxed)
    };
    let selection = data.select(&conditions, options.skip_invalid, going_on)?.ok_or(TrainError::Cancelled)?;
    let Split { training, held_out, sequences } = split(data, &selection.rows, options)?;
    let split_within_a_sequence = sequences == Some(1);
    let plan = options.plan(data.d_in(), training.count())?;
    let shares = Shares::new(plan.memory, data.width());
    let widest = data.d_in().max(data.d_out());
    let order = if plan.shuffle { Order::Shuffled { seed: plan.seed } } else { Order::Stored };
    let feed = Feed::new(data, &training, order, shares.training).until(cancel);
    let measured = Feed::new(data, &held_out, Order::Stored, shares.measuring).until(cancel);
    let waiting = feed.bytes() + measured.bytes();
    plan.check_memory(widest, training.count(), waiting)?;
    let task = plan.task((data.d_in(), data.d_out()), training.count());
    let engine = Engine::choose(&options.device, options.threads, task)?;
    let described = described(data)?;
    let restored = checkpoint
        .map(|checkpoint| restore(&checkpoint, &plan, &described, &engine.report(), data))
        .transpose()?;
    // from here on it is known to work
    if let Some(folder) = &mut folder {
        folder.begin(options.overwrite)?;
    }
    let board = match &folder {
        Some(folder) if options.tensorboard => Some(Board::create(folder.dir())?),
        _ => None,
    };
    let mut listeners = Listeners { on_event, folder: &mut folder, board, step: 0 };
    let Selection { filtered, invalid, .. } = selection;
    listeners.tell(&Event::Start {
        rows: data.rows(),
        train_rows: training.count(),
        validation_rows: held_out.count(),
        filtered_rows: filtered,
        invalid_rows: invalid,
        sequences: sequences.filter(|&sequences| sequences > 1),
        d_in: data.d_in(),
        d_out: data.has_target().then(|| data.d_out()),
        d_sae: plan.d_sae,
        steps: plan.steps,
        epochs: plan.epochs(),
        engine: engine.report(),
        simd: Isa::best().name().to_owned(),
        buffer_bytes: waiting,
        model_bytes: plan.model_bytes(widest, training.count()),
    });
    let inputs = Inputs {
        data,
        described: &described,
        training: &training,
        feed: &feed,
        measured: &measured,
        plan: &plan,
        cancel,
    };
    let due = Due {
        every: options.checkpoint_every,
        interval,
        // a training that may be started again must find what it came to
        at_end: options.resume,
        last: Instant::now(),
    };
    if let Some(source) = data.lacks(Column::Sequence).filter(|_| held_out.count() > 0) {
        listeners.warn(format!(
            "{source} does not say what its sequences are, others do: single rows are held out, not whole sequences"
        ));
    }
    if feed.is_windowed() && shares.sample.min(feed.window()) < LEAST_SAMPLE {
        listeners.warn(format!(
            "memory of {} bytes leaves room for a sample of {} rows to start from: what is learnt suffers; give more (--memory)",
            plan.memory,
            shares.sample.min(feed.window())
        ));
    }
    if split_within_a_sequence {
        let message = "all rows are of one sequence, so rows of it are held out: \
                       how well the model does on other sequences is unknown";
        listeners.warn(message.into());
    }
    let run = match restored {
        None => Run::start(inputs, engine, listeners, due, began)?,
        Some(restored) => Run::resume(inputs, engine, listeners, due, began, restored)?,
    };
    run.finish()
}

/// Rows to train on and rows to hold out.
fn split(data: &Dataset, rows: &RowSet, options: &TrainOptions) -> Result<Split, TrainError> {
    let count = rows.count();
    if count < 2 {
        return Err(TrainError::Option(format!(
            "the data has {count} row{}: entropy and covariance need at least 2 rows, a useful model thousands; give more data",
            if rows.is_all() { "" } else { " left" }
        )));
    }
    let split = Split::new(data, rows, options.validation_fraction, options.hold_out())?;
    if split.training.count() == 0 {
        return Err(TrainError::Option(format!(
            "validationFraction {} of {count} rows leaves none to train on; lower it or give more data",
            options.validation_fraction
        )));
    }
    Ok(split)
}

/// Tells of rows that are looked at, now and then.
#[derive(Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Tells that `rows` of `total` are done, if it is time.
    pub fn tell(&mut self, rows: usize, total: usize, on_event: &mut dyn FnMut(&Event)) {
        const EVERY: Duration = Duration::from_secs(1);
        if self.last.get_or_insert_with(Instant::now).elapsed() >= EVERY {
            self.last = Some(Instant::now());
            on_event(&Event::Reading { rows: rows.min(total), total });
        }
    }
}

/// Whoever hears of what happens.
pub(crate) struct Listeners<'a> {
    pub on_event: &'a mut dyn FnMut(&Event),
    pub folder: &'a mut Option<RunFolder>,
    board: Option<Board>,
    step: usize,
}

impl Listeners<'_> {
    pub fn tell(&mut self, event: &Event) {
        (self.on_event)(event);
        if let Event::Step { step, .. } = event {
            self.step = *step;
        }
        let recorded = self.folder.as_mut().map_or(Ok(()), |folder| folder.record(event));
        if let Err(error) = recorded {
            self.warn(error.to_string());
        }
        if let Some(Err(error)) = self.board.as_mut().map(|board| board.add(event)) {
            self.board = None;
            self.warn(error.to_string());
        }
    }

    pub fn warn(&mut self, message: String) {
        let event = Event::Warning { step: self.step, message };
        (self.on_event)(&event);
        if let Some(folder) = self.folder {
            let _ = folder.record(&event);
        }
    }
}

//! Long calls: one thread a job, one ordered queue of events to JavaScript.

use crate::codes::Codes;
use crate::error::{Failure, guard};
use crate::model::{Loaded, Model};
use crate::statistics::Statistics;
use bae_codes::{BitMatrix, GroupedStatistics};
use bae_kernels::Isa;
use napi::bindgen_prelude::*;
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode as Mode};
use napi_derive::napi;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a job tells JavaScript, in order: any number of `progress`, then exactly one of the others.
#[napi(discriminant = "kind", discriminant_case = "lowercase", object_from_js = false)]
pub enum JobEvent {
    /// May be dropped while JavaScript is busy.
    Progress { json: String },
    /// The end.
    Done { json: String },
    /// The end, after `cancel()`.
    Cancelled { json: String },
    /// The end, with one of the codes of `BaeError`.
    Failed { code: String, message: String },
}

/// Strong (keeps the event loop alive until the job ends), bounded, not `(err, value)`.
pub type Events = ThreadsafeFunction<JobEvent, (), JobEvent, Status, false, false, 4096>;

/// What a job leaves to be taken once it is done.
#[derive(Default)]
pub struct Output {
    /// For `takeModel`.
    pub model: Option<Arc<Loaded>>,
    /// For `takeCodes`.
    pub codes: Option<BitMatrix>,
    /// For `takeStatistics`.
    pub statistics: Option<GroupedStatistics>,
    /// For `takeValues`.
    pub values: Option<Vec<f32>>,
}

/// How a job ended, if it did not fail.
pub enum End {
    /// Done, with its summary.
    Done(Value),
    /// Cancelled, with what was kept.
    Cancelled(Value),
}

/// A job's view of itself.
pub struct Context {
    cancel: Arc<AtomicBool>,
    output: Arc<Mutex<Output>>,
    events: Arc<Events>,
}

impl Context {
    /// Raised by `cancel()`.
    pub fn cancel_flag(&self) -> &AtomicBool {
        &self.cancel
    }

    /// Tells JavaScript, if its queue has room; cancels the job if there is nobody left to tell.
    pub fn progress(&self, event: &impl serde::Serialize) {
        let Ok(json) = serde_json::to_string(event) else { return };
        if self.events.call(JobEvent::Progress { json }, Mode::NonBlocking) == Status::Closing {
            // the worker or process that wanted the result is gone
            self.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Whether `cancel()` was called.
    pub fn cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Rows done of `total`; false once cancelled.
    pub fn rows(&self, rows: usize, total: usize) -> bool {
        self.progress(&json!({ "type": "rows", "rows": rows, "total": total }));
        !self.cancelled()
    }

    /// Leaves something to be taken.
    pub fn leave(&self, change: impl FnOnce(&mut Output)) {
        change(&mut self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()));
    }
}

/// A running call. Its results are taken after `done`.
#[napi]
pub struct Job {
    cancel: Arc<AtomicBool>,
    output: Arc<Mutex<Output>>,
}

#[napi]
impl Job {
    /// Asks the job to end soon.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }

    /// The model that the job made, once.
    #[napi(catch_unwind)]
    pub fn take_model(&self) -> Option<Model> {
        self.take(|output| output.model.take()).map(Model::from)
    }

    /// The codes that the job made, once.
    #[napi(catch_unwind)]
    pub fn take_codes(&self) -> Option<Codes> {
        self.take(|output| output.codes.take()).map(Codes::from)
    }

    /// The counts that the job made, once.
    #[napi(catch_unwind)]
    pub fn take_statistics(&self) -> Option<Statistics> {
        self.take(|output| output.statistics.take()).map(Statistics::from)
    }

    /// The values that the job made, once; not copied.
    #[napi(catch_unwind)]
    pub fn take_values(&self) -> Option<Float32Array> {
        self.take(|output| output.values.take()).map(Float32Array::new)
    }

    fn take<T>(&self, what: impl FnOnce(&mut Output) -> Option<T>) -> Option<T> {
        what(&mut self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// The instruction set that the kernels use, unless `BAE_SIMD` names one that this CPU lacks.
pub fn instruction_set() -> std::result::Result<Isa, Failure> {
    Isa::chosen().map_err(|message| Failure { code: "INVALID_ARGUMENT", message })
}

/// Runs `work` on a thread of its own. Refuses where `BAE_SIMD` names nothing: the work itself takes what it finds.
pub fn start(
    events: Events,
    work: impl FnOnce(&Context) -> std::result::Result<End, Failure> + Send + 'static,
) -> Result<Job, &'static str> {
    instruction_set()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let output = Arc::new(Mutex::new(Output::default()));
    let context = Context { cancel: cancel.clone(), output: output.clone(), events: Arc::new(events) };
    let run = move || {
        let last = match guard(|| work(&context)) {
            Ok(End::Done(json)) => JobEvent::Done { json: json.to_string() },
            Ok(End::Cancelled(json)) => JobEvent::Cancelled { json: json.to_string() },
            Err(Failure { code: "CANCELLED", .. }) => JobEvent::Cancelled { json: "{}".into() },
            Err(Failure { code, message }) => JobEvent::Failed { code: code.into(), message },
        };
        context.events.call(last, Mode::Blocking);
    };
    std::thread::Builder::new().name("bae-job".into()).spawn(run).map_err(|error| Failure {
        code: "IO",
        message: format!(
            "no thread could be started: {error}; close other programs or raise the process limit"
        ),
    })?;
    Ok(Job { cancel, output })
}

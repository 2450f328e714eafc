//! Training: options, schedules, the loop over epochs, events, validation, cancellation.

mod bench;
mod engine;
mod error;
mod evaluate;
mod event;
mod options;
mod run;
mod schedule;

pub use bench::{BenchOptions, BenchReport, EncodeTime, bench};
pub use engine::{Engine, EngineReport, Task};
pub use error::TrainError;
pub use evaluate::{Codes, Evaluation, encode_chunks, evaluate};
pub use event::{Event, Validation};
pub use options::{EstimatorName, MAX_THREADS, Normalize, Plan, Preset, TrainOptions};
pub use run::{Outcome, Stopped, train};

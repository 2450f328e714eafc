//! Training: options, schedules, the loop over epochs, events, validation, cancellation.

mod bench;
mod error;
mod evaluate;
mod event;
mod options;
mod run;
mod schedule;

pub use bench::{BenchOptions, BenchReport, EncodeTime, bench};
pub use error::TrainError;
pub use evaluate::{Codes, Evaluation, encode_chunks, evaluate};
pub use event::{Event, Validation};
pub use options::{Device, EstimatorName, MAX_THREADS, Normalize, Plan, Preset, TrainOptions};
pub use run::{Outcome, Stopped, train};

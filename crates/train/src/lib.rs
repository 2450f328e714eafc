//! Training: options, schedules, the loop over epochs, events, validation, cancellation.

mod activations;
mod bench;
mod board;
mod compare;
mod count;
mod engine;
mod error;
mod evaluate;
mod event;
mod memory;
mod options;
mod probe;
mod resample;
mod run;
mod run_folder;
mod saved;
mod schedule;
mod spaces;
mod start;
mod steps;
mod synthetic;
mod tensorboard;
mod yardsticks;

pub use activations::{Wanted, applied_chunks};
pub use bench::{BenchOptions, BenchReport, EncodeTime, bench};
pub use compare::{CompareOptions, Comparison, Features, Matched, Measure, Pairing, compare};
pub use count::{By, CountOptions, count};
pub use engine::{Engine, EngineReport, Task};
pub use error::TrainError;
pub use evaluate::{
    Applied, Codes, Control, ControlledEvaluation, Controls, Evaluation, EvaluationFigures, EvaluationGroup,
    EvaluationOptions, Reconstruction, encode_chunks, evaluate, evaluate_with_controls,
};
pub use event::{Event, Validation};
pub use memory::READ_ONCE;
pub use options::{BAE, EstimatorName, MAX_THREADS, Normalize, Plan, Preset, TrainOptions, architectures};
pub use probe::{
    ChosenFeature, ClassProbes, LeftOutClass, Probe, ProbeOptions, ProbeReport, Probes, Score, SparseProbe,
    Spread, probe,
};
pub use run::{Outcome, Stopped, Summary, TrainFigures, train};
pub use schedule::Decay;
pub use synthetic::{Directions, RecoveredBit, Recovery, SyntheticOptions, SyntheticReport, synthetic};
pub use yardsticks::{Gaussian, Spectrum, TwoNn, Yardsticks, yardsticks};

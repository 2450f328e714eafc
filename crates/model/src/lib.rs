//! The autoencoder itself: parameters, binarization and its gradient estimators, objective, optimiser, and the
//! engines that run a training step.
//!
//! [`reference`] is the step in plain f64 loops, the oracle of every test; [`Cpu`] is the fast one. Both implement
//! [`Backend`], and so does every further engine.

mod activation;
mod adam;
pub mod architectures;
mod backend;
pub mod cpu;
pub mod initial;
mod normalisation;
mod objective;
mod parameters;
mod precision;
mod quietly;
pub mod reference;
pub mod sae;
mod state;

pub use activation::{Activation, Estimator, OutputActivation};
pub use adam::{Adam, Moments};
pub use backend::{Backend, ModelError, Trace, check_width};
pub use cpu::{Cpu, Stages};
pub use normalisation::{Normalisation, layer_norm};
pub use objective::{Architecture, Batch, Objective, StepStats, Target};
pub use parameters::{Parameters, TENSORS};
pub use precision::Precision;
pub use quietly::quietly;
pub use sae::Sae;
pub use state::TrainingState;

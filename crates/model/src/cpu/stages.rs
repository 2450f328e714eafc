//! Where a step's time goes.

use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Seconds of each stage, summed over the steps taken; the stages make up the whole step.
///
/// Stages that run inside one another's tasks get their share of the wall time that the tasks took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stages {
    /// Hidden states packed for the products.
    pub pack: f64,
    /// Encoder product, step function and packing of bits.
    pub encode: f64,
    /// Bits turned to feature rows, counted, and made into lists.
    pub turn: f64,
    /// Decoder rows added up.
    pub decode: f64,
    /// Errors, their squared sum, and their packing.
    pub errors: f64,
    /// Covariance: its loss and signs.
    pub covariance: f64,
    /// Gradient by the codes from the errors: the transposed decoder product.
    pub grad_h: f64,
    /// Gradients of entropy and covariance.
    pub penalties: f64,
    /// Gradient estimator.
    pub estimator: f64,
    /// Encoder's gradient.
    pub grad_encoder: f64,
    /// Decoder's gradient.
    pub grad_decoder: f64,
    /// Adam.
    pub adam: f64,
}

impl Stages {
    /// All stages, in the order of a step.
    fn each(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            pack: f(self.pack, other.pack),
            encode: f(self.encode, other.encode),
            turn: f(self.turn, other.turn),
            decode: f(self.decode, other.decode),
            errors: f(self.errors, other.errors),
            covariance: f(self.covariance, other.covariance),
            grad_h: f(self.grad_h, other.grad_h),
            penalties: f(self.penalties, other.penalties),
            estimator: f(self.estimator, other.estimator),
            grad_encoder: f(self.grad_encoder, other.grad_encoder),
            grad_decoder: f(self.grad_decoder, other.grad_decoder),
            adam: f(self.adam, other.adam),
        }
    }
}

impl std::ops::Sub for Stages {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.each(other, |a, b| a - b)
    }
}

impl std::ops::Div<f64> for Stages {
    type Output = Self;
    fn div(self, by: f64) -> Self {
        self.each(self, |a, _| a / by)
    }
}

/// Parts of the backward pass, in the order of their slots in [`Shares`].
#[derive(Clone, Copy)]
pub(super) enum Part {
    GradH,
    Penalties,
    Estimator,
    GradEncoder,
    GradDecoder,
    Adam,
}

/// Thread time of the parts of the backward pass, in nanoseconds.
#[derive(Default)]
pub(super) struct Shares([AtomicU64; 6]);

/// Measures the time from one call to the next and books it; the default one only runs.
#[derive(Default)]
pub(super) struct Clock<'a>(Option<(&'a Shares, Instant)>);

impl Shares {
    /// Starts now.
    pub fn clock(&self) -> Clock<'_> {
        Clock(Some((self, Instant::now())))
    }
}

impl Clock<'_> {
    /// The time since the last call was spent on `part`.
    pub fn book(&mut self, part: Part) {
        if let Some((shares, last)) = &mut self.0 {
            let now = Instant::now();
            shares.0[part as usize].fetch_add((now - *last).as_nanos() as u64, Ordering::Relaxed);
            *last = now;
        }
    }
}

impl Stages {
    /// Divides the wall time of the backward pass by the parts' thread time.
    pub(super) fn add_backward(&mut self, seconds: f64, shares: &Shares) {
        let parts: [f64; 6] = std::array::from_fn(|at| shares.0[at].load(Ordering::Relaxed) as f64);
        let per_nanosecond = seconds / parts.iter().sum::<f64>().max(1.0);
        let [grad_h, penalties, estimator, grad_encoder, grad_decoder, adam] =
            parts.map(|part| part * per_nanosecond);
        self.grad_h += grad_h;
        self.penalties += penalties;
        self.estimator += estimator;
        self.grad_encoder += grad_encoder;
        self.grad_decoder += grad_decoder;
        self.adam += adam;
    }
}

/// Runs `work` and adds its seconds to `stage`.
pub(super) fn timed<T>(stage: &mut f64, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *stage += began.elapsed().as_secs_f64();
    result
}

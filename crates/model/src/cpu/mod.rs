//! The step on the CPU: f32 products, codes as bits, penalties as integers.

mod real_valued;
mod step;

use crate::{
    Activation, Adam, Architecture, Backend, Batch, ModelError, Moments, Objective, Parameters, StepStats,
    Trace, reference,
};
use bae_codes::BitMatrix;
use bae_kernels::{Isa, adam, product, rows};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};

/// A model on the CPU. Same parameters and data give the same bits with any number of threads.
pub struct Cpu {
    parameters: Arc<Parameters>,
    /// Made by the first step: a model that only encodes needs none.
    moments: Option<Moments>,
    threads: Arc<rayon::ThreadPool>,
    isa: Isa,
}

/// All that forward and backward leave behind; `h` is the codes as values where they are not bits.
struct Passed {
    z: Array2<f32>,
    h: Codes,
    y: Array2<f32>,
    grad_y: Array2<f32>,
    grad_h: Array2<f32>,
    grad_z: Array2<f32>,
    gradient: Parameters,
    stats: StepStats,
}

enum Codes {
    Bits(BitMatrix),
    Values(Array2<f32>),
}

/// Threads that `threads` asks for: itself, or what the machine offers for 0.
pub fn thread_count(threads: usize) -> usize {
    if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, |n| n.get()) }
}

/// The pool of so many threads, shared by all models of the process that use as many and gone with the last of them.
fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    static POOLS: Mutex<BTreeMap<usize, Weak<rayon::ThreadPool>>> = Mutex::new(BTreeMap::new());
    let count = thread_count(threads);
    let mut pools = POOLS.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let start =
        || rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|at| format!("bae-{at}")).build();
    if let Some(pool) = pools.get(&count).and_then(Weak::upgrade) {
        return pool;
    }
    let pool = Arc::new(start().expect("the system starts threads"));
    pools.insert(count, Arc::downgrade(&pool));
    pool
}

impl Cpu {
    /// A model with these parameters and no steps taken; `threads` 0 takes what the machine offers.
    pub fn new(parameters: Parameters, threads: usize) -> Self {
        Self { parameters: Arc::new(parameters), moments: None, threads: pool(threads), isa: Isa::best() }
    }

    /// The same engine (threads, instruction set) for other parameters.
    pub fn with_parameters(&self, parameters: impl Into<Arc<Parameters>>) -> Self {
        Self { parameters: parameters.into(), moments: None, threads: self.threads.clone(), isa: self.isa }
    }

    /// The same parameters, not copied, on so many threads.
    pub fn with_threads(&self, threads: usize) -> Self {
        Self { parameters: self.parameters.clone(), moments: None, threads: pool(threads), isa: self.isa }
    }

    /// On another instruction set, which changes no bit: for tests.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The parameters, to read.
    pub fn view(&self) -> &Parameters {
        &self.parameters
    }

    /// Runs `work` on this model's threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    fn check_width(&self, what: &'static str, expected: usize, got: usize) -> Result<(), ModelError> {
        if expected == got { Ok(()) } else { Err(ModelError::Shape { what, expected, got }) }
    }

    /// z = x W_enc + b_enc.
    fn pre_activations(&self, x: ArrayView2<f32>) -> Array2<f32> {
        let mut z = Array2::zeros((x.nrows(), self.parameters.d_sae()));
        z.axis_iter_mut(Axis(0)).for_each(|mut row| row.assign(&self.parameters.b_enc));
        product::add_product(self.isa, x, self.parameters.w_enc.view(), z.view_mut());
        z
    }

    /// h W_dec + b_dec for bits.
    fn decode_bits(&self, codes: &BitMatrix) -> Array2<f32> {
        let mut y = Array2::zeros((codes.rows(), self.parameters.d_out()));
        y.axis_iter_mut(Axis(0)).for_each(|mut row| row.assign(&self.parameters.b_dec));
        let columns = y.ncols();
        let (weights, out) = (self.parameters.w_dec.as_slice(), y.as_slice_mut());
        let (weights, out) = (weights.expect("row-major"), out.expect("row-major"));
        rows::add_selected(self.isa, codes.words(), codes.words_per_row(), weights, out, columns);
        y
    }

    fn pass(
        &self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Result<Passed, Poisoned>, ModelError> {
        self.check_width("the batch", self.parameters.d_in(), batch.x.ncols())?;
        let passed = self.threads.install(|| match architecture.activation {
            Activation::Binary(estimator) => step::pass(self, architecture, estimator, objective, batch),
            _ => Ok(real_valued::pass(self, architecture, objective, batch)),
        });
        match passed {
            Err(Poisoned { row, feature }) if !objective.as_published => {
                Err(ModelError::NotFinite { row, feature })
            }
            other => Ok(other),
        }
    }

    /// A batch with a value that is no bit, as the published code has it: the plain loops say what becomes of it.
    fn poisoned(&self, architecture: &Architecture, objective: &Objective, batch: Batch) -> Trace {
        reference::trace(&self.parameters.map(f64::from), architecture, objective, batch)
    }

    fn update(&mut self, adam: &Adam, gradient: &Parameters) {
        let moments = self.moments.get_or_insert_with(|| Moments::new(&self.parameters));
        let numbers = moments.advance(adam);
        let Moments { first, second, .. } = moments;
        let parameters = Arc::make_mut(&mut self.parameters).flat_mut().into_iter().zip(gradient.flat());
        let isa = self.isa;
        self.threads.install(|| {
            for (((parameters, gradient), first), second) in
                parameters.zip(first.flat_mut()).zip(second.flat_mut())
            {
                adam::step(isa, numbers, parameters, first, second, gradient);
            }
        });
    }
}

/// A pre-activation that no bit can stand for.
struct Poisoned {
    row: usize,
    feature: usize,
}

/// The first pre-activation that is NaN (or infinite, where `or_infinite`).
fn find_poison(z: &Array2<f32>, or_infinite: bool) -> Result<(), Poisoned> {
    let bad = |z: &f32| if or_infinite { !z.is_finite() } else { z.is_nan() };
    let columns = z.ncols().max(1);
    let found =
        z.as_slice().expect("row-major").par_chunks(columns).position_first(|row| row.iter().any(bad));
    match found {
        None => Ok(()),
        Some(row) => Err(Poisoned { row, feature: z.row(row).iter().position(bad).unwrap_or(0) }),
    }
}

impl Backend for Cpu {
    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError> {
        let (gradient, stats) = match self.pass(architecture, objective, batch)? {
            Ok(passed) => (passed.gradient, passed.stats),
            Err(_) => {
                let trace = self.poisoned(architecture, objective, batch);
                (trace.gradient.map(|g| g as f32), trace.stats)
            }
        };
        self.update(adam, &gradient);
        Ok(stats)
    }

    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        let passed = match self.pass(architecture, objective, batch)? {
            Ok(passed) => passed,
            Err(_) => return Ok(self.poisoned(architecture, objective, batch)),
        };
        let wide = |values: &Array2<f32>| values.mapv(f64::from);
        Ok(Trace {
            z: wide(&passed.z),
            h: match &passed.h {
                Codes::Values(values) => wide(values),
                Codes::Bits(bits) => {
                    Array2::from_shape_fn((bits.rows(), bits.features()), |(row, feature)| {
                        f64::from(u8::from(bits.get(row, feature)))
                    })
                }
            },
            y: wide(&passed.y),
            grad_y: wide(&passed.grad_y),
            grad_h: wide(&passed.grad_h),
            grad_z: wide(&passed.grad_z),
            gradient: passed.gradient.map(f64::from),
            stats: passed.stats,
        })
    }

    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError> {
        self.check_width("hidden states", self.parameters.d_in(), x.ncols())?;
        let estimator = architecture.estimator().unwrap_or(crate::Estimator::Identity);
        self.threads
            .install(|| step::encode(&self.pre_activations(x), estimator))
            .map_err(|Poisoned { row, feature }| ModelError::NotFinite { row, feature })
    }

    fn decode(&self, architecture: &Architecture, codes: &BitMatrix) -> Result<Array2<f32>, ModelError> {
        self.check_width("a code", self.parameters.d_sae(), codes.features())?;
        let mut y = self.threads.install(|| self.decode_bits(codes));
        step::apply_output(architecture.output, &mut y);
        Ok(y)
    }

    fn parameters(&self) -> Parameters {
        (*self.parameters).clone()
    }

    fn moments(&self) -> Moments {
        self.moments.clone().unwrap_or_else(|| Moments::new(&self.parameters))
    }
}

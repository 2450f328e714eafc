//! The step on the CPU: f32 products, codes as bits, penalties as integers.

mod clipped;
mod encode;
mod left;
pub(crate) mod output;
mod real_valued;
mod stages;
mod step;
mod trace;
mod weights;

pub use stages::Stages;

use crate::backend::check_width;
use crate::state::count_idle;
use crate::{
    Adam, Architecture, Backend, Batch, Estimator, ModelError, Moments, Objective, Parameters, Precision,
    StepStats, Trace, TrainingState, reference,
};
use bae_codes::BitMatrix;
use bae_kernels::adam::AdamStep;
use bae_kernels::batch::{BatchCodes, PANEL};
use bae_kernels::columns::ColumnPanels;
use bae_kernels::{Isa, adam, gather, pairs};
use encode::TOGETHER;
use left::Left;
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;
use stages::{Part, Shares};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Instant;
use step::{Backward, Forward, Setup};
use weights::Weights;

/// A model on the CPU. Same parameters and data give the same bits with any number of threads.
pub struct Cpu {
    weights: Arc<Weights>,
    /// Made by the first step: a model that only encodes needs none.
    moments: Option<StepMoments>,
    /// All gradients of a step, made by the first one that clips them.
    gradient: Option<Weights>,
    /// Steps since each feature was last on, `[d_sae]`.
    idle: Vec<u32>,
    threads: Arc<rayon::ThreadPool>,
    isa: Isa,
    precision: Precision,
    scratch: step::Scratch,
    stages: Stages,
}

/// Adam's moments, in the form of the weights.
struct StepMoments {
    first: Weights,
    second: Weights,
    steps: u64,
}

/// Threads that `threads` asks for: itself, or for 0 one for each physical core that this process may use: a second
/// thread on a core has no multipliers of its own.
pub fn thread_count(threads: usize) -> usize {
    // asking the system reads files
    static CORES: OnceLock<usize> = OnceLock::new();
    let offered = || std::thread::available_parallelism().map_or(1, |n| n.get());
    let cores = || *CORES.get_or_init(|| offered().min(num_cpus::get_physical()).max(1));
    if threads > 0 { threads } else { cores() }
}

/// The pool of so many threads, shared by all models of the process that use as many and gone with the last of them.
pub(crate) fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
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
    pub fn new(parameters: &Parameters, threads: usize) -> Self {
        let threads = pool(threads);
        let weights = threads.install(|| Weights::from(parameters));
        Self::of(Arc::new(weights), threads, Isa::best())
    }

    fn of(weights: Arc<Weights>, threads: Arc<rayon::ThreadPool>, isa: Isa) -> Self {
        let (scratch, stages) = (step::Scratch::default(), Stages::default());
        let idle = vec![0; weights.d_sae];
        let (moments, gradient) = (None, None);
        Self { weights, moments, gradient, idle, threads, isa, precision: Precision::F32, scratch, stages }
    }

    /// The same engine (threads, instruction set) for other parameters.
    pub fn with_parameters(&self, parameters: &Parameters) -> Self {
        Self::of(Arc::new(self.panels(parameters)), self.threads.clone(), self.isa)
    }

    /// The same parameters, not copied, on so many threads.
    pub fn with_threads(&self, threads: usize) -> Self {
        Self::of(self.weights.clone(), pool(threads), self.isa)
    }

    /// On another instruction set, which changes no bit: for tests.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// Steps with products of this precision; encoding and decoding stay f32.
    ///
    /// Panics for [`Precision::F16`], which is not one of the CPU's.
    pub fn with_precision(self, precision: Precision) -> Self {
        assert_ne!(precision, Precision::F16, "half floats are not for the CPU");
        Self { precision, ..self }
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.weights.d_in
    }

    /// Width of what is made of a hidden state.
    pub fn d_out(&self) -> usize {
        self.weights.d_out
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        self.weights.d_sae
    }

    /// A copy of the parameters.
    pub fn parameters(&self) -> Parameters {
        self.threads.install(|| Parameters::from(&*self.weights))
    }

    /// Threads of its pool.
    pub fn thread_count(&self) -> usize {
        self.threads.current_num_threads()
    }

    /// Runs `work` on this model's threads.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    /// Everything of one step up to the gradient by the outputs. A batch with a value that is no bit is an error, unless
    /// the objective wants what the published code makes of it.
    fn forward(
        &mut self,
        (architecture, estimator): (&Architecture, Estimator),
        objective: &Objective,
        batch: Batch,
        keep_outputs: bool,
    ) -> Result<Option<Forward>, ModelError> {
        let Self { weights, scratch, stages, isa, precision, threads, .. } = self;
        let (isa, precision) = (*isa, *precision);
        let setup = Setup { isa, precision, estimator, output: architecture.output, objective, keep_outputs };
        match threads.install(|| step::forward(setup, weights, scratch, stages, batch)) {
            Ok(forward) => Ok(Some(forward)),
            Err(_) if objective.as_published => Ok(None),
            Err(Poisoned { row, feature }) => Err(ModelError::NotFinite { row, feature }),
        }
    }

    /// In the form of the weights.
    fn panels(&self, from: &Parameters) -> Weights {
        self.threads.install(|| Weights::from(from))
    }

    /// A batch in the plain f64 loops: codes that are not bits, as published.
    fn plainly(&self, architecture: &Architecture, objective: &Objective, batch: Batch) -> Trace {
        reference::trace(&self.parameters().map(f64::from), architecture, objective, batch)
    }

    /// Backward and Adam in one: a panel's weights change as soon as its gradients are made.
    fn backward_and_update(&mut self, estimator: Estimator, x: &[f32], forward: &Forward, adam: &Adam) {
        let isa = self.isa;
        let shares = Shares::default();
        let moments = self.moments.get_or_insert_with(|| StepMoments::new(&self.weights));
        let numbers = moments.advance(adam);
        let StepMoments { first, second, .. } = moments;
        let weights = Arc::make_mut(&mut self.weights);
        let (threads, scratch) = (&self.threads, &self.scratch);
        let prepare = || threads.install(|| Backward::new(isa, estimator, x, forward, scratch));
        let backward = stages::timed(&mut self.stages.covariance, prepare);
        let (d_sae, encoder_panel, decoder_panel) =
            (weights.d_sae, weights.encoder_panel(), weights.decoder_panel());
        let group = encode::group(d_sae.div_ceil(PANEL), self.threads.current_num_threads());
        let update = |weights: &mut [f32], first: &mut [f32], second: &mut [f32], gradient: &[f32]| {
            adam::update(isa, numbers, weights, first, second, gradient);
        };
        let began = Instant::now();
        self.threads.install(|| {
            let groups = weights.panels_mut(group).zip(first.panels_mut(group)).zip(second.panels_mut(group));
            groups.enumerate().with_max_len(1).for_each(|(at, ((weights, first), second))| {
                backward.scratch.panels.with(|gradients| {
                    let mut clock = shares.clock();
                    let encoders = weights.encoder.chunks_mut(TOGETHER * encoder_panel);
                    let encoders = encoders.zip(first.encoder.chunks_mut(TOGETHER * encoder_panel));
                    let encoders = encoders.zip(second.encoder.chunks_mut(TOGETHER * encoder_panel));
                    let biases = weights.b_enc.chunks_mut(TOGETHER * PANEL);
                    let biases = biases.zip(first.b_enc.chunks_mut(TOGETHER * PANEL));
                    let biases = biases.zip(second.b_enc.chunks_mut(TOGETHER * PANEL));
                    let decoders = weights.decoder.chunks(TOGETHER * decoder_panel);
                    let few = encoders.zip(biases).zip(decoders).enumerate();
                    for (part, ((encoder, bias), decoder)) in few {
                        backward.panels(at * group + part * TOGETHER, decoder, gradients, &mut clock);
                        let ((weights, first), second) = encoder;
                        update(weights, first, second, &gradients.encoder);
                        let ((weights, first), second) = bias;
                        update(weights, first, second, &gradients.b_enc);
                        clock.book(Part::Adam);
                    }
                    let start = at * group * PANEL;
                    backward.decoder(start..d_sae.min(start + group * PANEL), gradients, &mut clock);
                    update(weights.decoder, first.decoder, second.decoder, &gradients.decoder);
                    clock.book(Part::Adam);
                });
            });
            adam::update(
                isa,
                numbers,
                &mut weights.b_dec,
                &mut first.b_dec,
                &mut second.b_dec,
                &forward.b_dec,
            );
        });
        self.stages.add_backward(began.elapsed().as_secs_f64(), &shares);
    }
}

impl StepMoments {
    fn new(weights: &Weights) -> Self {
        Self { first: weights.zeros_like(), second: weights.zeros_like(), steps: 0 }
    }

    fn advance(&mut self, adam: &Adam) -> AdamStep {
        self.steps += 1;
        adam.numbers(self.steps)
    }
}

/// A pre-activation that no bit can stand for.
struct Poisoned {
    row: usize,
    feature: usize,
}

impl Backend for Cpu {
    fn d_sae(&self) -> usize {
        self.d_sae()
    }

    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError> {
        batch.check(self.weights.d_in, self.weights.d_out)?;
        let Some(estimator) = architecture.estimator() else {
            let passed = real_valued::pass(self, architecture, objective, batch);
            let gradient_norm = self.update(adam, &mut self.panels(&passed.gradient))?;
            count_idle(&mut self.idle, |feature| passed.h.column(feature).iter().any(|&h| h > 0.0));
            return Ok(StepStats { gradient_norm, ..passed.stats });
        };
        let Some(forward) = self.forward((architecture, estimator), objective, batch, false)? else {
            let trace = self.plainly(architecture, objective, batch);
            let gradient = trace.gradient.map(|g| g as f32);
            let gradient_norm = self.update(adam, &mut self.panels(&gradient))?;
            count_idle(&mut self.idle, |feature| trace.h.column(feature).iter().any(|&h| h > 0.0));
            return Ok(StepStats { gradient_norm, ..trace.stats });
        };
        let x = batch.x.as_standard_layout();
        let x = x.as_slice().expect("row-major");
        let gradient_norm = if adam.clips() {
            self.backward_then_update(estimator, x, &forward, adam)?
        } else {
            self.backward_and_update(estimator, x, &forward, adam);
            None
        };
        count_idle(&mut self.idle, |feature| forward.codes.ones()[feature] > 0);
        Ok(StepStats { gradient_norm, ..forward.stats })
    }

    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        batch.check(self.weights.d_in, self.weights.d_out)?;
        let Some(estimator) = architecture.estimator() else {
            return Ok(real_valued::pass(self, architecture, objective, batch).into());
        };
        let Some(forward) = self.forward((architecture, estimator), objective, batch, true)? else {
            return Ok(self.plainly(architecture, objective, batch));
        };
        let x = batch.x.as_standard_layout();
        let x = x.as_slice().expect("row-major");
        Ok(self.threads.install(|| {
            let backward = Backward::new(self.isa, estimator, x, &forward, &self.scratch);
            trace::look_into(&self.weights, &backward)
        }))
    }

    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError> {
        check_width("hidden states", self.weights.d_in, x.ncols())?;
        let estimator = architecture.estimator().unwrap_or(Estimator::Identity);
        let words = self.threads.install(|| {
            let mut rows = Left::default();
            rows.pack(self.isa, Precision::F32, x);
            encode::encode(self.isa, estimator, &self.weights, &rows, &self.scratch.panels, None)
        });
        let words = words.map_err(|Poisoned { row, feature }| ModelError::NotFinite { row, feature })?;
        Ok(BitMatrix::from_panels(x.nrows(), self.weights.d_sae, &words))
    }

    fn decode(&self, architecture: &Architecture, codes: &BitMatrix) -> Result<Array2<f32>, ModelError> {
        check_width("a code", self.weights.d_sae, codes.features())?;
        let mut y = self.threads.install(|| {
            // no majority: a row's reconstruction must not depend on the rows beside it
            let codes = BatchCodes::unflipped(codes.rows(), codes.features(), codes.to_panels());
            let mut y = ColumnPanels::default();
            gather::decode(self.isa, &codes, self.weights.decoder(), &self.weights.b_dec, &mut y);
            y.to_rows()
        });
        output::apply(architecture.output, &mut y);
        Ok(y)
    }

    fn covariance(&self, codes: &BitMatrix) -> Result<f64, ModelError> {
        check_width("a code", self.weights.d_sae, codes.features())?;
        let rows = codes.rows();
        if rows < 2 {
            return Ok(0.0);
        }
        let sum = self.threads.install(|| {
            let codes = BatchCodes::new(rows, codes.features(), codes.to_panels());
            pairs::absolute_sum(self.isa, &codes)
        });
        Ok(sum as f64 / (rows as f64 * (rows as f64 - 1.0)))
    }

    fn parameters(&self) -> Result<Parameters, ModelError> {
        Ok(self.parameters())
    }

    fn moments(&self) -> Result<Moments, ModelError> {
        let Some(StepMoments { first, second, steps }) = &self.moments else {
            return Ok(Moments::new(&self.parameters()));
        };
        let rows = |weights: &Weights| self.threads.install(|| Parameters::from(weights));
        Ok(Moments { first: rows(first), second: rows(second), steps: *steps })
    }

    fn idle(&self) -> Result<Vec<u32>, ModelError> {
        Ok(self.idle.clone())
    }

    fn restore(&mut self, state: &TrainingState) -> Result<(), ModelError> {
        state.check(self.weights.d_in, self.weights.d_sae, self.weights.d_out)?;
        let TrainingState { parameters, moments: Moments { first, second, steps }, idle } = state;
        let moments = StepMoments { first: self.panels(first), second: self.panels(second), steps: *steps };
        self.weights = Arc::new(self.panels(parameters));
        self.moments = Some(moments);
        self.idle.clone_from(idle);
        Ok(())
    }

    fn stages(&self) -> Stages {
        self.stages
    }
}

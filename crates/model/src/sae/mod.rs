//! The engine of architectures whose codes hold values, on the CPU: codes as lists, and work for what is on only.
//!
//! Encoder and decoder are kept feature by feature: all that a feature's backward pass and its Adam step touch are two rows and
//! the batch.

mod gradient;
mod pass;
pub mod reference;
mod weights;

use crate::architectures::{Coding, Entries, Kind, Pass};
use crate::backend::check_width;
use crate::cpu::{output, pool};
use crate::state::count_idle;
use crate::{
    Adam, Architecture, Backend, Batch, ModelError, Moments, Objective, Parameters, StepStats, Target, Trace,
    TrainingState,
};
use bae_codes::{BitMatrix, ValueMatrix};
use bae_kernels::{Isa, adam};
use gradient::{Backward, Errors, FEATURES, Scratch};
use ndarray::{Array2, ArrayView2, ArrayViewMut1};
use pass::Forward;
use rayon::prelude::*;
use std::sync::Arc;
use weights::Weights;

/// A model whose codes hold values, on the CPU. Same parameters and data give the same bits with any number of threads.
pub struct Sae {
    weights: Arc<Weights>,
    /// Made by the first step: a model that only encodes needs none.
    moments: Option<StepMoments>,
    /// All gradients of a step, made by the first one that clips them.
    gradient: Option<Weights>,
    /// Steps since each feature was last on, `[d_sae]`.
    idle: Vec<u32>,
    threads: Arc<rayon::ThreadPool>,
    isa: Isa,
}

/// Adam's moments, in the form of the weights.
struct StepMoments {
    first: Weights,
    second: Weights,
    steps: u64,
}

impl Sae {
    /// A model with these parameters and no steps taken; `threads` 0 takes what the machine offers.
    pub fn new(parameters: &Parameters, threads: usize) -> Self {
        let threads = pool(threads);
        let weights = Arc::new(threads.install(|| Weights::from(parameters)));
        let idle = vec![0; weights.d_sae];
        Self { weights, moments: None, gradient: None, idle, threads, isa: Isa::best() }
    }

    /// On another instruction set, which changes no bit: for tests.
    pub fn with_isa(self, isa: Isa) -> Self {
        Self { isa, ..self }
    }

    /// The same parameters, not copied, on so many threads.
    pub fn with_threads(&self, threads: usize) -> Self {
        let (weights, idle) = (self.weights.clone(), self.idle.clone());
        Self { weights, moments: None, gradient: None, idle, threads: pool(threads), isa: self.isa }
    }

    /// A copy of the parameters.
    pub fn parameters(&self) -> Parameters {
        self.threads.install(|| Parameters::from(&*self.weights))
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.weights.d_in
    }

    /// Number of features.
    pub fn d_sae(&self) -> usize {
        self.weights.d_sae
    }

    /// Width of a reconstruction.
    pub fn d_out(&self) -> usize {
        self.weights.d_out
    }

    fn forward(
        &self,
        architecture: &Architecture,
        batch: Batch,
        pass: Pass,
    ) -> Result<(Kind, Forward), ModelError> {
        batch.check(self.weights.d_in, self.weights.d_out)?;
        if let Target::Labels(_) = batch.target {
            return Err(ModelError::Unavailable("labels are a target for codes that are bits only".into()));
        }
        let kind = kind_of(architecture)?;
        let forward = self
            .threads
            .install(|| Forward::new(self.isa, kind.coding(), &self.weights, &self.idle, batch, pass))?;
        Ok((kind, forward))
    }

    fn errors(&self, architecture: &Architecture, batch: Batch, forward: &Forward) -> Errors {
        self.threads.install(|| Errors::new(self.isa, architecture.output, &self.weights, batch, forward))
    }

    fn backward<'a>(
        &self,
        coding: &'a dyn Coding<f32>,
        objective: &'a Objective,
        x: ArrayView2<'a, f32>,
        forward: &'a Forward,
        errors: &'a Errors,
    ) -> Backward<'a> {
        let d_sae = self.weights.d_sae;
        self.threads.install(|| Backward::new(self.isa, coding, objective, d_sae, x, forward, errors))
    }

    /// Steps taken.
    fn steps(&self) -> u64 {
        self.moments.as_ref().map_or(0, |moments| moments.steps)
    }

    /// Backward and Adam in one, a group of features at a time.
    fn backward_and_update(&mut self, backward: &Backward, stats: &mut StepStats, adam: &Adam) {
        let Self { weights, moments, threads, isa, .. } = self;
        let moments = moments.get_or_insert_with(|| StepMoments::new(weights));
        moments.steps += 1;
        let (isa, numbers) = (*isa, adam.numbers(moments.steps));
        let StepMoments { first, second, .. } = moments;
        // what penalties and estimators look at is as it was before the step
        let tensors = weights.feature_tensors();
        let weights = Arc::make_mut(weights);
        let (d_in, d_out) = (weights.d_in, weights.d_out);
        let (encoder_group, decoder_group) = ((FEATURES * d_in).max(1), (FEATURES * d_out).max(1));
        let sums = threads.install(|| {
            let encoders = weights.encoder.par_chunks_mut(encoder_group);
            let encoders = encoders.zip(first.encoder.par_chunks_mut(encoder_group));
            let encoders = encoders.zip(second.encoder.par_chunks_mut(encoder_group));
            let decoders = weights.decoder.par_chunks_mut(decoder_group);
            let decoders = decoders.zip(first.decoder.par_chunks_mut(decoder_group));
            let decoders = decoders.zip(second.decoder.par_chunks_mut(decoder_group));
            let groups = encoders.zip(decoders).enumerate().with_max_len(1);
            let sums = groups.map_init(Scratch::default, |scratch, (group, (encoder, decoder))| {
                let ((encoder, encoder_first), encoder_second) = encoder;
                let ((decoder, decoder_first), decoder_second) = decoder;
                let start = group * FEATURES;
                let sums = backward.group(start..start + decoder.len() / d_out, decoder, &tensors, scratch);
                adam::update(isa, numbers, encoder, encoder_first, encoder_second, &scratch.encoder);
                adam::update(isa, numbers, decoder, decoder_first, decoder_second, &scratch.decoder);
                sums
            });
            sums.collect::<Vec<_>>()
        });
        let small = backward.small_gradients(sums, stats);
        let parts = weights.small_mut().into_iter().zip(first.small_mut()).zip(second.small_mut());
        for (((weights, first), second), gradient) in parts.zip(&small) {
            adam::update(isa, numbers, weights, first, second, gradient);
        }
    }

    /// All gradients of a batch.
    fn gradients(&self, backward: &Backward, stats: &mut StepStats, gradient: &mut Weights) {
        let Self { weights, threads, .. } = self;
        let tensors = weights.feature_tensors();
        let (d_in, d_out) = (weights.d_in, weights.d_out);
        let (encoder_group, decoder_group) = ((FEATURES * d_in).max(1), (FEATURES * d_out).max(1));
        let sums = threads.install(|| {
            let encoders = gradient.encoder.par_chunks_mut(encoder_group);
            let decoders = gradient.decoder.par_chunks_mut(decoder_group);
            let groups = encoders.zip(decoders).zip(weights.decoder.par_chunks(decoder_group)).enumerate();
            let groups = groups.with_max_len(1);
            let sums =
                groups.map_init(Scratch::default, |scratch, (group, ((to_encoder, to_decoder), decoder))| {
                    let start = group * FEATURES;
                    let sums =
                        backward.group(start..start + decoder.len() / d_out, decoder, &tensors, scratch);
                    to_encoder.copy_from_slice(&scratch.encoder);
                    to_decoder.copy_from_slice(&scratch.decoder);
                    sums
                });
            sums.collect::<Vec<_>>()
        });
        let small = backward.small_gradients(sums, stats);
        gradient.small_mut().into_iter().zip(small).for_each(|(to, from)| to.copy_from_slice(&from));
    }

    /// Backward and Adam one after the other; gives the gradient's norm. Where that is not finite nothing changes.
    fn backward_then_update(
        &mut self,
        backward: &Backward,
        stats: &mut StepStats,
        adam: &Adam,
    ) -> Result<f64, ModelError> {
        let mut gradient = self.gradient.take().unwrap_or_else(|| self.weights.zeros_like());
        self.gradients(backward, stats, &mut gradient);
        let norm = self.threads.install(|| gradient.norm());
        let scale = adam.clip(norm)? as f32;
        let Self { weights, moments, threads, isa, .. } = self;
        let moments = moments.get_or_insert_with(|| StepMoments::new(weights));
        moments.steps += 1;
        let (isa, numbers) = (*isa, adam.numbers(moments.steps));
        let weights = Arc::make_mut(weights);
        let parts = weights.flat_mut().into_iter().zip(gradient.flat_mut());
        let parts = parts.zip(moments.first.flat_mut()).zip(moments.second.flat_mut());
        threads.install(|| {
            for (((weights, gradient), first), second) in parts {
                let chunks = weights.par_chunks_mut(CHUNK).zip(gradient.par_chunks_mut(CHUNK));
                let chunks = chunks.zip(first.par_chunks_mut(CHUNK)).zip(second.par_chunks_mut(CHUNK));
                chunks.for_each(|(((weights, gradient), first), second)| {
                    gradient.iter_mut().for_each(|g| *g *= scale);
                    adam::update(isa, numbers, weights, first, second, gradient);
                });
            }
        });
        self.gradient = Some(gradient);
        Ok(norm)
    }

    fn after_step(&mut self, coding: &dyn Coding<f32>, codes: &Entries<f32>) {
        let weights = Arc::make_mut(&mut self.weights);
        let mut tensors: Vec<_> = weights
            .per_feature
            .iter_mut()
            .map(|(_, values)| ArrayViewMut1::from(values.as_mut_slice()))
            .collect();
        coding.after_step(codes, &mut tensors);
        let mut on = vec![false; self.idle.len()];
        for (&feature, &h) in codes.features.iter().zip(&codes.h) {
            on[feature as usize] |= h != 0.0;
        }
        count_idle(&mut self.idle, |feature| on[feature]);
    }
}

/// Values that Adam changes at a time: with gradient and moments they stay in the second-level cache. Changes no bit.
const CHUNK: usize = 1 << 14;

impl StepMoments {
    fn new(weights: &Weights) -> Self {
        Self { first: weights.zeros_like(), second: weights.zeros_like(), steps: 0 }
    }
}

fn kind_of(architecture: &Architecture) -> Result<Kind, ModelError> {
    architecture.kind().ok_or_else(|| {
        ModelError::Unavailable(
            "codes that are bits have an engine of their own: this is a defect, report it".into(),
        )
    })
}

impl Backend for Sae {
    fn d_sae(&self) -> usize {
        self.weights.d_sae
    }

    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError> {
        let (kind, forward) = self.forward(architecture, batch, Pass::Step(self.steps()))?;
        let x = batch.x.as_standard_layout();
        let errors = self.errors(architecture, batch, &forward);
        let backward = self.backward(kind.coding(), objective, x.view(), &forward, &errors);
        let mut stats = backward.stats;
        if adam.clips() {
            stats.gradient_norm = Some(self.backward_then_update(&backward, &mut stats, adam)?);
        } else {
            self.backward_and_update(&backward, &mut stats, adam);
        }
        objective.total(&mut stats);
        self.after_step(kind.coding(), &forward.codes);
        Ok(stats)
    }

    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        let (kind, forward) = self.forward(architecture, batch, Pass::Step(self.steps()))?;
        let x = batch.x.as_standard_layout();
        let errors = self.errors(architecture, batch, &forward);
        let backward = self.backward(kind.coding(), objective, x.view(), &forward, &errors);
        let mut stats = backward.stats;
        let mut gradient = self.weights.zeros_like();
        self.gradients(&backward, &mut stats, &mut gradient);
        objective.total(&mut stats);
        let (grad_h, grad_z) = self.threads.install(|| backward.dense(&self.weights));
        let wide = |values: &Array2<f32>| values.mapv(f64::from);
        Ok(Trace {
            z: wide(&forward.z),
            h: pass::dense(&forward.codes, self.weights.d_sae),
            y: wide(&errors.y),
            grad_y: wide(&output::output_error(&errors.y, batch).1),
            grad_h,
            grad_z,
            gradient: Parameters::from(&gradient).map(f64::from),
            stats,
        })
    }

    /// Which features are on: those whose codes are not 0.
    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError> {
        Ok(self.values(architecture, x)?.active())
    }

    fn decode(&self, _: &Architecture, _: &BitMatrix) -> Result<Array2<f32>, ModelError> {
        Err(ModelError::Invalid(
            "the codes of this architecture hold values, and which features are on does not give them back: reconstruct from hidden states"
                .into(),
        ))
    }

    fn values(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<ValueMatrix, ModelError> {
        check_width("hidden states", self.weights.d_in, x.ncols())?;
        let kind = kind_of(architecture)?;
        let codes = self.threads.install(|| {
            let z = pass::pre_activations(self.isa, &self.weights, x)?;
            let tensors = self.weights.feature_tensors();
            Ok(kind.coding().encode(z.view(), &tensors.with(&self.weights), Pass::Applied))
        })?;
        let Entries { ends, features, h, .. } = codes;
        Ok(ValueMatrix::new(self.weights.d_sae, ends, features, h))
    }

    fn decode_values(
        &self,
        architecture: &Architecture,
        codes: &ValueMatrix,
    ) -> Result<Array2<f32>, ModelError> {
        check_width("a code", self.weights.d_sae, codes.features())?;
        Ok(self.threads.install(|| {
            let mut y = pass::decode(self.isa, codes.lists(), &self.weights, &self.weights.b_dec);
            y.mapv_inplace(|y| architecture.output.apply(f64::from(y)) as f32);
            y
        }))
    }

    fn covariance(&self, _: &BitMatrix) -> Result<f64, ModelError> {
        Err(ModelError::Invalid(
            "the covariance measured is that of bits, and the codes of this architecture hold values".into(),
        ))
    }

    fn parameters(&self) -> Result<Parameters, ModelError> {
        Ok(self.parameters())
    }

    fn moments(&self) -> Result<Moments, ModelError> {
        let Some(StepMoments { first, second, steps }) = &self.moments else {
            return Ok(Moments::new(&self.parameters()));
        };
        let parameters = |weights: &Weights| self.threads.install(|| Parameters::from(weights));
        Ok(Moments { first: parameters(first), second: parameters(second), steps: *steps })
    }

    fn idle(&self) -> Result<Vec<u32>, ModelError> {
        Ok(self.idle.clone())
    }

    fn restore(&mut self, state: &TrainingState) -> Result<(), ModelError> {
        state.check(self.weights.d_in, self.weights.d_sae, self.weights.d_out)?;
        let TrainingState { parameters, moments: Moments { first, second, steps }, idle } = state;
        let weights = |from: &Parameters| self.threads.install(|| Weights::from(from));
        let moments = StepMoments { first: weights(first), second: weights(second), steps: *steps };
        self.weights = Arc::new(weights(parameters));
        self.moments = Some(moments);
        self.idle.clone_from(idle);
        Ok(())
    }
}

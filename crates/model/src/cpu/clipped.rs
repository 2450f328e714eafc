//! A step whose gradients are all made before the first weight changes: clipping needs the norm of all of them.

use super::encode::{self, TOGETHER};
use super::stages::{self, Part, Shares};
use super::step::{Backward, Forward};
use super::weights::Weights;
use super::{Cpu, StepMoments};
use crate::{Adam, Estimator, ModelError};
use bae_kernels::adam;
use bae_kernels::batch::PANEL;
use rayon::prelude::*;
use std::sync::Arc;
use std::time::Instant;

/// Values that Adam changes at a time: with gradient and moments they stay in the second-level cache. Changes no bit.
const CHUNK: usize = 1 << 14;

impl Cpu {
    /// Backward and Adam one after the other; gives the gradient's norm. Where that is not finite nothing changes.
    pub(super) fn backward_then_update(
        &mut self,
        estimator: Estimator,
        x: &[f32],
        forward: &Forward,
        adam: &Adam,
    ) -> Result<Option<f64>, ModelError> {
        let mut gradient = self.gradient.take().unwrap_or_else(|| self.weights.zeros_like());
        self.backward(estimator, x, forward, &mut gradient);
        let norm = self.update(adam, &mut gradient);
        self.gradient = Some(gradient);
        norm
    }

    /// The gradients that [`Cpu::backward_and_update`] uses up panel by panel.
    fn backward(&mut self, estimator: Estimator, x: &[f32], forward: &Forward, gradient: &mut Weights) {
        let Self { weights, threads, isa, scratch, .. } = self;
        let shares = Shares::default();
        let prepare = || threads.install(|| Backward::new(*isa, estimator, x, forward, scratch));
        let backward = stages::timed(&mut self.stages.covariance, prepare);
        let (d_sae, encoder_panel, decoder_panel) =
            (weights.d_sae, weights.encoder_panel(), weights.decoder_panel());
        let group = encode::group(d_sae.div_ceil(PANEL), threads.current_num_threads());
        let began = Instant::now();
        threads.install(|| {
            let groups = gradient.panels_mut(group).zip(weights.panels(group));
            groups.enumerate().with_max_len(1).for_each(|(at, (to, weights))| {
                backward.scratch.panels.with(|gradients| {
                    let mut clock = shares.clock();
                    let encoders = to.encoder.chunks_mut(TOGETHER * encoder_panel);
                    let biases = to.b_enc.chunks_mut(TOGETHER * PANEL);
                    let decoders = weights.decoder.chunks(TOGETHER * decoder_panel);
                    for (part, ((encoder, bias), decoder)) in encoders.zip(biases).zip(decoders).enumerate() {
                        backward.panels(at * group + part * TOGETHER, decoder, gradients, &mut clock);
                        encoder.copy_from_slice(&gradients.encoder);
                        bias.copy_from_slice(&gradients.b_enc);
                        clock.book(Part::GradEncoder);
                    }
                    let start = at * group * PANEL;
                    backward.decoder(start..d_sae.min(start + group * PANEL), gradients, &mut clock);
                    to.decoder.copy_from_slice(&gradients.decoder);
                    clock.book(Part::GradDecoder);
                });
            });
        });
        gradient.b_dec.copy_from_slice(&forward.b_dec);
        self.stages.add_backward(began.elapsed().as_secs_f64(), &shares);
    }

    /// Adam with gradients that are all there; gives their norm if they are to be clipped, and scales them.
    pub(super) fn update(&mut self, adam: &Adam, gradient: &mut Weights) -> Result<Option<f64>, ModelError> {
        let (began, isa) = (Instant::now(), self.isa);
        let norm = adam.clips().then(|| self.threads.install(|| gradient.norm()));
        let scale = norm.map_or(Ok(1.0), |norm| adam.clip(norm))? as f32;
        let moments = self.moments.get_or_insert_with(|| StepMoments::new(&self.weights));
        let numbers = moments.advance(adam);
        let StepMoments { first, second, .. } = moments;
        let weights = Arc::make_mut(&mut self.weights);
        let parts = weights.flat_mut().into_iter().zip(gradient.flat_mut());
        let parts = parts.zip(first.flat_mut()).zip(second.flat_mut());
        self.threads.install(|| {
            for (((weights, gradient), first), second) in parts {
                let chunks = weights.par_chunks_mut(CHUNK).zip(gradient.par_chunks_mut(CHUNK));
                let chunks = chunks.zip(first.par_chunks_mut(CHUNK)).zip(second.par_chunks_mut(CHUNK));
                chunks.for_each(|(((weights, gradient), first), second)| {
                    if scale != 1.0 {
                        gradient.iter_mut().for_each(|g| *g *= scale);
                    }
                    adam::update(isa, numbers, weights, first, second, gradient);
                });
            }
        });
        self.stages.adam += began.elapsed().as_secs_f64();
        Ok(norm)
    }
}

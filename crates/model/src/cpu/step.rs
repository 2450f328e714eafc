//! Forward and backward of a Binary Autoencoder. Between the barriers that the whole code and the whole error are,
//! everything runs panel by panel of 32 features, and what a panel needs stays in the cache.

use super::left::Left;
use super::stages::{Clock, Part, Stages, timed};
use super::weights::Weights;
use super::{Poisoned, encode, output};
use crate::{Batch, Estimator, Objective, OutputActivation, Precision, StepStats, Target};
use bae_codes::entropy;
use bae_kernels::batch::{BatchCodes, PANEL};
use bae_kernels::columns::ColumnPanels;
use bae_kernels::pairs::{self, Covariance};
use bae_kernels::product;
use bae_kernels::pulls::{self, Pulls};
use bae_kernels::signs::SignedCounts;
use bae_kernels::window::{self, Open};
use bae_kernels::{Isa, gather};
use ndarray::Array2;
use std::ops::Range;
use std::sync::Mutex;

/// Memory that every step uses again.
#[derive(Default)]
pub(super) struct Scratch {
    x: Left,
    /// Pre-activations, `[panel][n][32]`.
    z: Vec<f32>,
    y: ColumnPanels,
    x_columns: Left,
    errors: Left,
    /// The errors, row-major: for gradients of single entries.
    error_rows: Vec<f32>,
    pub panels: PanelPool,
}

/// Memory of the panels in work: one for each thread.
#[derive(Default)]
pub(super) struct PanelPool(Mutex<Vec<PanelGradients>>);

impl PanelPool {
    /// Runs `work` with memory that no one else uses meanwhile.
    pub fn with<T>(&self, work: impl FnOnce(&mut PanelGradients) -> T) -> T {
        let pool = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut memory = pool().pop().unwrap_or_default();
        let result = work(&mut memory);
        pool().push(memory);
        result
    }
}

/// What the backward pass makes for some panels, and for the decoder rows of a group of panels.
#[derive(Clone, Default)]
pub(super) struct PanelGradients {
    /// By the codes, `[panel][n][32]`.
    pub grad_h: Vec<f32>,
    /// By the pre-activations, `[panel][n][32]`.
    pub grad_z: Vec<f32>,
    /// `[panel][d_in][32]`.
    pub encoder: Vec<f32>,
    /// `[panel][32]`.
    pub b_enc: Vec<f32>,
    /// `[features of the group][d_out]`.
    pub decoder: Vec<f32>,
    /// Decoder rows turned, `[panel][d_out][32]`.
    turned: Vec<f32>,
    /// A panel in another precision.
    pub rounded: Vec<u32>,
    /// Signed counts, `[16 slots][n][16]`.
    counts: Vec<[i32; 16]>,
    /// Where the estimator lets gradients through, for each panel.
    open: Vec<Open>,
    /// The encoder's gradient, `[32][d_in]`.
    encoder_rows: Vec<f32>,
}

/// Share of open entries of a panel below which their gradients are computed one by one (docs/performance.md). It decides
/// bits, so it is the same on every machine.
const FEW_OPEN: f64 = 0.25;

/// The forward pass of a batch and all that the backward pass needs of it.
pub(super) struct Forward {
    pub codes: BatchCodes,
    pub stats: StepStats,
    /// Gradient by the decoder's bias: column sums of the errors.
    pub b_dec: Vec<f32>,
    /// Outputs and the gradient by them, if asked for.
    pub outputs: Option<(Array2<f32>, Array2<f32>)>,
    penalties: Penalties,
}

/// Gradients by the codes that do not come from the error.
struct Penalties {
    /// Of the entropy: the same for all samples, `[32 · panels]`.
    entropy: Vec<f32>,
    /// Of the covariance: 2 α_c / (n (n − 1)), and the signs.
    covariance: Option<(f64, Covariance)>,
    /// One row as published: 0 · NaN at any weight.
    undefined: bool,
}

/// What is computed, and on what.
#[derive(Clone, Copy)]
pub(super) struct Setup<'a> {
    pub isa: Isa,
    pub precision: Precision,
    pub estimator: Estimator,
    pub output: OutputActivation,
    pub objective: &'a Objective,
    /// Copies outputs and their gradient, for looking into a step.
    pub keep_outputs: bool,
}

/// Everything up to the gradient by the outputs.
pub(super) fn forward(
    setup: Setup,
    weights: &Weights,
    scratch: &mut Scratch,
    stages: &mut Stages,
    batch: Batch,
) -> Result<Forward, Poisoned> {
    let Setup { isa, precision, estimator, objective, .. } = setup;
    let n = batch.x.nrows();
    timed(&mut stages.pack, || {
        scratch.x.pack(isa, precision, batch.x);
        scratch.x_columns.pack(isa, precision, batch.x.t());
    });
    let words = timed(&mut stages.encode, || {
        scratch.z.resize(weights.d_sae.div_ceil(PANEL) * n * PANEL, 0.0);
        encode::encode(isa, estimator, weights, &scratch.x, &scratch.panels, Some(&mut scratch.z))
    })?;
    let codes = timed(&mut stages.turn, || BatchCodes::new(n, weights.d_sae, words));
    timed(&mut stages.decode, || {
        gather::decode(isa, &codes, weights.decoder(), &weights.b_dec, &mut scratch.y);
    });
    let Errors { mut stats, b_dec, outputs } = timed(&mut stages.errors, || {
        let errors = errors(setup, &mut scratch.y, batch);
        scratch.errors.pack_columns(isa, precision, &scratch.y);
        if estimator.window().is_some() {
            scratch.y.copy_rows(&mut scratch.error_rows);
        }
        errors
    });
    let penalties = timed(&mut stages.covariance, || penalties(isa, objective, &codes, &mut stats));
    objective.total(&mut stats);
    Ok(Forward { codes, stats, b_dec, outputs, penalties })
}

/// What comes of outputs and targets.
struct Errors {
    stats: StepStats,
    /// Column sums.
    b_dec: Vec<f32>,
    /// Outputs and the gradient by them, if kept.
    outputs: Option<(Array2<f32>, Array2<f32>)>,
}

/// Turns outputs into the gradient by the decoder's sums.
fn errors(setup: Setup, y: &mut ColumnPanels, batch: Batch) -> Errors {
    let target = match batch.target {
        Target::Input => Some(batch.x),
        Target::States(states) => Some(states),
        Target::Labels(_) => None,
    };
    if let (Some(target), OutputActivation::None) = (target, setup.output) {
        let outputs = setup.keep_outputs.then(|| y.to_rows());
        let (mse, b_dec) = output::squared_error(y, target);
        let stats = StepStats { mse, ..StepStats::default() };
        return Errors { stats, b_dec, outputs: outputs.map(|out| (out, y.to_rows())) };
    }
    let mut out = y.to_rows();
    output::apply(setup.output, &mut out);
    let (stats, grad_y) = output::output_error(&out, batch);
    let mut grad = grad_y.clone();
    output::backward(setup.output, &out, &mut grad);
    *y = ColumnPanels::from_rows(grad.view());
    Errors { stats, b_dec: output::column_sums(&grad), outputs: Some((out, grad_y)) }
}

/// Adds entropy and covariance to the statistics; gives their gradients.
fn penalties(isa: Isa, objective: &Objective, codes: &BatchCodes, stats: &mut StepStats) -> Penalties {
    let n = codes.samples();
    let share = |&ones: &u32| f64::from(ones) / n as f64;
    let ones = &codes.ones()[..codes.features()];
    stats.entropy_bits = ones.iter().map(|ones| entropy::smoothed(share(ones))).sum();
    let mut entropy = vec![0f32; codes.ones().len()];
    if objective.entropy_weight != 0.0 && objective.entropy_pulls(stats.entropy_bits) {
        let scale = objective.entropy_weight / n as f64;
        for (pull, ones) in entropy.iter_mut().zip(ones) {
            *pull = (scale * entropy::smoothed_derivative(share(ones))) as f32;
        }
    }
    let covariance = if objective.covariance_weight == 0.0 || n < 2 {
        stats.covariance = objective.covariance(pairs::absolute_sum(isa, codes) as f64, n);
        None
    } else {
        let covariance = pairs::covariance(isa, codes);
        stats.covariance = objective.covariance(covariance.absolute_sum() as f64, n);
        Some((2.0 * objective.covariance_weight / (n as f64 * (n as f64 - 1.0)), covariance))
    };
    Penalties { entropy, covariance, undefined: stats.covariance.is_nan() }
}

/// The backward pass of one batch, a few panels at a time.
pub(super) struct Backward<'a> {
    isa: Isa,
    estimator: Estimator,
    /// Hidden states, `[n][d_in]`.
    x: &'a [f32],
    pub forward: &'a Forward,
    pub scratch: &'a Scratch,
    /// The covariance's 2 α_c / (n (n − 1)), pairs and signs.
    signs: Option<(f64, &'a Covariance, SignedCounts<'a>)>,
}

impl<'a> Backward<'a> {
    /// Prepares what all panels share.
    pub fn new(
        isa: Isa,
        estimator: Estimator,
        x: &'a [f32],
        forward: &'a Forward,
        scratch: &'a Scratch,
    ) -> Self {
        let covariance = forward.penalties.covariance.as_ref();
        let signs = covariance.map(|(scale, covariance)| (*scale, covariance, covariance.signed_counts(isa)));
        Self { isa, estimator, x, forward, scratch, signs }
    }

    /// All gradients of some panels from `first` on but the decoder's, from their decoder rows as they were in the forward
    /// pass.
    pub fn panels(&self, first: usize, decoder: &[f32], gradients: &mut PanelGradients, clock: &mut Clock) {
        let (isa, Scratch { x_columns, errors, error_rows, y, .. }) = (self.isa, self.scratch);
        let (n, d_in, d_out) = (y.rows(), x_columns.rows(), y.columns());
        let count = (self.forward.codes.panels() - first).min(decoder.len().div_ceil((d_out * PANEL).max(1)));
        let PanelGradients { grad_h, grad_z, encoder, b_enc, turned, rounded, open, encoder_rows, .. } =
            gradients;
        open.resize_with(open.len().max(count), Open::default);
        let few_open: Vec<bool> =
            (first..).zip(&mut open[..count]).map(|(at, open)| self.few_open(at, open)).collect();
        // panels that are whole read the rows of the batch together; one that is not goes alone
        let runs = runs(&few_open);

        grad_h.resize(count * n * PANEL, 0.0);
        turned.resize(count * d_out * PANEL, 0.0);
        for run in runs.clone() {
            let out = &mut grad_h[run.start * n * PANEL..run.end * n * PANEL];
            let rows = |panel: usize| {
                &decoder[panel * d_out * PANEL..decoder.len().min((panel + 1) * d_out * PANEL)]
            };
            if few_open[run.start] {
                window::grad_h(isa, &open[run.start], error_rows, rows(run.start), d_out, out);
                continue;
            }
            let turned = &mut turned[run.start * d_out * PANEL..run.end * d_out * PANEL];
            for (panel, turned) in run.zip(turned.chunks_mut((d_out * PANEL).max(1))) {
                product::turn_rows(isa, rows(panel), d_out, turned);
            }
            out.fill(0.0);
            errors.add_panels(isa, turned, rounded, out);
        }
        clock.book(Part::GradH);

        for (at, grad_h) in (first..).zip(grad_h.chunks_mut((n * PANEL).max(1))) {
            self.add_penalties(at, grad_h, &mut gradients.counts);
        }
        clock.book(Part::Penalties);

        grad_z.clear();
        grad_z.extend_from_slice(grad_h);
        let z = &self.scratch.z[first * n * PANEL..][..count * n * PANEL];
        self.estimator.backward_slice(isa, grad_z, z);
        self.close_padding(first + count, grad_z);
        clock.book(Part::Estimator);

        encoder.resize(count * d_in * PANEL, 0.0);
        for run in runs {
            let grad_z = &grad_z[run.start * n * PANEL..run.end * n * PANEL];
            let encoder = &mut encoder[run.start * d_in * PANEL..run.end * d_in * PANEL];
            if few_open[run.start] {
                encoder_rows.resize(d_in * PANEL, 0.0);
                window::grad_encoder(isa, &open[run.start], self.x, grad_z, d_in, encoder_rows);
                product::turn_rows(isa, encoder_rows, d_in, encoder);
            } else {
                encoder.fill(0.0);
                x_columns.add_panels(isa, grad_z, rounded, encoder);
            }
        }
        b_enc.clear();
        b_enc.resize(count * PANEL, 0.0);
        for (sums, grad_z) in b_enc.chunks_mut(PANEL).zip(grad_z.chunks((n * PANEL).max(1))) {
            for row in grad_z.as_chunks::<PANEL>().0 {
                sums.iter_mut().zip(row).for_each(|(sum, &g)| *sum += g);
            }
        }
        clock.book(Part::GradEncoder);
    }

    /// The gradient of the decoder rows of `features`. Neighbouring panels share the errors in the cache.
    pub fn decoder(&self, features: Range<usize>, gradients: &mut PanelGradients, clock: &mut Clock) {
        let y = &self.scratch.y;
        gradients.decoder.resize(features.len() * y.columns(), 0.0);
        let Forward { codes, b_dec, .. } = self.forward;
        gather::decoder_gradient(self.isa, codes, features, y, b_dec, &mut gradients.decoder);
        clock.book(Part::GradDecoder);
    }

    /// Finds the entries of a panel that let a gradient through; says whether they are few.
    fn few_open(&self, at: usize, open: &mut Open) -> bool {
        let Some(window) = self.estimator.window() else { return false };
        let codes = &self.forward.codes;
        let features = PANEL.min(codes.features() - at * PANEL);
        let limit = FEW_OPEN * (codes.samples() * features) as f64;
        open.find(self.isa, self.z(at), window as f32, features, limit as usize)
    }

    /// Features that fill up the last panel pass nothing on, whatever the estimator makes of them.
    fn close_padding(&self, end: usize, grad_z: &mut [f32]) {
        let padding = (end * PANEL).saturating_sub(self.forward.codes.features());
        if padding > 0 {
            let last = grad_z.len() - self.forward.codes.samples() * PANEL;
            for row in grad_z[last..].as_chunks_mut::<PANEL>().0 {
                row[PANEL - padding..].fill(0.0);
            }
        }
    }

    /// Pre-activations of a panel, `[n][32]`.
    pub fn z(&self, at: usize) -> &[f32] {
        let size = self.scratch.y.rows() * PANEL;
        &self.scratch.z[at * size..(at + 1) * size]
    }

    fn add_penalties(&self, at: usize, grad_h: &mut [f32], counts: &mut Vec<[i32; 16]>) {
        let Penalties { entropy, undefined, .. } = &self.forward.penalties;
        let codes = &self.forward.codes;
        if *undefined {
            grad_h.fill(f32::NAN);
            return;
        }
        let entropy = entropy[at * PANEL..].first_chunk().expect("a panel");
        let mut pulls = Pulls {
            samples: codes.samples(),
            entropy,
            scale: [0.0; PANEL],
            sums: [0.0; PANEL],
            feature: &[],
            counts: &[],
        };
        let mut features = [0; PANEL];
        if let Some((scale, covariance, signs)) = &self.signs {
            let sums = signs.of_panel(self.isa, at, counts);
            let slots = covariance.lanes_of(at);
            for ((slot, &feature), place) in slots.iter().enumerate().zip(&mut features) {
                *place = feature.wrapping_sub((at * PANEL) as u32);
                let Some(scale_of) = pulls.scale.get_mut(*place as usize) else { continue };
                // features that are flipped pull the other way
                *scale_of = if codes.mostly_on(feature as usize) { -scale } else { *scale };
                pulls.sums[*place as usize] = sums[slot] as f64;
            }
            (pulls.feature, pulls.counts) = (&features[..slots.len()], counts);
        }
        pulls::add_pulls(self.isa, &pulls, grad_h);
    }
}

/// Neighbours that are whole, together; those with few entries open, each alone.
fn runs(few_open: &[bool]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = vec![];
    for (at, &few) in few_open.iter().enumerate() {
        match runs.last_mut() {
            Some(last) if !few && !few_open[last.start] => last.end = at + 1,
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

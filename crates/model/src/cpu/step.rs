//! Forward and backward of a Binary Autoencoder. Between the barriers that the whole code and the whole error are,
//! everything runs panel by panel of 32 features, and what a panel needs stays in the cache.

use super::stages::{Clock, Part, Stages, timed};
use super::weights::{Panels, Weights};
use super::{Poisoned, output};
use crate::{Architecture, Batch, Estimator, Objective, OutputActivation, StepStats, Target, activation};
use bae_codes::entropy;
use bae_kernels::batch::{BatchCodes, PANEL, pack_panel};
use bae_kernels::columns::ColumnPanels;
use bae_kernels::pairs::{self, Covariance};
use bae_kernels::product::{self, PackedRows};
use bae_kernels::signs::SignedCounts;
use bae_kernels::window::{self, Open};
use bae_kernels::{Isa, gather};
use ndarray::Array2;
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Mutex;

/// Memory that every step uses again.
#[derive(Default)]
pub(super) struct Scratch {
    x: PackedRows,
    /// Pre-activations, `[panel][n][32]`.
    z: Vec<f32>,
    y: ColumnPanels,
    x_columns: PackedRows,
    errors: PackedRows,
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
        let mut pool = || self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut memory = pool().pop().unwrap_or_default();
        let result = work(&mut memory);
        pool().push(memory);
        result
    }
}

/// What the backward pass makes for the 32 features of a panel, and for the decoder rows of a group of panels.
#[derive(Clone, Default)]
pub(super) struct PanelGradients {
    /// By the codes, `[n][32]`.
    pub grad_h: Vec<f32>,
    /// By the pre-activations, `[n][32]`.
    pub grad_z: Vec<f32>,
    /// `[d_in][32]`.
    pub encoder: Vec<f32>,
    /// `[32]`.
    pub b_enc: Vec<f32>,
    /// `[features of the group][d_out]`.
    pub decoder: Vec<f32>,
    /// Decoder rows turned, `[d_out][32]`.
    turned: Vec<f32>,
    /// Signed counts, `[16 slots][n][16]`.
    counts: Vec<[i32; 16]>,
    /// Where the estimator lets gradients through.
    open: Open,
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

/// Everything up to the gradient by the outputs. `keep_outputs` copies them, for looking into a step.
pub(super) fn forward(
    isa: Isa,
    weights: &Weights,
    scratch: &mut Scratch,
    stages: &mut Stages,
    (architecture, estimator): (&Architecture, Estimator),
    objective: &Objective,
    batch: Batch,
    keep_outputs: bool,
) -> Result<Forward, Poisoned> {
    let n = batch.x.nrows();
    timed(&mut stages.pack, || {
        scratch.x.pack(isa, batch.x);
        scratch.x_columns.pack(isa, batch.x.t());
    });
    let words = timed(&mut stages.encode, || {
        scratch.z.resize(weights.d_sae.div_ceil(PANEL) * n * PANEL, 0.0);
        encode_into(isa, weights, &scratch.x, &mut scratch.z, estimator)
    })?;
    let codes = timed(&mut stages.turn, || BatchCodes::new(n, weights.d_sae, words));
    timed(&mut stages.decode, || {
        gather::decode(isa, &codes, weights.decoder(), &weights.b_dec, &mut scratch.y);
    });
    let (mut stats, b_dec, outputs) = timed(&mut stages.errors, || {
        let errors = errors(architecture.output, &mut scratch.y, batch, keep_outputs);
        scratch.errors.pack_columns(isa, &scratch.y);
        if estimator.window().is_some() {
            scratch.y.copy_rows(&mut scratch.error_rows);
        }
        errors
    });
    let penalties = timed(&mut stages.covariance, || penalties(isa, objective, &codes, &mut stats));
    objective.total(&mut stats);
    Ok(Forward { codes, stats, b_dec, outputs, penalties })
}

/// z = x W_enc + b_enc into `z` `[panel][n][32]`, and the step function's words `[panel][n]`.
fn encode_into(
    isa: Isa,
    weights: &Weights,
    x: &PackedRows,
    z: &mut [f32],
    estimator: Estimator,
) -> Result<Vec<u32>, Poisoned> {
    let n = x.rows();
    let mut words = vec![0u32; weights.d_sae.div_ceil(PANEL) * n];
    if n == 0 {
        return Ok(words);
    }
    let panels = weights.panels(1).zip(z.par_chunks_mut(n * PANEL)).zip(words.par_chunks_mut(n)).enumerate();
    let poison = panels.with_max_len(2).filter_map(|(at, ((panel, z), words))| {
        let found = encode_panel(isa, &panel, x, z, estimator);
        bits(isa, estimator, weights.d_sae - at * PANEL, z, words);
        found.map(|(row, feature)| (row, at * PANEL + feature))
    });
    match poison.min() {
        Some((row, feature)) => Err(Poisoned { row, feature }),
        None => Ok(words),
    }
}

/// Pre-activations of one panel of [`encode_into`]; gives the first pre-activation that no bit can stand for.
fn encode_panel(
    isa: Isa,
    panel: &Panels<&[f32]>,
    x: &PackedRows,
    z: &mut [f32],
    estimator: Estimator,
) -> Option<(usize, usize)> {
    let (rows, _) = z.as_chunks_mut::<PANEL>();
    rows.fill(*panel.b_enc.first_chunk().expect("biases of a panel"));
    product::add_panel(isa, x, panel.encoder, z);
    let bad = |z: &f32| if estimator == Estimator::Squarewave { !z.is_finite() } else { z.is_nan() };
    // a fold without early exit: compilers turn it into vector code
    if !z.iter().fold(false, |any, z| any | bad(z)) {
        return None;
    }
    z.iter().position(bad).map(|at| (at / PANEL, at % PANEL))
}

/// The step function of one panel, packed; the squarewave's padding is not 0 by itself.
fn bits(isa: Isa, estimator: Estimator, features: usize, z: &[f32], words: &mut [u32]) {
    if estimator != Estimator::Squarewave {
        return pack_panel(isa, z, words);
    }
    for (word, row) in words.iter_mut().zip(z.chunks_exact(PANEL)) {
        let bit = |at: usize| u32::from(activation::squarewave(row[at])) << at;
        *word = (0..PANEL.min(features)).fold(0, |word, at| word | bit(at));
    }
}

/// Codes of rows, as words `[panel][n]`, without keeping pre-activations.
pub(super) fn encode(
    isa: Isa,
    weights: &Weights,
    x: &PackedRows,
    pool: &PanelPool,
    estimator: Estimator,
) -> Result<Vec<u32>, Poisoned> {
    let n = x.rows();
    let mut words = vec![0u32; weights.d_sae.div_ceil(PANEL) * n];
    let panels = weights.panels(1).zip(words.par_chunks_mut(n.max(1))).enumerate();
    let poison = panels.with_max_len(2).filter_map(|(at, (panel, words))| {
        pool.with(|memory| {
            memory.grad_z.resize(n * PANEL, 0.0);
            let found = encode_panel(isa, &panel, x, &mut memory.grad_z, estimator);
            bits(isa, estimator, weights.d_sae - at * PANEL, &memory.grad_z, words);
            found.map(|(row, feature)| (row, at * PANEL + feature))
        })
    });
    match poison.min() {
        Some((row, feature)) => Err(Poisoned { row, feature }),
        None => Ok(words),
    }
}

/// Turns outputs into the gradient by the decoder's sums: loss, column sums, and outputs with their gradient if kept.
fn errors(
    activation: OutputActivation,
    y: &mut ColumnPanels,
    batch: Batch,
    keep: bool,
) -> (StepStats, Vec<f32>, Option<(Array2<f32>, Array2<f32>)>) {
    let target = match batch.target {
        Target::Input => Some(batch.x),
        Target::States(states) => Some(states),
        Target::Labels(_) => None,
    };
    if let (Some(target), OutputActivation::None) = (target, activation) {
        let outputs = keep.then(|| y.to_rows());
        let (mse, b_dec) = output::squared_error(y, target);
        return (StepStats { mse, ..StepStats::default() }, b_dec, outputs.map(|out| (out, y.to_rows())));
    }
    let mut out = y.to_rows();
    output::apply(activation, &mut out);
    let (stats, grad_y) = output::output_error(&out, batch);
    let mut grad = grad_y.clone();
    output::backward(activation, &out, &mut grad);
    *y = ColumnPanels::from_rows(grad.view());
    (stats, output::column_sums(&grad), Some((out, grad_y)))
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

/// The backward pass of one batch, panel by panel.
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

    /// All gradients of the panel `at` but the decoder's, from its decoder rows as they were in the forward pass.
    pub fn panel(&self, at: usize, decoder: &[f32], gradients: &mut PanelGradients, clock: &mut Clock) {
        let (isa, Scratch { x_columns, errors, error_rows, y, .. }) = (self.isa, self.scratch);
        let (n, d_in, d_out) = (y.rows(), x_columns.rows(), y.columns());
        let few_open = self.find_open(at, &mut gradients.open);
        let PanelGradients { grad_h, grad_z, encoder, b_enc, turned, open, encoder_rows, .. } = gradients;
        grad_h.resize(n * PANEL, 0.0);
        if few_open {
            window::grad_h(isa, open, error_rows, decoder, d_out, grad_h);
        } else {
            turned.resize(d_out * PANEL, 0.0);
            product::turn_rows(isa, decoder, d_out, turned);
            grad_h.fill(0.0);
            product::add_panel(isa, errors, turned, grad_h);
        }
        clock.book(Part::GradH);

        self.add_penalties(at, grad_h, &mut gradients.counts);
        clock.book(Part::Penalties);

        grad_z.clear();
        grad_z.extend_from_slice(grad_h);
        self.estimator.backward_slice(isa, grad_z, self.z(at));
        clock.book(Part::Estimator);

        encoder.resize(d_in * PANEL, 0.0);
        if few_open {
            encoder_rows.resize(d_in * PANEL, 0.0);
            window::grad_encoder(isa, open, self.x, grad_z, d_in, encoder_rows);
            product::turn_rows(isa, encoder_rows, d_in, encoder);
        } else {
            encoder.fill(0.0);
            product::add_panel(isa, x_columns, grad_z, encoder);
        }
        b_enc.clear();
        b_enc.resize(PANEL, 0.0);
        for row in grad_z.as_chunks::<PANEL>().0 {
            b_enc.iter_mut().zip(row).for_each(|(sum, &g)| *sum += g);
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
    fn find_open(&self, at: usize, open: &mut Open) -> bool {
        let Some(window) = self.estimator.window() else { return false };
        let codes = &self.forward.codes;
        let features = PANEL.min(codes.features() - at * PANEL);
        open.find(self.isa, self.z(at), window as f32, features);
        (open.count() as f64) < FEW_OPEN * (codes.samples() * features) as f64
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
        let entropy: &[f32; PANEL] = entropy[at * PANEL..].first_chunk().expect("a panel");
        let (rows, _) = grad_h.as_chunks_mut::<PANEL>();
        let Some((scale, covariance, signs)) = &self.signs else {
            for row in rows {
                row.iter_mut().zip(entropy).for_each(|(g, pull)| *g += pull);
            }
            return;
        };
        let n = codes.samples();
        let slots = covariance.lanes_of(at);
        let sums = signs.of_panel(self.isa, at, counts);
        // the pull of a feature that is constant is the entropy's alone; flipped features pull the other way
        let mut pulls = [None; PANEL];
        for (slot, &feature) in slots.iter().enumerate().filter(|(_, feature)| **feature != u32::MAX) {
            let sign = if codes.mostly_on(feature as usize) { -1.0 } else { 1.0 };
            pulls[feature as usize % PANEL] = Some((slot, sign * scale, sums[slot] as f64));
        }
        for (column, (pull, &entropy)) in pulls.iter().zip(entropy).enumerate() {
            match *pull {
                None => rows.iter_mut().for_each(|row| row[column] += entropy),
                Some((slot, scale, sum)) => {
                    let counts = &counts[slot / 16 * n..][..n];
                    for (row, counts) in rows.iter_mut().zip(counts) {
                        // integers until the last multiplication: exact in f64
                        let centred = n as f64 * f64::from(counts[slot % 16]) - sum;
                        row[column] += entropy + (scale * centred) as f32;
                    }
                }
            }
        }
    }
}

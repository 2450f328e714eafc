//! Backward, feature by feature: all a feature needs are its rows of encoder and decoder, its column of the codes, and the batch.

use super::pass::{self, Forward};
use super::weights::{FeatureTensors, Weights};
use crate::architectures::{Coding, Column, Entries, Pull};
use crate::cpu::output;
use crate::{Batch, Objective, OutputActivation, StepStats, Target};
use bae_codes::entropy::marginal;
use bae_kernels::Isa;
use bae_kernels::sparse::{self, Left, Panels, Transposed};
use ndarray::{Array2, ArrayView2};
use std::ops::Range;

/// Features that are worked on together: a panel of the kernels.
pub(super) const FEATURES: usize = 32;

/// What all features' backward passes share.
pub(super) struct Backward<'a> {
    isa: Isa,
    coding: &'a dyn Coding<f32>,
    objective: &'a Objective,
    x: Left<'a>,
    /// Pre-activations and codes, feature by feature.
    columns: Transposed<2>,
    /// For each prefix the gradient by what its last features decode to.
    errors: Vec<Left<'a>>,
    prefixes: &'a [usize],
    auxiliary: Option<AuxiliaryPass<'a>>,
    b_dec: Vec<f32>,
    d_sae: usize,
    pub stats: StepStats,
}

struct AuxiliaryPass<'a> {
    columns: Transposed<2>,
    errors: Left<'a>,
}

/// Gradients by outputs, `[n, d_out]` each.
pub(super) struct Errors {
    /// For each prefix the gradient by what its last features decode to: the sum over the reconstructions they are in.
    pub of_prefixes: Vec<Array2<f32>>,
    of_auxiliary: Option<Array2<f32>>,
    /// Outputs of all features, `[n, d_out]`.
    pub y: Array2<f32>,
    b_dec: Vec<f32>,
    stats: StepStats,
}

/// Gradients of a group of features, and memory to make them.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[features][d_in]`
    pub encoder: Vec<f32>,
    /// `[features][d_out]`
    pub decoder: Vec<f32>,
    entries: Vec<f32>,
    more: Vec<f32>,
    panels: Panels,
}

/// What is left of a feature.
pub(super) struct Sums {
    b_enc: f32,
    pull: Pull<f32>,
    active: usize,
}

impl Errors {
    pub fn new(
        isa: Isa,
        output: OutputActivation,
        weights: &Weights,
        batch: Batch,
        forward: &Forward,
    ) -> Self {
        let mut stats = StepStats::default();
        let mut sum = 0.0;
        let mut of_prefixes: Vec<Array2<f32>> = vec![];
        let mut y = Array2::zeros((0, 0));
        for decoded in &forward.outputs {
            y = decoded.clone();
            output::apply(output, &mut y);
            let (of_prefix, mut grad) = output::output_error(&y, batch);
            output::backward(output, &y, &mut grad);
            sum += of_prefix.mse;
            stats = of_prefix;
            of_prefixes.push(grad);
        }
        stats.nested = sum - stats.mse;
        // the decoder bias is in all reconstructions, a feature in those from its own prefix on
        for at in (0..of_prefixes.len() - 1).rev() {
            let (here, after) = of_prefixes.split_at_mut(at + 1);
            here[at] += &after[0];
        }
        let mut b_dec = output::column_sums(&of_prefixes[0]);
        let of_auxiliary = forward.auxiliary.as_ref().map(|of| {
            let target = target_of(batch);
            let (bias, target) = if of.of_residual {
                (vec![0.0; weights.d_out], &target - &y)
            } else {
                (weights.b_dec.clone(), target.to_owned())
            };
            let decoded = pass::decode(isa, pass::lists(&of.codes), weights, &bias);
            let against = Batch { x: batch.x, target: Target::States(target.view()) };
            let (error, mut grad) = output::output_error(&decoded, against);
            grad.mapv_inplace(|g| g * of.weight as f32);
            stats.auxiliary = of.weight * error.mse;
            if !of.of_residual {
                b_dec.iter_mut().zip(output::column_sums(&grad)).for_each(|(sum, g)| *sum += g);
            }
            grad
        });
        Self { of_prefixes, of_auxiliary, y, b_dec, stats }
    }
}

impl<'a> Backward<'a> {
    /// `x`: the batch, row-major.
    pub fn new(
        isa: Isa,
        coding: &'a dyn Coding<f32>,
        objective: &'a Objective,
        d_sae: usize,
        x: ArrayView2<'a, f32>,
        forward: &'a Forward,
        errors: &'a Errors,
    ) -> Self {
        let auxiliary = forward.auxiliary.as_ref().zip(errors.of_auxiliary.as_ref());
        let share = |codes: &Entries<f32>| codes.features.len() as f64 / (x.nrows() * d_sae) as f64;
        let (main, more) = (share(&forward.codes), auxiliary.map_or(0.0, |(of, _)| share(&of.codes)));
        Self {
            isa,
            coding,
            objective,
            x: Left::new(isa, x, main.max(more)),
            columns: columns(&forward.codes, d_sae),
            errors: errors.of_prefixes.iter().map(|errors| Left::new(isa, errors.view(), main)).collect(),
            prefixes: &forward.prefixes,
            auxiliary: auxiliary.map(|(of, errors)| AuxiliaryPass {
                columns: columns(&of.codes, d_sae),
                errors: Left::new(isa, errors.view(), more),
            }),
            b_dec: errors.b_dec.clone(),
            d_sae,
            stats: errors.stats,
        }
    }

    /// Gradients of a group of features, whose `decoder` rows are given, into `scratch`.
    pub fn group(
        &self,
        features: Range<usize>,
        decoder: &[f32],
        tensors: &FeatureTensors,
        scratch: &mut Scratch,
    ) -> Vec<Sums> {
        let (d_in, d_out) = (self.x.width(), self.errors[0].width());
        scratch.encoder.resize(features.len() * d_in, 0.0);
        scratch.decoder.resize(features.len() * d_out, 0.0);
        let first = features.start;
        let mut sums = vec![];
        for part in self.parts(features) {
            let rows = |width: usize| (part.start - first) * width..(part.end - first) * width;
            sums.extend(self.part(
                part.clone(),
                &decoder[rows(d_out)],
                tensors,
                scratch,
                rows(d_in),
                rows(d_out),
            ));
        }
        sums
    }

    /// The same for features of one prefix, whose gradients are those of `scratch` at `to_encoder` and `to_decoder`.
    fn part(
        &self,
        features: Range<usize>,
        decoder: &[f32],
        tensors: &FeatureTensors,
        scratch: &mut Scratch,
        to_encoder: Range<usize>,
        to_decoder: Range<usize>,
    ) -> Vec<Sums> {
        let (isa, d_in, d_out) = (self.isa, self.x.width(), self.errors[0].width());
        let Scratch { entries: gradient, more, panels, .. } = scratch;
        let (encoder_gradient, decoder_gradient) =
            (&mut scratch.encoder[to_encoder], &mut scratch.decoder[to_decoder]);
        let errors = self.errors_of(features.start);
        let tensors = tensors.alone();
        let columns = self.columns.group(features.clone());
        gradient.resize(columns.rows.len(), 0.0);
        errors.products(isa, &columns, decoder, panels, gradient);
        errors.sums(isa, &columns, columns.values[1], panels, decoder_gradient);
        let mut sums = vec![];
        for (at, feature) in features.clone().enumerate() {
            let here = columns.range(at);
            let (z, h) = (&columns.values[0][here.clone()], &columns.values[1][here.clone()]);
            let row = &decoder[at * d_out..][..d_out];
            let norm = norm(isa, row);
            let column = Column {
                feature,
                z,
                h,
                rows: self.x.rows(),
                norm,
                tensors: &tensors,
                objective: self.objective,
            };
            let gradient = &mut gradient[here];
            let pull = self.coding.backward(&column, gradient);
            if pull.norm != 0.0 && norm > 0.0 {
                let to = &mut decoder_gradient[at * d_out..][..d_out];
                to.iter_mut().zip(row).for_each(|(g, &w)| *g += pull.norm * w / norm);
            }
            let b_enc = gradient.iter().fold(pull.b_enc, |sum, g| sum + g);
            sums.push(Sums { b_enc, pull, active: h.iter().filter(|h| **h != 0.0).count() });
        }
        self.x.sums(isa, &columns, gradient, panels, encoder_gradient);
        if let Some(AuxiliaryPass { columns, errors }) = &self.auxiliary {
            let columns = columns.group(features);
            gradient.resize(columns.rows.len(), 0.0);
            errors.products(isa, &columns, decoder, panels, gradient);
            for (at, sums) in sums.iter_mut().enumerate() {
                sums.b_enc += gradient[columns.range(at)].iter().sum::<f32>();
            }
            let mut add = |errors: &Left, factors: &[f32], width: usize, to: &mut [f32]| {
                more.resize(sums.len() * width, 0.0);
                errors.sums(isa, &columns, factors, panels, more);
                to.iter_mut().zip(&*more).for_each(|(to, &more)| *to += more);
            };
            add(&self.x, gradient, d_in, encoder_gradient);
            add(errors, columns.values[0], d_out, decoder_gradient);
        }
        sums
    }

    /// Cuts a range of features where a prefix ends.
    fn parts(&self, features: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let ends = self.prefixes.iter().scan(0, |start, &end| Some(std::mem::replace(start, end)..end));
        let parts = ends.map(move |prefix| prefix.start.max(features.start)..prefix.end.min(features.end));
        parts.filter(|part| !part.is_empty())
    }

    /// The gradients of all that [`Weights::small_mut`] lists; the penalty and the entropy go into `stats`.
    pub fn small_gradients(&self, sums: Vec<Vec<Sums>>, stats: &mut StepStats) -> Vec<Vec<f32>> {
        let features: Vec<Sums> = sums.into_iter().flatten().collect();
        stats.sparsity = features.iter().map(|sums| sums.pull.penalty).sum();
        let rows = self.x.rows() as u64;
        let bits = |sums: &Sums| sums.pull.entropy_bits.unwrap_or_else(|| marginal(sums.active as u64, rows));
        stats.entropy_bits = features.iter().map(bits).sum();
        let mut small = vec![features.iter().map(|sums| sums.b_enc).collect(), self.b_dec.clone()];
        for at in 0..self.coding.per_feature().len() {
            small.push(features.iter().map(|sums| sums.pull.per_feature[at]).collect());
        }
        small
    }

    /// Gradients by codes and by pre-activations as matrices `[n, d_sae]`, where there are entries.
    pub fn dense(&self, weights: &Weights) -> (Array2<f64>, Array2<f64>) {
        let mut of_codes = Array2::zeros((self.x.rows(), self.d_sae));
        let mut of_z = of_codes.clone();
        let tensors = weights.feature_tensors();
        let tensors = tensors.alone();
        let (mut gradient, mut panels) = (vec![], Panels::default());
        let groups = (0..self.d_sae).step_by(FEATURES).map(|first| first..self.d_sae.min(first + FEATURES));
        for features in groups.flat_map(|group| self.parts(group)) {
            let decoder = &weights.decoder[features.start * weights.d_out..features.end * weights.d_out];
            let columns = self.columns.group(features.clone());
            gradient.resize(columns.rows.len(), 0.0);
            self.errors_of(features.start).products(self.isa, &columns, decoder, &mut panels, &mut gradient);
            for (at, feature) in features.clone().enumerate() {
                let here = columns.range(at);
                let rows = &columns.rows[here.clone()];
                let gradient = &mut gradient[here.clone()];
                let row = &decoder[at * weights.d_out..][..weights.d_out];
                rows.iter()
                    .zip(&*gradient)
                    .for_each(|(&at, &g)| of_codes[[at as usize, feature]] = f64::from(g));
                let column = Column {
                    feature,
                    z: &columns.values[0][here.clone()],
                    h: &columns.values[1][here],
                    rows: self.x.rows(),
                    norm: norm(self.isa, row),
                    tensors: &tensors,
                    objective: self.objective,
                };
                self.coding.backward(&column, gradient);
                rows.iter().zip(&*gradient).for_each(|(&at, &g)| of_z[[at as usize, feature]] = f64::from(g));
            }
            if let Some(AuxiliaryPass { columns, errors, .. }) = &self.auxiliary {
                let columns = columns.group(features.clone());
                gradient.resize(columns.rows.len(), 0.0);
                errors.products(self.isa, &columns, decoder, &mut panels, &mut gradient);
                for (at, feature) in features.enumerate() {
                    for entry in columns.range(at) {
                        of_z[[columns.rows[entry] as usize, feature]] += f64::from(gradient[entry]);
                    }
                }
            }
        }
        (of_codes, of_z)
    }

    fn errors_of(&self, feature: usize) -> &Left<'a> {
        &self.errors[self.prefixes.partition_point(|&end| end <= feature)]
    }
}

/// Pre-activations and codes, feature by feature.
fn columns(entries: &Entries<f32>, d_sae: usize) -> Transposed<2> {
    sparse::transposed(&entries.ends, &entries.features, [&entries.z, &entries.h], d_sae)
}

fn target_of(batch: Batch<'_>) -> ArrayView2<'_, f32> {
    match batch.target {
        Target::Input => batch.x,
        Target::States(states) => states,
        Target::Labels(_) => unreachable!("classes are not what these architectures are trained on"),
    }
}

/// Euclidean norm.
fn norm(isa: Isa, row: &[f32]) -> f32 {
    let mut square = [0.0];
    sparse::dots(isa, &[0], row, row, &mut square);
    square[0].sqrt()
}

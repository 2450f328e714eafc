//! Backward, feature by feature: all a feature needs are its rows of encoder and decoder, its column of the codes, and the batch.

use super::pass::{self, Forward};
use super::weights::{FeatureTensors, Weights};
use crate::architectures::{Coding, Column, Entries, Pull};
use crate::cpu::output;
use crate::{Batch, Objective, OutputActivation, StepStats, Target};
use bae_kernels::Isa;
use ndarray::{Array2, ArrayView2, Axis};
use std::ops::Range;

/// Features that are worked on together.
pub(super) const FEATURES: usize = 32;

/// What all features' backward passes share.
pub(super) struct Backward<'a> {
    isa: Isa,
    coding: &'a dyn Coding<f32>,
    objective: &'a Objective,
    x: Array2<f32>,
    columns: Columns,
    /// For each prefix the gradient by what its last features decode to: the sum over the reconstructions they are in. `[n, d_out]`
    pub grad_outputs: Vec<Array2<f32>>,
    prefixes: &'a [usize],
    auxiliary: Option<AuxiliaryPass>,
    /// Outputs of all features, `[n, d_out]`.
    pub y: Array2<f32>,
    b_dec: Vec<f32>,
    d_sae: usize,
    pub stats: StepStats,
}

struct AuxiliaryPass {
    columns: Columns,
    grad_output: Array2<f32>,
}

/// Entries feature by feature: rows ascending.
struct Columns {
    /// Where each feature's entries begin, `[d_sae + 1]`.
    starts: Vec<usize>,
    rows: Vec<u32>,
    z: Vec<f32>,
    h: Vec<f32>,
}

/// Gradients of a group of features, and room for one column.
#[derive(Default)]
pub(super) struct Scratch {
    /// `[features][d_in]`
    pub encoder: Vec<f32>,
    /// `[features][d_out]`
    pub decoder: Vec<f32>,
    column: Vec<f32>,
}

/// What is left of a feature.
pub(super) struct Sums {
    b_enc: f32,
    pull: Pull<f32>,
    active: usize,
}

impl<'a> Backward<'a> {
    pub fn new(
        isa: Isa,
        coding: &'a dyn Coding<f32>,
        output: OutputActivation,
        objective: &'a Objective,
        weights: &Weights,
        batch: Batch,
        forward: &'a Forward,
    ) -> Self {
        let mut stats = StepStats::default();
        let mut sum = 0.0;
        let mut grad_outputs: Vec<Array2<f32>> = vec![];
        let mut y = Array2::zeros((0, 0));
        for decoded in &forward.outputs {
            y = decoded.clone();
            output::apply(output, &mut y);
            let (of_prefix, mut grad) = output::output_error(&y, batch);
            output::backward(output, &y, &mut grad);
            sum += of_prefix.mse;
            stats = of_prefix;
            grad_outputs.push(grad);
        }
        stats.nested = sum - stats.mse;
        // the decoder bias is in all reconstructions, a feature in those from its own prefix on
        for at in (0..grad_outputs.len() - 1).rev() {
            let (here, after) = grad_outputs.split_at_mut(at + 1);
            here[at] += &after[0];
        }
        let mut b_dec = output::column_sums(&grad_outputs[0]);
        let mut auxiliary = None;
        if let Some(of) = &forward.auxiliary {
            let target = target_of(batch);
            let (bias, target) = if of.of_residual {
                (vec![0.0; weights.d_out], &target - &y)
            } else {
                (weights.b_dec.clone(), target.to_owned())
            };
            let decoded = pass::decode(isa, pass::lists(&of.codes), weights, &bias);
            let against = Batch { x: batch.x, target: Target::States(target.view()) };
            let (error, mut grad_output) = output::output_error(&decoded, against);
            grad_output.mapv_inplace(|g| g * of.weight as f32);
            stats.auxiliary = of.weight * error.mse;
            if !of.of_residual {
                b_dec.iter_mut().zip(output::column_sums(&grad_output)).for_each(|(sum, g)| *sum += g);
            }
            auxiliary = Some(AuxiliaryPass { columns: Columns::new(&of.codes, weights.d_sae), grad_output });
        }
        Self {
            isa,
            coding,
            objective,
            x: batch.x.as_standard_layout().into_owned(),
            columns: Columns::new(&forward.codes, weights.d_sae),
            grad_outputs,
            prefixes: &forward.prefixes,
            auxiliary,
            y,
            b_dec,
            d_sae: weights.d_sae,
            stats,
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
        let (d_in, d_out) = (self.x.ncols(), self.grad_outputs[0].ncols());
        scratch.encoder.clear();
        scratch.encoder.resize(features.len() * d_in, 0.0);
        scratch.decoder.clear();
        scratch.decoder.resize(features.len() * d_out, 0.0);
        let tensors = tensors.alone();
        let each = features.enumerate().map(|(at, feature)| {
            let row = &decoder[at * d_out..][..d_out];
            let encoder = &mut scratch.encoder[at * d_in..][..d_in];
            let to = &mut scratch.decoder[at * d_out..][..d_out];
            let grad_output = self.grad_output(feature);
            let entries = self.columns.of(feature);
            let rows = &self.columns.rows[entries.clone()];
            let (z, h) = (&self.columns.z[entries.clone()], &self.columns.h[entries]);
            let norm = dot(row, row).sqrt();
            let column = Column {
                feature,
                z,
                h,
                rows: self.x.nrows(),
                norm,
                tensors: &tensors,
                objective: self.objective,
            };
            let gradient = &mut scratch.column;
            dots(self.isa, rows, grad_output.view(), row, gradient);
            let pull = self.coding.backward(&column, gradient);
            add_rows(self.isa, rows, gradient, self.x.view(), encoder);
            add_rows(self.isa, rows, h, grad_output.view(), to);
            if pull.norm != 0.0 && norm > 0.0 {
                to.iter_mut().zip(row).for_each(|(g, &w)| *g += pull.norm * w / norm);
            }
            let mut b_enc = gradient.iter().fold(pull.b_enc, |sum, g| sum + g);
            if let Some(auxiliary) = &self.auxiliary {
                let entries = auxiliary.columns.of(feature);
                let rows = &auxiliary.columns.rows[entries.clone()];
                dots(self.isa, rows, auxiliary.grad_output.view(), row, gradient);
                add_rows(self.isa, rows, gradient, self.x.view(), encoder);
                b_enc += gradient.iter().sum::<f32>();
                add_rows(self.isa, rows, &auxiliary.columns.z[entries], auxiliary.grad_output.view(), to);
            }
            Sums { b_enc, pull, active: h.iter().filter(|h| **h != 0.0).count() }
        });
        each.collect()
    }

    /// The gradients of all that [`Weights::small_mut`] lists; the penalty and the entropy go into `stats`.
    pub fn small_gradients(&self, sums: Vec<Vec<Sums>>, stats: &mut StepStats) -> Vec<Vec<f32>> {
        let features: Vec<Sums> = sums.into_iter().flatten().collect();
        stats.sparsity = features.iter().map(|sums| sums.pull.penalty).sum();
        let rows = self.x.nrows() as f64;
        let bits =
            |sums: &Sums| sums.pull.entropy_bits.unwrap_or_else(|| binary_entropy(sums.active as f64 / rows));
        stats.entropy_bits = features.iter().map(bits).sum();
        let mut small = vec![features.iter().map(|sums| sums.b_enc).collect(), self.b_dec.clone()];
        for at in 0..self.coding.per_feature().len() {
            small.push(features.iter().map(|sums| sums.pull.per_feature[at]).collect());
        }
        small
    }

    /// Gradients by codes and by pre-activations as matrices `[n, d_sae]`, where there are entries.
    pub fn dense(&self, weights: &Weights) -> (Array2<f64>, Array2<f64>) {
        let mut of_codes = Array2::zeros((self.x.nrows(), self.d_sae));
        let mut of_z = of_codes.clone();
        let tensors = weights.feature_tensors();
        let tensors = tensors.alone();
        let mut gradient = vec![];
        for feature in 0..self.d_sae {
            let row = weights.decoder_view();
            let row = row.index_axis(Axis(0), feature);
            let row = row.to_slice().expect("row-major");
            let entries = self.columns.of(feature);
            let rows = &self.columns.rows[entries.clone()];
            dots(self.isa, rows, self.grad_output(feature).view(), row, &mut gradient);
            rows.iter().zip(&gradient).for_each(|(&at, &g)| of_codes[[at as usize, feature]] = f64::from(g));
            let column = Column {
                feature,
                z: &self.columns.z[entries.clone()],
                h: &self.columns.h[entries],
                rows: self.x.nrows(),
                norm: dot(row, row).sqrt(),
                tensors: &tensors,
                objective: self.objective,
            };
            self.coding.backward(&column, &mut gradient);
            rows.iter().zip(&gradient).for_each(|(&at, &g)| of_z[[at as usize, feature]] = f64::from(g));
            if let Some(auxiliary) = &self.auxiliary {
                let rows = &auxiliary.columns.rows[auxiliary.columns.of(feature)];
                dots(self.isa, rows, auxiliary.grad_output.view(), row, &mut gradient);
                rows.iter().zip(&gradient).for_each(|(&at, &g)| of_z[[at as usize, feature]] += f64::from(g));
            }
        }
        (of_codes, of_z)
    }

    fn grad_output(&self, feature: usize) -> &Array2<f32> {
        &self.grad_outputs[self.prefixes.partition_point(|&end| end <= feature)]
    }
}

impl Columns {
    fn new(entries: &Entries<f32>, d_sae: usize) -> Self {
        let mut starts = vec![0; d_sae + 1];
        entries.features.iter().for_each(|&feature| starts[feature as usize + 1] += 1);
        (0..d_sae).for_each(|feature| starts[feature + 1] += starts[feature]);
        let mut next = starts.clone();
        let count = entries.features.len();
        let (mut rows, mut z, mut h) = (vec![0; count], vec![0.0; count], vec![0.0; count]);
        for row in 0..entries.rows() {
            for at in entries.row(row) {
                let to = &mut next[entries.features[at] as usize];
                (rows[*to], z[*to], h[*to]) = (row as u32, entries.z[at], entries.h[at]);
                *to += 1;
            }
        }
        Self { starts, rows, z, h }
    }

    fn of(&self, feature: usize) -> Range<usize> {
        self.starts[feature]..self.starts[feature + 1]
    }
}

fn target_of(batch: Batch<'_>) -> ArrayView2<'_, f32> {
    match batch.target {
        Target::Input => batch.x,
        Target::States(states) => states,
        Target::Labels(_) => unreachable!("classes are not what these architectures are trained on"),
    }
}

/// H(p) in bits.
fn binary_entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * libm::log2(p) } else { 0.0 };
    term(p) + term(1.0 - p)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0f32; LANES];
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] = a[lane].mul_add(b[lane], sums[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = a.mul_add(*b, sums[lane]);
    }
    sums.iter().sum()
}

fn dots(_: Isa, rows: &[u32], matrix: ArrayView2<f32>, w: &[f32], out: &mut Vec<f32>) {
    out.clear();
    let width = matrix.ncols();
    let values = matrix.to_slice().expect("row-major");
    out.extend(rows.iter().map(|&row| dot(&values[row as usize * width..][..width], w)));
}

fn add_rows(_: Isa, rows: &[u32], factors: &[f32], matrix: ArrayView2<f32>, out: &mut [f32]) {
    let width = matrix.ncols();
    let values = matrix.to_slice().expect("row-major");
    for (&row, &factor) in rows.iter().zip(factors) {
        let from = &values[row as usize * width..][..width];
        out.iter_mut().zip(from).for_each(|(out, &v)| *out = factor.mul_add(v, *out));
    }
}

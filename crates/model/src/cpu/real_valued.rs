//! Forward and backward of the baselines whose codes are not bits: dense products and an L1 penalty.

use super::{Cpu, output};
use crate::{Architecture, Batch, Objective, Parameters, StepStats, Trace};
use bae_kernels::product::add_product;
use ndarray::{Array1, Array2, ArrayView1, Axis};

/// All that forward and backward leave behind.
pub(super) struct Passed {
    z: Array2<f32>,
    pub h: Array2<f32>,
    y: Array2<f32>,
    grad_y: Array2<f32>,
    grad_h: Array2<f32>,
    grad_z: Array2<f32>,
    pub gradient: Parameters,
    pub stats: StepStats,
}

/// The whole way through, without the update.
pub(super) fn pass(cpu: &Cpu, architecture: &Architecture, objective: &Objective, batch: Batch) -> Passed {
    cpu.install(|| through(cpu, &cpu.parameters(), architecture, objective, batch))
}

fn through(
    cpu: &Cpu,
    parameters: &Parameters,
    architecture: &Architecture,
    objective: &Objective,
    batch: Batch,
) -> Passed {
    let (isa, n, activation) = (cpu.isa, batch.x.nrows(), architecture.activation);
    let rows_of =
        |bias: ArrayView1<f32>| bias.broadcast((n, bias.len())).expect("a row is broadcast").to_owned();
    let mut z = rows_of(parameters.b_enc.view());
    add_product(isa, batch.x, parameters.w_enc.view(), z.view_mut());
    let wide_z = z.mapv(f64::from);
    let mut wide_h = Array2::zeros(z.dim());
    for (mut h, z) in wide_h.axis_iter_mut(Axis(0)).zip(wide_z.axis_iter(Axis(0))) {
        h.assign(&Array1::from(activation.code_row(z.as_slice().expect("row-major"))));
    }
    let h = wide_h.mapv(|h| h as f32);

    let mut y = rows_of(parameters.b_dec.view());
    add_product(isa, h.view(), parameters.w_dec.view(), y.view_mut());
    output::apply(architecture.output, &mut y);
    let (mut stats, grad_y) = output::output_error(&y, batch);
    stats.l1 = h.iter().map(|&h| f64::from(h.abs())).sum();
    objective.total(&mut stats);
    let mut grad_decoded = grad_y.clone();
    output::backward(architecture.output, &y, &mut grad_decoded);

    let mut gradient = parameters.zeros_like();
    add_product(isa, h.t(), grad_decoded.view(), gradient.w_dec.view_mut());
    gradient.b_dec = output::column_sums(&grad_decoded).into();

    let mut grad_h = Array2::zeros(z.dim());
    add_product(isa, grad_decoded.view(), parameters.w_dec.t(), grad_h.view_mut());
    grad_h.zip_mut_with(&h, |g, &h| {
        *g += if h == 0.0 { 0.0 } else { (objective.l1_weight as f32) * h.signum() };
    });
    let mut wide_grad = grad_h.mapv(f64::from);
    for ((mut grad, z), h) in wide_grad.rows_mut().into_iter().zip(wide_z.rows()).zip(wide_h.rows()) {
        let (z, h) = (z.as_slice().expect("row-major"), h.as_slice().expect("row-major"));
        activation.backward_row(grad.as_slice_mut().expect("row-major"), z, h);
    }
    let grad_z = wide_grad.mapv(|g| g as f32);
    add_product(isa, batch.x.t(), grad_z.view(), gradient.w_enc.view_mut());
    gradient.b_enc = output::column_sums(&grad_z).into();
    Passed { z, h, y, grad_y, grad_h, grad_z, gradient, stats }
}

impl From<Passed> for Trace {
    fn from(passed: Passed) -> Self {
        let wide = |values: Array2<f32>| values.mapv(f64::from);
        Trace {
            z: wide(passed.z),
            h: wide(passed.h),
            y: wide(passed.y),
            grad_y: wide(passed.grad_y),
            grad_h: wide(passed.grad_h),
            grad_z: wide(passed.grad_z),
            gradient: passed.gradient.map(f64::from),
            stats: passed.stats,
        }
    }
}

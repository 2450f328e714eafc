//! Forward and backward of the baselines whose codes are not bits: dense products and an L1 penalty.

use super::{Codes, Cpu, Passed, step};
use crate::{Architecture, Batch, Objective, Parameters};
use bae_kernels::{product, rows};
use ndarray::{Array1, Array2, Axis};

/// The whole way through, without the update.
pub(super) fn pass(cpu: &Cpu, architecture: &Architecture, objective: &Objective, batch: Batch) -> Passed {
    let activation = architecture.activation;
    let z = cpu.pre_activations(batch.x);
    let wide_z = z.mapv(f64::from);
    let mut wide_h = Array2::zeros(z.dim());
    for (mut h, z) in wide_h.axis_iter_mut(Axis(0)).zip(wide_z.axis_iter(Axis(0))) {
        h.assign(&Array1::from(activation.code_row(z.as_slice().expect("row-major"))));
    }
    let h = wide_h.mapv(|h| h as f32);

    let mut y = Array2::zeros((h.nrows(), cpu.parameters.d_out()));
    y.axis_iter_mut(Axis(0)).for_each(|mut row| row.assign(&cpu.parameters.b_dec));
    product::add_product(cpu.isa, h.view(), cpu.parameters.w_dec.view(), y.view_mut());
    step::apply_output(architecture.output, &mut y);
    let (mut stats, grad_y) = step::output_error(&y, batch);
    stats.l1 = h.iter().map(|&h| f64::from(h.abs())).sum();
    objective.total(&mut stats);
    let mut grad_decoded = grad_y.clone();
    step::output_backward(architecture.output, &y, &mut grad_decoded);

    let mut gradient = Parameters::zeros(batch.x.ncols(), z.ncols(), y.ncols());
    product::add_product(cpu.isa, h.t(), grad_decoded.view(), gradient.w_dec.view_mut());
    let b_dec = gradient.b_dec.as_slice_mut().expect("row-major");
    rows::add_columns(cpu.isa, grad_decoded.as_slice().expect("row-major"), b_dec);

    let mut grad_h = Array2::zeros(z.dim());
    product::add_product(cpu.isa, grad_decoded.view(), cpu.parameters.w_dec.t(), grad_h.view_mut());
    grad_h.zip_mut_with(&h, |g, &h| {
        *g += if h == 0.0 { 0.0 } else { (objective.l1_weight as f32) * h.signum() };
    });
    let mut wide_grad = grad_h.mapv(f64::from);
    for ((mut grad, z), h) in wide_grad.rows_mut().into_iter().zip(wide_z.rows()).zip(wide_h.rows()) {
        let (z, h) = (z.as_slice().expect("row-major"), h.as_slice().expect("row-major"));
        activation.backward_row(grad.as_slice_mut().expect("row-major"), z, h);
    }
    let grad_z = wide_grad.mapv(|g| g as f32);
    step::encoder_gradient(cpu, batch.x, &grad_z, &mut gradient);
    Passed { z, h: Codes::Values(h), y, grad_y, grad_h, grad_z, gradient, stats }
}

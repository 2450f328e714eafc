//! Forward and backward of a Binary Autoencoder.

use super::{Codes, Cpu, Passed, Poisoned, find_poison};
use crate::{
    Architecture, Batch, Estimator, Objective, OutputActivation, Parameters, StepStats, Target, activation,
};
use bae_codes::{BitMatrix, entropy};
use bae_kernels::{pairs, product, rows};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// The whole way through, without the update.
pub(super) fn pass(
    cpu: &Cpu,
    architecture: &Architecture,
    estimator: Estimator,
    objective: &Objective,
    batch: Batch,
) -> Result<Passed, Poisoned> {
    let isa = cpu.isa;
    let z = cpu.pre_activations(batch.x);
    let bits = encode(&z, estimator)?;
    let by_feature = bits.transposed();
    let ones = by_feature.ones_per_row();

    let mut y = cpu.decode_bits(&bits);
    apply_output(architecture.output, &mut y);
    let (mut stats, grad_y) = output_error(&y, batch);
    let mut grad_decoded = grad_y.clone();
    output_backward(architecture.output, &y, &mut grad_decoded);

    let mut gradient = Parameters::zeros(batch.x.ncols(), z.ncols(), y.ncols());
    let decoded = grad_decoded.as_slice().expect("row-major");
    let w_dec = gradient.w_dec.as_slice_mut().expect("row-major");
    rows::add_selected(isa, by_feature.words(), by_feature.words_per_row(), decoded, w_dec, y.ncols());
    rows::add_columns(isa, decoded, gradient.b_dec.as_slice_mut().expect("row-major"));

    let mut grad_h = Array2::zeros(z.dim());
    product::add_product(isa, grad_decoded.view(), cpu.parameters.w_dec.t(), grad_h.view_mut());
    penalties(cpu, objective, &bits, &by_feature, &ones, &mut stats, &mut grad_h);
    objective.total(&mut stats);

    let mut grad_z = grad_h.clone();
    let columns = z.ncols().max(1);
    let z_rows = z.as_slice().expect("row-major").par_chunks(columns);
    let grad_rows = grad_z.as_slice_mut().expect("row-major").par_chunks_mut(columns);
    grad_rows.zip(z_rows).for_each(|(gradient, z)| estimator.backward_row(gradient, z));
    encoder_gradient(cpu, batch.x, &grad_z, &mut gradient);
    Ok(Passed { z, h: Codes::Bits(bits), y, grad_y, grad_h, grad_z, gradient, stats })
}

/// dW_enc = xᵀ grad_z, db_enc = its column sums.
pub(super) fn encoder_gradient(
    cpu: &Cpu,
    x: ArrayView2<f32>,
    grad_z: &Array2<f32>,
    gradient: &mut Parameters,
) {
    product::add_product(cpu.isa, x.t(), grad_z.view(), gradient.w_enc.view_mut());
    let b_enc = gradient.b_enc.as_slice_mut().expect("row-major");
    rows::add_columns(cpu.isa, grad_z.as_slice().expect("row-major"), b_enc);
}

/// The step function, packed.
pub(super) fn encode(z: &Array2<f32>, estimator: Estimator) -> Result<BitMatrix, Poisoned> {
    find_poison(z, estimator == Estimator::Squarewave)?;
    if estimator == Estimator::Squarewave {
        let mut bits = BitMatrix::zeros(z.nrows(), z.ncols());
        z.indexed_iter().for_each(|((row, feature), &z)| bits.set(row, feature, activation::squarewave(z)));
        return Ok(bits);
    }
    Ok(BitMatrix::from_positive(z.as_slice().expect("row-major"), z.ncols()))
}

/// Adds entropy and covariance to the statistics and their gradients to `grad_h`.
fn penalties(
    cpu: &Cpu,
    objective: &Objective,
    bits: &BitMatrix,
    by_feature: &BitMatrix,
    ones: &[u32],
    stats: &mut StepStats,
    grad_h: &mut Array2<f32>,
) {
    let (n, m) = (bits.rows(), bits.features());
    let share = |&ones: &u32| f64::from(ones) / n as f64;
    stats.entropy_bits = ones.iter().map(|ones| entropy::smoothed(share(ones))).sum();
    let entropy_pull: Array1<f32> =
        if objective.entropy_weight != 0.0 && objective.entropy_pulls(stats.entropy_bits) {
            let scale = objective.entropy_weight / n as f64;
            ones.iter().map(|ones| (scale * entropy::smoothed_derivative(share(ones))) as f32).collect()
        } else {
            Array1::zeros(m)
        };

    let (words, per_feature) = (by_feature.words(), by_feature.words_per_row());
    let features = pairs::Features { words, per_feature, ones, samples: n };
    let covariance = pairs::covariance(cpu.isa, features);
    stats.covariance = objective.covariance(covariance.absolute_sum as f64, n);
    if stats.covariance.is_nan() {
        // one row, as published: 0 · NaN at any weight
        grad_h.fill(f32::NAN);
        return;
    }
    let columns = m.max(1);
    if objective.covariance_weight == 0.0 || n < 2 {
        let pull = entropy_pull.as_slice().expect("row-major");
        grad_h.as_slice_mut().expect("row-major").par_chunks_mut(columns).for_each(|row| {
            row.iter_mut().zip(pull).for_each(|(g, pull)| *g += pull);
        });
        return;
    }
    let mut counts = Array2::<i32>::zeros((n, m));
    counts.as_slice_mut().expect("row-major").par_chunks_mut(columns).enumerate().for_each(
        |(row, counts)| {
            pairs::signed_counts(cpu.isa, &covariance, bits.row(row), counts);
        },
    );
    let sums = counts.mapv(i64::from).sum_axis(Axis(0));
    let scale = 2.0 * objective.covariance_weight / (n as f64 * (n as f64 - 1.0));
    let count_rows = counts.as_slice().expect("row-major").par_chunks(columns);
    let grad_rows = grad_h.as_slice_mut().expect("row-major").par_chunks_mut(columns);
    grad_rows.zip(count_rows).for_each(|(grad, counts)| {
        for (((g, &count), &sum), &pull) in grad.iter_mut().zip(counts).zip(&sums).zip(&entropy_pull) {
            *g += pull + (scale * (n as i64 * i64::from(count) - sum) as f64) as f32;
        }
    });
}

/// The direct loss with its gradient by the outputs; sums in f64, row by row in order.
pub(super) fn output_error(y: &Array2<f32>, batch: Batch) -> (StepStats, Array2<f32>) {
    let count = y.len() as f64;
    let mut stats = StepStats::default();
    let mut grad_y = Array2::zeros(y.dim());
    let squared = |target: ArrayView2<f32>, grad_y: &mut Array2<f32>| {
        let scale = (2.0 / count) as f32;
        let rows: Vec<f64> = grad_y
            .axis_iter_mut(Axis(0))
            .into_par_iter()
            .zip(y.axis_iter(Axis(0)).into_par_iter().zip(target.axis_iter(Axis(0))))
            .map(|(grad, (y, target))| {
                grad.into_iter().zip(y).zip(target).fold(0.0, |sum, ((grad, &y), &target)| {
                    let error = y - target;
                    *grad = scale * error;
                    sum + f64::from(error) * f64::from(error)
                })
            })
            .collect();
        rows.iter().sum::<f64>() / count
    };
    match batch.target {
        Target::Input => stats.mse = squared(batch.x, &mut grad_y),
        Target::States(states) => stats.mse = squared(states, &mut grad_y),
        Target::Labels(labels) => {
            let (mut loss, mut right) = (0.0, 0u32);
            for ((y, grad), &label) in y.rows().into_iter().zip(grad_y.rows_mut()).zip(labels) {
                let (error, hit) = cross_entropy(y, grad, label as usize, labels.len());
                loss += error;
                right += u32::from(hit);
            }
            stats.mse = loss / labels.len() as f64;
            stats.accuracy = Some(f64::from(right) / labels.len() as f64);
        }
    }
    (stats, grad_y)
}

/// Softmax cross-entropy of one row, whether its largest output is the label, and the gradient of the mean over `rows`.
fn cross_entropy(
    y: ndarray::ArrayView1<f32>,
    mut grad: ndarray::ArrayViewMut1<f32>,
    label: usize,
    rows: usize,
) -> (f64, bool) {
    let mut largest = 0;
    (1..y.len()).for_each(|at| largest = if y[at] > y[largest] { at } else { largest });
    let weights: Vec<f64> = y.iter().map(|&v| libm::exp(f64::from(v) - f64::from(y[largest]))).collect();
    let sum: f64 = weights.iter().sum();
    for (at, grad) in grad.iter_mut().enumerate() {
        *grad = ((weights[at] / sum - f64::from(u8::from(at == label))) / rows as f64) as f32;
    }
    (libm::log(sum) + f64::from(y[largest]) - f64::from(y[label]), largest == label)
}

/// Applies the output activation in place.
pub(super) fn apply_output(output: OutputActivation, y: &mut Array2<f32>) {
    if output != OutputActivation::None {
        y.mapv_inplace(|y| output.apply(f64::from(y)) as f32);
    }
}

/// Multiplies `grad_y` by the output activation's derivative.
pub(super) fn output_backward(output: OutputActivation, y: &Array2<f32>, grad_y: &mut Array2<f32>) {
    if output != OutputActivation::None {
        grad_y.zip_mut_with(y, |g, &y| *g = (f64::from(*g) * output.derivative(f64::from(y))) as f32);
    }
}

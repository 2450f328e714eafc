//! Outputs against targets: the direct loss and its gradient.

use crate::{Batch, OutputActivation, StepStats, Target};
use bae_kernels::columns::{ColumnPanels, WIDTH};
use ndarray::{Array2, ArrayView2, Axis};
use rayon::prelude::*;

/// Turns the outputs `y` into the gradient of their mean squared error against `target`; gives that mean and the
/// gradient's column sums. Sums run over rows in order, column by column.
pub(crate) fn squared_error(y: &mut ColumnPanels, target: ArrayView2<f32>) -> (f64, Vec<f32>) {
    let count = (y.rows() * y.columns()) as f64;
    let columns = y.columns();
    let scale = (2.0 / count) as f32;
    let panels: Vec<(f64, [f32; WIDTH])> = y
        .panels_mut()
        .map(|(first, panel)| {
            let here = first..columns.min(first + WIDTH);
            let (mut squares, mut total) = ([0f64; WIDTH], [0f32; WIDTH]);
            for (y, target) in panel.iter_mut().zip(target.rows()) {
                let target = target.slice(ndarray::s![here.clone()]);
                let sums = squares.iter_mut().zip(&mut total);
                for ((y, &target), (square, total)) in y.iter_mut().zip(target).zip(sums) {
                    let error = *y - target;
                    *y = scale * error;
                    *square += f64::from(error) * f64::from(error);
                    *total += *y;
                }
            }
            (squares.iter().sum(), total)
        })
        .collect();
    let sum: f64 = panels.iter().map(|(squares, _)| squares).sum();
    let total = panels.into_iter().flat_map(|(_, total)| total).take(columns).collect();
    (sum / count, total)
}

/// The direct loss with its gradient by the outputs, whatever the target; sums in f64, row by row in order.
pub(crate) fn output_error(y: &Array2<f32>, batch: Batch) -> (StepStats, Array2<f32>) {
    let mut stats = StepStats::default();
    let against = |target: ArrayView2<f32>| {
        let mut panels = ColumnPanels::from_rows(y.view());
        let (mse, _) = squared_error(&mut panels, target);
        (mse, panels.to_rows())
    };
    let grad_y = match batch.target {
        Target::Input => against(batch.x),
        Target::States(states) => against(states),
        Target::Labels(labels) => {
            let mut grad_y = Array2::zeros(y.dim());
            let (mut loss, mut right) = (0.0, 0u32);
            for ((y, grad), &label) in y.rows().into_iter().zip(grad_y.rows_mut()).zip(labels) {
                let (error, hit) = cross_entropy(y, grad, label as usize, labels.len());
                loss += error;
                right += u32::from(hit);
            }
            stats.accuracy = Some(f64::from(right) / labels.len() as f64);
            (loss / labels.len() as f64, grad_y)
        }
    };
    (StepStats { mse: grad_y.0, ..stats }, grad_y.1)
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
pub(crate) fn apply(output: OutputActivation, y: &mut Array2<f32>) {
    if output != OutputActivation::None {
        y.mapv_inplace(|y| output.apply(f64::from(y)) as f32);
    }
}

/// Multiplies `grad_y` by the output activation's derivative.
pub(crate) fn backward(output: OutputActivation, y: &Array2<f32>, grad_y: &mut Array2<f32>) {
    if output != OutputActivation::None {
        grad_y.zip_mut_with(y, |g, &y| *g = (f64::from(*g) * output.derivative(f64::from(y))) as f32);
    }
}

/// Column sums, each one chain in ascending rows.
pub(crate) fn column_sums(rows: &Array2<f32>) -> Vec<f32> {
    rows.fold_axis(Axis(0), 0f32, |sum, value| sum + value).to_vec()
}

//! The same step in plain f64 loops over whole matrices: the oracle of this engine.

use crate::architectures::{Auxiliary, Column, Entries, Kind, Pass, Tensors};
use crate::reference::{output_error, pre_activations, product};
use crate::{Architecture, Batch, Objective, Parameters, StepStats, Target, Trace};
use ndarray::{Array2, Axis};

/// Codes of hidden states as a matrix `[n, d_sae]`.
pub fn codes(parameters: &Parameters<f64>, kind: Kind, z: &Array2<f64>, pass: Pass) -> Array2<f64> {
    matrix(&kind.coding().encode(z.view(), &tensors(parameters), pass), z.ncols())
}

/// Forward and backward: every intermediate of one step. `idle`: steps since each feature was last on.
pub fn trace(
    parameters: &Parameters<f64>,
    architecture: &Architecture,
    kind: Kind,
    objective: &Objective,
    batch: Batch,
    (step, idle): (u64, &[u32]),
) -> Trace {
    let coding = kind.coding::<f64>();
    let (n, d_sae) = (batch.x.nrows(), parameters.d_sae());
    let x = batch.x.mapv(f64::from);
    let z = pre_activations(parameters, batch.x);
    let tensors = tensors(parameters);
    let entries = coding.encode(z.view(), &tensors, Pass::Step(step));
    let h = matrix(&entries, d_sae);
    let prefixes = coding.prefixes(d_sae);

    let mut stats = StepStats::default();
    let mut gradient = parameters.zeros_like();
    let mut grad_h = Array2::zeros(h.dim());
    let (mut y, mut grad_y) = (Array2::zeros((0, 0)), Array2::zeros((0, 0)));
    let mut sum = 0.0;
    for &end in &prefixes {
        let mut first = h.clone();
        first.slice_mut(ndarray::s![.., end..]).fill(0.0);
        let decoded = product(&first, &parameters.w_dec) + &parameters.b_dec;
        y = decoded.mapv(|y| architecture.output.apply(y));
        (stats, grad_y) = output_error(&y, &x, batch.target);
        sum += stats.mse;
        let slope = y.mapv(|y| architecture.output.derivative(y));
        let grad_decoded = &grad_y * &slope;
        let mut of_codes = product(&grad_decoded, &parameters.w_dec.t().to_owned());
        of_codes.slice_mut(ndarray::s![.., end..]).fill(0.0);
        grad_h += &of_codes;
        gradient.w_dec += &product(&first.t().to_owned(), &grad_decoded);
        gradient.b_dec += &grad_decoded.sum_axis(Axis(0));
    }
    stats.nested = sum - stats.mse;

    let mut grad_z = Array2::<f64>::zeros(z.dim());
    for feature in 0..d_sae {
        let rows: Vec<usize> =
            (0..n).filter(|&row| features(&entries, row).contains(&(feature as u32))).collect();
        let entry = |row: usize| {
            let at = entries.row(row).find(|&at| entries.features[at] as usize == feature).expect("an entry");
            (entries.z[at], entries.h[at])
        };
        let (of_z, of_h): (Vec<f64>, Vec<f64>) = rows.iter().map(|&row| entry(row)).unzip();
        let mut column: Vec<f64> = rows.iter().map(|&row| grad_h[[row, feature]]).collect();
        let row = parameters.w_dec.row(feature);
        let norm = row.dot(&row).sqrt();
        let given = Column { feature, z: &of_z, h: &of_h, rows: n, norm, tensors: &tensors, objective };
        let pull = coding.backward(&given, &mut column);
        rows.iter().zip(&column).for_each(|(&row, &g)| grad_z[[row, feature]] = g);
        gradient.b_enc[feature] = pull.b_enc + column.iter().sum::<f64>();
        for ((_, values), of) in gradient.per_feature.iter_mut().zip(pull.per_feature) {
            values[feature] = of;
        }
        if norm > 0.0 {
            gradient.w_dec.row_mut(feature).zip_mut_with(&row, |g, w| *g += pull.norm * w / norm);
        }
        stats.sparsity += pull.penalty;
        let p = of_h.iter().filter(|h| **h != 0.0).count() as f64 / n as f64;
        stats.entropy_bits += pull.entropy_bits.unwrap_or_else(|| entropy(p));
    }
    if let Some(Auxiliary { codes, of_residual, weight }) = coding.auxiliary(z.view(), &tensors, idle) {
        let target = match batch.target {
            Target::States(states) => states.mapv(f64::from),
            _ => x.clone(),
        };
        let h = matrix(&codes, d_sae);
        let decoded = product(&h, &parameters.w_dec);
        let (decoded, target) =
            if of_residual { (decoded, target - &y) } else { (decoded + &parameters.b_dec, target) };
        let error = &decoded - &target;
        let count = error.len() as f64;
        stats.auxiliary = weight * error.iter().map(|e| e * e).sum::<f64>() / count;
        let grad = error * (2.0 * weight / count);
        let mut of_codes = product(&grad, &parameters.w_dec.t().to_owned());
        for ((row, feature), g) in of_codes.indexed_iter_mut() {
            *g *= f64::from(u8::from(features(&codes, row).contains(&(feature as u32))));
        }
        grad_z += &of_codes;
        gradient.b_enc += &of_codes.sum_axis(Axis(0));
        gradient.w_dec += &product(&h.t().to_owned(), &grad);
        if !of_residual {
            gradient.b_dec += &grad.sum_axis(Axis(0));
        }
    }
    gradient.w_enc = product(&x.t().to_owned(), &grad_z);
    objective.total(&mut stats);
    Trace { z, h, y, grad_y, grad_h, grad_z, gradient, stats }
}

/// What the architecture does after a step with these codes.
pub fn after_step(kind: Kind, h: &Array2<f64>, parameters: &mut Parameters<f64>) {
    let codes = Entries::by_rows(h.view(), |_, h, row| {
        (0..h.len())
            .filter(|&feature| h[feature] != 0.0)
            .for_each(|feature| row.push(feature, 0.0, h[feature]));
    });
    let mut tensors: Vec<_> =
        parameters.per_feature.iter_mut().map(|(_, values)| values.view_mut()).collect();
    kind.coding().after_step(&codes, &mut tensors);
}

/// What an architecture may look at.
pub fn tensors(parameters: &Parameters<f64>) -> Tensors<'_, f64> {
    Tensors {
        b_enc: parameters.b_enc.as_slice().expect("one dimension"),
        per_feature: parameters
            .per_feature
            .iter()
            .map(|(_, values)| values.as_slice().expect("one dimension"))
            .collect(),
        encoder: parameters.w_enc.t(),
        decoder: parameters.w_dec.view(),
    }
}

fn features(entries: &Entries<f64>, row: usize) -> &[u32] {
    &entries.features[entries.row(row)]
}

fn matrix(entries: &Entries<f64>, d_sae: usize) -> Array2<f64> {
    let mut h = Array2::zeros((entries.rows(), d_sae));
    for row in 0..entries.rows() {
        for at in entries.row(row) {
            h[[row, entries.features[at] as usize]] = entries.h[at];
        }
    }
    h
}

fn entropy(p: f64) -> f64 {
    let term = |p: f64| if p > 0.0 { -p * libm::log2(p) } else { 0.0 };
    term(p) + term(1.0 - p)
}

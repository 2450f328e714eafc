//! The step in plain f64 loops: the oracle of every test. Slow, and meant to be read beside section 4 of the design.

pub mod penalties;

use crate::{
    Activation, Adam, Architecture, Backend, Batch, ModelError, Moments, Objective, Parameters, StepStats,
    Target, Trace, TrainingState, sae,
};
use bae_codes::BitMatrix;
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};

/// Parameters and moments in f64, and for each feature the steps since it was last on.
pub struct Reference {
    parameters: Parameters<f64>,
    moments: Moments<f64>,
    idle: Vec<u32>,
}

impl Reference {
    /// A model with these parameters and no steps taken.
    pub fn new(parameters: &Parameters) -> Self {
        let parameters = parameters.map(f64::from);
        Self { moments: Moments::new(&parameters), idle: vec![0; parameters.d_sae()], parameters }
    }
}

/// Pre-activations z = x W_enc + b_enc, `[n, d_sae]`.
pub fn pre_activations(parameters: &Parameters<f64>, x: ArrayView2<f32>) -> Array2<f64> {
    product(&x.mapv(f64::from), &parameters.w_enc) + &parameters.b_enc
}

/// Forward and backward: every intermediate of one step.
pub fn trace(
    parameters: &Parameters<f64>,
    architecture: &Architecture,
    objective: &Objective,
    batch: Batch,
) -> Trace {
    let x = batch.x.mapv(f64::from);
    let n = x.nrows();
    let z = pre_activations(parameters, batch.x);
    let mut h = Array2::zeros(z.dim());
    for (mut h, z) in h.rows_mut().into_iter().zip(z.rows()) {
        h.assign(&Array1::from(architecture.activation.code_row(&z.to_vec())));
    }
    let y = (product(&h, &parameters.w_dec) + &parameters.b_dec).mapv(|y| architecture.output.apply(y));

    let (mut stats, grad_y) = output_error(&y, &x, batch.target);
    let grad_decoded = &grad_y * &y.mapv(|y| architecture.output.derivative(y));
    let mut grad_h = product(&grad_decoded, &parameters.w_dec.t().to_owned());
    if let Activation::Binary(_) = architecture.activation {
        stats.entropy_bits = penalties::entropy(&h);
        stats.covariance = penalties::covariance(objective, &h);
        if objective.entropy_pulls(stats.entropy_bits) {
            grad_h += &(penalties::entropy_gradient(&h) * objective.entropy_weight);
        }
        if n > 1 || objective.as_published {
            grad_h += &(penalties::covariance_gradient(&h) * objective.covariance_weight);
        }
    } else {
        stats.l1 = h.iter().map(|h| h.abs()).sum();
        grad_h += &h.mapv(|h| objective.l1_weight * penalties::sign(h));
    }
    objective.total(&mut stats);

    let mut grad_z = grad_h.clone();
    for ((mut grad, z), h) in grad_z.rows_mut().into_iter().zip(z.rows()).zip(h.rows()) {
        let (z, h) = (z.as_slice().expect("row-major"), h.as_slice().expect("row-major"));
        architecture.activation.backward_row(grad.as_slice_mut().expect("row-major"), z, h);
    }
    let gradient = Parameters {
        w_enc: product(&x.t().to_owned(), &grad_z),
        b_enc: grad_z.sum_axis(Axis(0)),
        w_dec: product(&h.t().to_owned(), &grad_decoded),
        b_dec: grad_decoded.sum_axis(Axis(0)),
        per_feature: vec![],
    };
    Trace { z, h, y, grad_y, grad_h, grad_z, gradient, stats }
}

/// The direct loss with its gradient by the outputs.
pub(crate) fn output_error(y: &Array2<f64>, x: &Array2<f64>, target: Target) -> (StepStats, Array2<f64>) {
    let mut stats = StepStats::default();
    let count = y.len() as f64;
    let squared = |stats: &mut StepStats, target: ArrayView2<f64>| {
        let error = y - &target;
        stats.mse = error.iter().map(|e| e * e).sum::<f64>() / count;
        error.mapv(|e| 2.0 * e / count)
    };
    let grad_y = match target {
        Target::Input => squared(&mut stats, x.view()),
        Target::States(states) => squared(&mut stats, states.mapv(f64::from).view()),
        Target::Labels(labels) => {
            let mut grad_y = y.clone();
            let (rows, mut right) = (labels.len() as f64, 0);
            for ((row, mut grad), &label) in y.rows().into_iter().zip(grad_y.rows_mut()).zip(labels) {
                let label = label as usize;
                let mut largest = 0;
                (1..row.len()).for_each(|at| largest = if row[at] > row[largest] { at } else { largest });
                right += u32::from(largest == label);
                let sum: f64 = row.iter().map(|v| libm::exp(v - row[largest])).sum();
                stats.mse += (libm::log(sum) + row[largest] - row[label]) / rows;
                grad.mapv_inplace(|v| libm::exp(v - row[largest]) / sum / rows);
                grad[label] -= 1.0 / rows;
            }
            stats.accuracy = Some(f64::from(right) / rows);
            grad_y
        }
    };
    (stats, grad_y)
}

pub(crate) fn product(a: &Array2<f64>, b: &Array2<f64>) -> Array2<f64> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    for i in 0..a.nrows() {
        for l in 0..a.ncols() {
            let value = a[[i, l]];
            Zip::from(c.row_mut(i)).and(b.row(l)).for_each(|c, &b| *c += value * b);
        }
    }
    c
}

fn adam_update(adam: &Adam, corrections: (f64, f64), values: [&mut [f64]; 3], gradient: &[f64]) {
    let [parameters, first, second] = values;
    for (at, &gradient) in gradient.iter().enumerate() {
        let gradient = gradient + adam.weight_decay * parameters[at];
        first[at] = adam.beta1 * first[at] + (1.0 - adam.beta1) * gradient;
        second[at] = adam.beta2 * second[at] + (1.0 - adam.beta2) * gradient * gradient;
        let mean_square = second[at] / corrections.1;
        parameters[at] -=
            adam.learning_rate * first[at] / corrections.0 / (mean_square.sqrt() + adam.epsilon);
    }
}

impl Backend for Reference {
    fn d_sae(&self) -> usize {
        self.parameters.d_sae()
    }

    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError> {
        let mut trace = self.trace(architecture, objective, batch)?;
        if adam.clips() {
            let norm = trace.gradient.flat().into_iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
            let scale = adam.clip(norm)?;
            trace.gradient = trace.gradient.map(|g| g * scale);
            trace.stats.gradient_norm = Some(norm);
        }
        self.moments.steps += 1;
        let corrections = adam.corrections(self.moments.steps);
        let Moments { first, second, .. } = &mut self.moments;
        let gradient = trace.gradient.flat();
        let all = self.parameters.flat_mut().into_iter().zip(first.flat_mut()).zip(second.flat_mut());
        for (((parameters, first), second), gradient) in all.zip(gradient) {
            adam_update(adam, corrections, [parameters, first, second], gradient);
        }
        for (idle, h) in self.idle.iter_mut().zip(trace.h.columns()) {
            // the published top-k may keep negative values, which do not count there
            let on = |&h: &f64| h > 0.0 || h != 0.0 && architecture.kind().is_some();
            *idle = if h.iter().any(on) { 0 } else { idle.saturating_add(1) };
        }
        if let Some(kind) = architecture.kind() {
            sae::reference::after_step(kind, &trace.h, &mut self.parameters);
        }
        Ok(trace.stats)
    }

    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        let trace = match architecture.kind() {
            Some(kind) => {
                let taken = (self.moments.steps, self.idle.as_slice());
                sae::reference::trace(&self.parameters, architecture, kind, objective, batch, taken)
            }
            None => trace(&self.parameters, architecture, objective, batch),
        };
        if !objective.as_published {
            refuse_nan(&trace.z)?;
        }
        Ok(trace)
    }

    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError> {
        let z = pre_activations(&self.parameters, x);
        refuse_nan(&z)?;
        let mut codes = BitMatrix::zeros(z.nrows(), z.ncols());
        for (row, z) in z.rows().into_iter().enumerate() {
            for (feature, h) in architecture.activation.code_row(&z.to_vec()).into_iter().enumerate() {
                codes.set(row, feature, h == 1.0);
            }
        }
        Ok(codes)
    }

    fn decode(&self, architecture: &Architecture, codes: &BitMatrix) -> Result<Array2<f32>, ModelError> {
        let h = Array2::from_shape_fn((codes.rows(), codes.features()), |(row, feature)| {
            f64::from(u8::from(codes.get(row, feature)))
        });
        let y = product(&h, &self.parameters.w_dec) + &self.parameters.b_dec;
        Ok(y.mapv(|y| architecture.output.apply(y) as f32))
    }

    fn covariance(&self, codes: &BitMatrix) -> Result<f64, ModelError> {
        let h = Array2::from_shape_fn((codes.rows(), codes.features()), |(row, feature)| {
            f64::from(u8::from(codes.get(row, feature)))
        });
        Ok(penalties::covariance(&Objective::default(), &h))
    }

    fn parameters(&self) -> Result<Parameters, ModelError> {
        Ok(self.parameters.map(|value| value as f32))
    }

    fn moments(&self) -> Result<Moments, ModelError> {
        let Moments { first, second, steps } = &self.moments;
        Ok(Moments { first: first.map(|v| v as f32), second: second.map(|v| v as f32), steps: *steps })
    }

    fn idle(&self) -> Result<Vec<u32>, ModelError> {
        Ok(self.idle.clone())
    }

    fn restore(&mut self, state: &TrainingState) -> Result<(), ModelError> {
        state.check(self.parameters.d_in(), self.parameters.d_sae(), self.parameters.d_out())?;
        let TrainingState { parameters, moments: Moments { first, second, steps }, idle } = state;
        self.parameters = parameters.map(f64::from);
        self.moments = Moments { first: first.map(f64::from), second: second.map(f64::from), steps: *steps };
        self.idle.clone_from(idle);
        Ok(())
    }
}

fn refuse_nan(z: &Array2<f64>) -> Result<(), ModelError> {
    match z.indexed_iter().find(|(_, z)| z.is_nan()) {
        Some(((row, feature), _)) => Err(ModelError::NotFinite { row, feature }),
        None => Ok(()),
    }
}

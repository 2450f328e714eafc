use crate::{ModelError, Parameters};
use bae_kernels::adam::AdamStep;

/// The Adam optimiser (Kingma & Ba 2015, algorithm 1); both moments are bias-corrected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// L2 penalty added to the gradient (not decoupled).
    pub weight_decay: f64,
    /// All gradients of a step (before weight decay) are scaled by one number where their 2-norm, over the four tensors
    /// together, is above this one, which is positive; infinite for no such clipping. An engine that clips keeps all
    /// gradients of a step: one model's memory more.
    pub clip_norm: f64,
}

impl Adam {
    /// The usual betas 0.9 and 0.999 and epsilon 1e-8, no weight decay, no clipping.
    pub fn new(learning_rate: f64) -> Self {
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        Self { learning_rate, beta1, beta2, epsilon, weight_decay: 0.0, clip_norm: f64::INFINITY }
    }

    /// Whether gradients are clipped.
    pub fn clips(&self) -> bool {
        self.clip_norm != f64::INFINITY
    }

    /// What gradients of this norm are multiplied by: min(1, clip_norm / (norm + 1e-6)), as in PyTorch.
    pub(crate) fn clip(&self, norm: f64) -> Result<f64, ModelError> {
        if norm.is_finite() {
            Ok((self.clip_norm / (norm + 1e-6)).min(1.0))
        } else {
            Err(ModelError::GradientNotFinite)
        }
    }

    /// 1 − beta^step for both betas: the bias corrections of a step, counted from 1.
    pub(crate) fn corrections(&self, step: u64) -> (f64, f64) {
        (1.0 - libm::pow(self.beta1, step as f64), 1.0 - libm::pow(self.beta2, step as f64))
    }

    /// The numbers of a step, counted from 1, in f32.
    pub fn numbers(&self, step: u64) -> AdamStep {
        let (first, second) = self.corrections(step);
        let root = libm::sqrt(second);
        AdamStep {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            one_minus_beta1: (1.0 - self.beta1) as f32,
            one_minus_beta2: (1.0 - self.beta2) as f32,
            step_size: (self.learning_rate * root / first) as f32,
            epsilon: (self.epsilon * root) as f32,
            weight_decay: self.weight_decay as f32,
        }
    }
}

/// Running means of the gradient and of its square, and how many steps they have seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments<T = f32> {
    /// Mean gradient.
    pub first: Parameters<T>,
    /// Mean squared gradient.
    pub second: Parameters<T>,
    /// Steps taken.
    pub steps: u64,
}

impl<T: Copy + Default> Moments<T> {
    /// No steps yet, for parameters of these shapes.
    pub fn new(parameters: &Parameters<T>) -> Self {
        Self { first: parameters.zeros_like(), second: parameters.zeros_like(), steps: 0 }
    }
}

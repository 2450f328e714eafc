use crate::Parameters;
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
}

impl Adam {
    /// The usual betas 0.9 and 0.999 and epsilon 1e-8, no weight decay.
    pub fn new(learning_rate: f64) -> Self {
        Self { learning_rate, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
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

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

    /// 1 − beta^steps for both betas: the bias corrections of the step that makes `steps` what it is now.
    pub(crate) fn corrections(&self, adam: &Adam) -> (f64, f64) {
        (1.0 - libm::pow(adam.beta1, self.steps as f64), 1.0 - libm::pow(adam.beta2, self.steps as f64))
    }

    /// The numbers of the next step, in f32; counts it.
    pub(crate) fn advance(&mut self, adam: &Adam) -> AdamStep {
        self.steps += 1;
        let (first, second) = self.corrections(adam);
        AdamStep {
            beta1: adam.beta1 as f32,
            beta2: adam.beta2 as f32,
            one_minus_beta1: (1.0 - adam.beta1) as f32,
            one_minus_beta2: (1.0 - adam.beta2) as f32,
            step_size: (adam.learning_rate / first) as f32,
            second_correction: libm::sqrt(second) as f32,
            epsilon: adam.epsilon as f32,
            weight_decay: adam.weight_decay as f32,
        }
    }
}

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// How the learning rate goes down, once it has gone up over the steps of the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// Not at all, as published.
    Constant,
    /// To 0 along a line.
    Linear,
    /// To 0 along half a cosine.
    Cosine,
}

impl Decay {
    /// Factor of the step that follows `done` of `steps` steps, of which `warm_up_steps` go up linearly.
    pub fn factor(self, done: usize, warm_up_steps: usize, steps: usize) -> f64 {
        if done < warm_up_steps {
            return warm_up(done, warm_up_steps);
        }
        let share = (done - warm_up_steps) as f64 / steps.saturating_sub(warm_up_steps).max(1) as f64;
        match self {
            Decay::Constant => 1.0,
            Decay::Linear => 1.0 - share,
            Decay::Cosine => 0.5 + 0.5 * libm::cos(PI * share),
        }
    }
}

/// Up linearly to 1 over `steps` steps: the factor of the step that follows `done`.
pub fn warm_up(done: usize, steps: usize) -> f64 {
    if done < steps { (done + 1) as f64 / steps as f64 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_over_the_warm_up_then_down_to_nothing() {
        let at = |done| Decay::Cosine.factor(done, 10, 100);
        assert_eq!((at(0), at(9), at(10)), (0.1, 1.0, 1.0));
        assert!((at(55) - 0.5).abs() < 1e-12 && at(99) < 1e-3);
        let at = |done| Decay::Linear.factor(done, 10, 100);
        assert_eq!((at(4), at(10), at(55)), (0.5, 1.0, 0.5));
        assert!(at(99) > 0.0 && at(99) < 0.02);
        assert_eq!(Decay::Constant.factor(7, 0, 9), 1.0);
        assert_eq!(Decay::Constant.factor(0, 4, 9), 0.25);
        for decay in [Decay::Constant, Decay::Linear, Decay::Cosine] {
            // a warm-up as long as the run, or longer
            assert_eq!(decay.factor(0, 1, 1), 1.0);
            assert_eq!(decay.factor(2, 50, 3), 0.06);
        }
    }
}

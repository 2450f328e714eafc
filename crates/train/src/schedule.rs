use std::f64::consts::PI;

/// How the learning rate goes over a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LearningRate {
    /// The same at every step, as published.
    Constant,
    /// Up linearly over the first tenth of the run, then down to 0 along half a cosine.
    WarmUpCosine,
}

impl LearningRate {
    /// Factor of the step that follows `done` of `steps` steps.
    pub fn factor(self, done: usize, steps: usize) -> f64 {
        match self {
            LearningRate::Constant => 1.0,
            LearningRate::WarmUpCosine => {
                let warm_up = (steps / 10).max(1);
                if done < warm_up {
                    return (done + 1) as f64 / warm_up as f64;
                }
                let share = (done - warm_up) as f64 / (steps - warm_up).max(1) as f64;
                0.5 + 0.5 * libm::cos(PI * share)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn up_over_a_tenth_then_down_to_nothing() {
        let at = |done| LearningRate::WarmUpCosine.factor(done, 100);
        assert_eq!((at(0), at(9), at(10)), (0.1, 1.0, 1.0));
        assert!((at(55) - 0.5).abs() < 1e-12 && at(99) < 1e-3);
        assert!(LearningRate::WarmUpCosine.factor(0, 1) == 1.0);
        assert_eq!(LearningRate::Constant.factor(7, 9), 1.0);
    }
}

use super::levels::Levels;
use super::{Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::ArrayView2;
use std::ops::RangeInclusive;

/// h = −1, 0 or 1, whichever is nearest to z: at most log2 3 bits a feature.
///
/// Learnt as a bit is, with an estimator at both thresholds, −½ and ½; the entropy penalty is that of the three values over the batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ternary {
    /// Width of [`crate::Estimator::Sigmoid`] at the thresholds, in units of the pre-activation.
    pub width: f64,
}

impl Ternary {
    fn coding(&self) -> Levels {
        Levels { lowest: -1, steps: 2, width: self.width }
    }
}

impl Named for Ternary {
    const NAME: &'static str = "ternary";
    const OPTIONS: &'static [&'static str] = &["gradientWidth", "entropyWeight"];
    const RECIPE: Recipe = Recipe::QUANTISED;

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { width: settings.width()? })
    }

    fn levels(&self) -> Option<RangeInclusive<i32>> {
        Some(self.coding().range())
    }
}

impl<T: Real> Coding<T> for Ternary {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, pass: Pass) -> Entries<T> {
        self.coding().encode(z, pass != Pass::Applied)
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        self.coding().backward(column, gradient)
    }
}

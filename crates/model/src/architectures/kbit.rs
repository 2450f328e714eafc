use super::levels::Levels;
use super::{Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::ArrayView2;
use std::ops::RangeInclusive;

/// h = the whole number from 0 to 2^bits − 1 that is nearest to z: more bits a feature in place of more features. With one bit it is a
/// Binary Autoencoder whose thresholds are at ½.
///
/// Learnt as a bit is, with an estimator at each threshold, halfway between neighbours; the entropy penalty is that of the levels over the
/// batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KBit {
    /// From 1 to [`KBit::MOST`].
    pub bits: u32,
    /// Width of [`crate::Estimator::Sigmoid`] at the thresholds, in units of the pre-activation.
    pub width: f64,
}

impl KBit {
    /// Bits of a feature at most: a level's share in a batch should be more than a row.
    pub const MOST: u32 = 8;

    fn coding(&self) -> Levels {
        Levels { lowest: 0, steps: (1 << self.bits) - 1, width: self.width }
    }
}

impl Named for KBit {
    const NAME: &'static str = "kbit";
    const OPTIONS: &'static [&'static str] = &["bits", "gradientWidth", "entropyWeight"];
    const RECIPE: Recipe = Recipe { bits: Some(2), ..Recipe::QUANTISED };

    fn with(settings: &Settings) -> Result<Self, String> {
        match settings.bits {
            Some(bits @ 1..=Self::MOST) => Ok(Self { bits, width: settings.width()? }),
            bits => Err(format!("bits is {}: it must be from 1 to {}", bits.unwrap_or(0), Self::MOST)),
        }
    }

    fn levels(&self) -> Option<RangeInclusive<i32>> {
        Some(self.coding().range())
    }
}

impl<T: Real> Coding<T> for KBit {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, pass: Pass) -> Entries<T> {
        self.coding().encode(z, pass != Pass::Applied)
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        self.coding().backward(column, gradient)
    }
}

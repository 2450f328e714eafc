use super::{Auxiliary, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::{ArrayView2, Axis};

/// The k largest pre-activations of each row, where they are above 0 (Gao et al. 2024). Among equal ones the first are kept.
///
/// Features that have been idle for long learn, through the k_aux largest among them, to give what the others leave over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopK {
    /// Features that are on in a row, at most.
    pub k: usize,
    /// What dead features learn by.
    pub revival: Revival,
}

/// The auxiliary loss for dead features (Gao et al. 2024, appendix A.2).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revival {
    /// Weight of its mean squared error; 0 for none.
    pub weight: f64,
    /// Steps without being on after which a feature is dead.
    pub dead_after: u32,
}

impl Named for TopK {
    const NAME: &'static str = "topk";
    const OPTIONS: &'static [&'static str] = &["k"];
    const RECIPE: Recipe = Recipe { k: Some(32), ..Recipe::PLAIN };

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { k: settings.k()?, revival: Revival::after(settings.dead_after) })
    }
}

impl<T: Real> Coding<T> for TopK {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, _: Pass) -> Entries<T> {
        T::largest_of_rows(z, self.k)
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }

    fn auxiliary(&self, z: ArrayView2<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        self.revival.auxiliary(z, idle)
    }
}

/// Weight of the auxiliary loss (Gao et al. 2024).
const REVIVAL: f64 = 1.0 / 32.0;

impl Revival {
    /// At the usual weight.
    pub(super) fn after(steps: u32) -> Self {
        Self { weight: REVIVAL, dead_after: steps }
    }

    /// What the dead features are to learn, if there are any. As many of them as are half the width of a hidden state take part, as in the
    /// paper; the width is not known here, so half of an eighth of all features stands for it.
    pub(super) fn auxiliary<T: Real>(&self, z: ArrayView2<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        let dead: Vec<usize> = (0..idle.len()).filter(|&feature| idle[feature] >= self.dead_after).collect();
        if dead.is_empty() || self.weight == 0.0 {
            return None;
        }
        let k_aux = (z.ncols() / 8).max(1);
        let mut codes = T::largest_of_rows(z.select(Axis(1), &dead).view(), k_aux);
        codes.features.iter_mut().for_each(|feature| *feature = dead[*feature as usize] as u32);
        Some(Auxiliary {
            codes,
            of_residual: true,
            decoder_learns: true,
            weight: self.weight * (dead.len() as f64 / k_aux as f64).min(1.0),
        })
    }
}

use super::{Auxiliary, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Row, Settings, Tensors};
use ndarray::ArrayView2;

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

/// The auxiliary loss for dead features (Gao et al. 2024, appendix A.2, with SAELens' choices).
///
/// Of the dead features, those idle for more than `dead_after` steps, the k_aux with the largest pre-activations of a row (even if
/// negative) reconstruct, without b_dec, what the other features leave over, which is a constant to them; k_aux = d_out / 2, or all dead
/// ones. Its mean squared error counts `weight` · min(1, dead / (d_out / 2)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Revival {
    /// Weight of its mean squared error; 0 for none.
    pub weight: f64,
    /// A feature is dead that has not been on for more than so many steps.
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

    fn auxiliary(&self, z: ArrayView2<T>, tensors: &Tensors<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        self.revival.auxiliary(z, tensors, idle)
    }
}

/// Weight of the auxiliary loss (Gao et al. 2024).
const REVIVAL: f64 = 1.0 / 32.0;

impl Revival {
    /// At the usual weight.
    pub(super) fn after(steps: u32) -> Self {
        Self { weight: REVIVAL, dead_after: steps }
    }

    /// What the dead features are to learn, if there are any.
    pub(super) fn auxiliary<T: Real>(
        &self,
        z: ArrayView2<T>,
        tensors: &Tensors<T>,
        idle: &[u32],
    ) -> Option<Auxiliary<T>> {
        let dead = |feature: usize| idle[feature] > self.dead_after;
        let count = (0..idle.len()).filter(|&feature| dead(feature)).count();
        if count == 0 || self.weight == 0.0 {
            return None;
        }
        let most = (tensors.decoder.ncols() / 2).max(1);
        Some(Auxiliary {
            codes: Entries::by_rows(z, |_, z, row| k_largest(z, most, dead, row)),
            of_residual: true,
            weight: self.weight * (count as f64 / most as f64).min(1.0),
        })
    }
}

/// The k largest pre-activations among the features that `among` wants; of equal ones the first.
fn k_largest<T: Real>(z: &[T], k: usize, among: impl Fn(usize) -> bool, row: &mut Row<T>) {
    let mut kept: Vec<(T, usize)> =
        z.iter().enumerate().filter(|&(feature, _)| among(feature)).map(|(feature, &z)| (z, feature)).collect();
    if kept.len() > k {
        let larger_first = |a: &(T, usize), b: &(T, usize)| {
            b.0.partial_cmp(&a.0).expect("no pre-activation is NaN").then(a.1.cmp(&b.1))
        };
        if k > 0 {
            kept.select_nth_unstable_by(k - 1, larger_first);
        }
        kept.truncate(k);
        kept.sort_unstable_by_key(|&(_, feature)| feature);
    }
    kept.into_iter().for_each(|(z, feature)| row.push(feature, z, z));
}

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
        Entries::by_rows(z, |_, z, row| k_largest(z, self.k, |_| true, row))
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
        let dead = |feature: usize| idle[feature] >= self.dead_after;
        let count = (0..idle.len()).filter(|&feature| dead(feature)).count();
        if count == 0 || self.weight == 0.0 {
            return None;
        }
        let k_aux = (z.ncols() / 8).max(1);
        Some(Auxiliary {
            codes: Entries::by_rows(z, |_, z, row| k_largest(z, k_aux.min(count), dead, row)),
            of_residual: true,
            decoder_learns: true,
            weight: self.weight * (count as f64 / k_aux as f64).min(1.0),
        })
    }
}

/// The k largest pre-activations above 0 among the features that `among` wants.
fn k_largest<T: Real>(z: &[T], k: usize, among: impl Fn(usize) -> bool, row: &mut Row<T>) {
    let mut positive: Vec<(T, usize)> = z
        .iter()
        .enumerate()
        .filter(|&(feature, &z)| z > T::zero() && among(feature))
        .map(|(feature, &z)| (z, feature))
        .collect();
    if positive.len() > k {
        let larger_first = |a: &(T, usize), b: &(T, usize)| {
            b.0.partial_cmp(&a.0).expect("numbers above 0").then(a.1.cmp(&b.1))
        };
        if k > 0 {
            positive.select_nth_unstable_by(k - 1, larger_first);
        }
        positive.truncate(k);
        positive.sort_unstable_by_key(|&(_, feature)| feature);
    }
    positive.into_iter().for_each(|(z, feature)| row.push(feature, z, z));
}

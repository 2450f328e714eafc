use super::topk::Revival;
use super::{Auxiliary, Coding, Column, Entries, Kind, Named, Pass, Pull, Real, Recipe, Settings, Tensors, Threshold};
use crate::{Architecture, Parameters};
use ndarray::{ArrayView2, ArrayViewMut1};

/// The n · k largest pre-activations of a batch of n rows, where they are above 0 (Bussmann et al. 2024): rows may differ in how
/// many features they need.
///
/// Which they are depends on the batch; so a threshold, the smallest value kept in a batch, averaged over steps, stands in for it
/// where the model is applied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchTopK {
    /// Features that are on in a row, on average, at most.
    pub k: usize,
    /// What dead features learn by.
    pub revival: Revival,
}

/// Share of a new batch's smallest value in the threshold.
const RATE: f64 = 0.01;

impl Named for BatchTopK {
    const NAME: &'static str = "batchtopk";
    const OPTIONS: &'static [&'static str] = &["k"];
    const RECIPE: Recipe = Recipe { k: Some(32), ..Recipe::PLAIN };

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { k: settings.k()?, revival: Revival::after(settings.dead_after) })
    }

    fn applied(&self, _: &mut Parameters) -> Option<Architecture> {
        Some(Architecture::of(Kind::Threshold(Threshold)))
    }
}

impl<T: Real> Coding<T> for BatchTopK {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        &[("threshold", 0.0)]
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, pass: Pass) -> Entries<T> {
        if pass == Pass::Applied {
            let threshold = tensors.per_feature[0];
            return Entries::by_values(z, |feature, z| (z > threshold[feature] && z > T::zero()).then_some(z));
        }
        let least = nth_largest(z, z.nrows() * self.k);
        match least {
            None => Entries::by_values(z, |_, z| (z > T::zero()).then_some(z)),
            Some((least, last)) => {
                let d_sae = z.ncols();
                Entries::by_rows(z, |row, z, to| {
                    for (feature, &z) in z.iter().enumerate() {
                        if z > least || (z == least && row * d_sae + feature <= last) {
                            to.push(feature, z, z);
                        }
                    }
                })
            }
        }
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }

    fn auxiliary(&self, z: ArrayView2<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        self.revival.auxiliary(z, idle)
    }

    fn after_step(&self, codes: &Entries<T>, tensors: &mut [ArrayViewMut1<T>]) {
        let least = codes.h.iter().copied().fold(None, |least: Option<T>, h| Some(least.map_or(h, |l| l.min(h))));
        if let Some(least) = least {
            let rate = T::of(RATE);
            tensors[0].mapv_inplace(|old| if old > T::zero() { old + rate * (least - old) } else { least });
        }
    }
}

/// The `count`-th largest of the values above 0 and its place, equal ones ordered by their places; `None` if there are no more than
/// that.
fn nth_largest<T: Real>(z: ArrayView2<T>, count: usize) -> Option<(T, usize)> {
    let mut positive: Vec<(T, usize)> =
        z.iter().enumerate().filter(|(_, z)| **z > T::zero()).map(|(at, &z)| (z, at)).collect();
    if positive.len() <= count {
        return None;
    }
    if count == 0 {
        return Some((T::infinity(), 0));
    }
    let larger_first =
        |a: &(T, usize), b: &(T, usize)| b.0.partial_cmp(&a.0).expect("numbers above 0").then(a.1.cmp(&b.1));
    let (_, &mut nth, _) = positive.select_nth_unstable_by(count - 1, larger_first);
    Some(nth)
}

use super::topk::Revival;
use super::{Auxiliary, Coding, Column, Entries, Kind, Named, Pass, Pull, Real, Recipe, Settings, Tensors, Threshold};
use crate::{Architecture, Parameters};
use ndarray::{ArrayView2, ArrayViewMut1};

/// The n · k largest pre-activations of a batch of n rows, where they are above 0 (Bussmann et al. 2024): rows may differ in how
/// many features they need.
///
/// Which they are depends on the batch; so a threshold stands in for it where the model is applied: the smallest value kept in a
/// step's batch, averaged over steps, θ ← 0.99 θ + 0.01 min h from the first step's on. (SAELens averages from 0 on, and so is far below
/// it in the first hundred steps.)
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
        T::largest_of_batch(z, z.nrows() * self.k)
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }

    fn auxiliary(&self, z: ArrayView2<T>, tensors: &Tensors<T>, idle: &[u32]) -> Option<Auxiliary<T>> {
        self.revival.auxiliary(z, tensors, idle)
    }

    fn after_step(&self, codes: &Entries<T>, tensors: &mut [ArrayViewMut1<T>]) {
        let least = codes.h.iter().copied().fold(None, |least: Option<T>, h| Some(least.map_or(h, |l| l.min(h))));
        if let Some(least) = least {
            let rate = T::of(RATE);
            tensors[0].mapv_inplace(|old| if old > T::zero() { old + rate * (least - old) } else { least });
        }
    }
}

use super::{Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::ArrayView2;

/// h = z where z > θ_j and z > 0, else 0: what is left of a jumprelu or batchtopk model once it is trained. It is not trained itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold;

impl Named for Threshold {
    const NAME: &'static str = "threshold";
    const RECIPE: Recipe = Recipe::PLAIN;

    fn with(_: &Settings) -> Result<Self, String> {
        Err("threshold is what is left of a jumprelu or batchtopk model once it is trained: train one of these".into())
    }
}

impl<T: Real> Coding<T> for Threshold {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        &[("threshold", 0.0)]
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, _: Pass) -> Entries<T> {
        let threshold = tensors.per_feature[0];
        Entries::by_values(z, |feature, z| (z > threshold[feature] && z > T::zero()).then_some(z))
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }
}

use super::relu::l1;
use super::{Auxiliary, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::ArrayView2;

/// h = [z > 0] · max((z − b_enc) · exp(r_mag) + b_mag, 0): whether a feature is on and how much are two things (Rajamanoharan et al. 2024a).
///
/// penalty = mean over rows of Σ_j max(z_j, 0) · ‖W_dec,j‖; and max(z, 0) must reconstruct too, through a decoder that does not learn from it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gated;

impl Named for Gated {
    const NAME: &'static str = "gated";
    const OPTIONS: &'static [&'static str] = &["sparsityWeight"];
    const RECIPE: Recipe = Recipe { sparsity_weight: 5e-3, ..Recipe::PLAIN };

    fn with(_: &Settings) -> Result<Self, String> {
        Ok(Self)
    }
}

impl<T: Real> Coding<T> for Gated {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        &[("r_mag", 0.0), ("b_mag", 0.0)]
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, _: Pass) -> Entries<T> {
        let gains: Vec<T> = tensors.per_feature[0].iter().map(|r| r.exponential()).collect();
        Entries::by_values(z, |feature, z| {
            let magnitude = (z - tensors.b_enc[feature]) * gains[feature] + tensors.per_feature[1][feature];
            (z > T::zero()).then(|| magnitude.max(T::zero()))
        })
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        let gain = column.tensors.per_feature[0][column.feature].exponential();
        let bias = column.tensors.b_enc[column.feature];
        let (mut of_gain, mut of_magnitude, mut of_bias) = (T::zero(), T::zero(), T::zero());
        for (g, (&z, &h)) in gradient.iter_mut().zip(column.z.iter().zip(column.h)) {
            let open = if h > T::zero() { *g } else { T::zero() };
            of_magnitude += open;
            of_gain += open * (z - bias) * gain;
            *g = open * gain;
            of_bias -= *g;
        }
        let pull = l1(column, gradient, true);
        Pull { per_feature: [of_gain, of_magnitude], b_enc: of_bias, ..pull }
    }

    fn auxiliary(&self, z: ArrayView2<T>, _: &[u32]) -> Option<Auxiliary<T>> {
        Some(Auxiliary {
            codes: Entries::by_values(z, |_, z| (z > T::zero()).then_some(z)),
            of_residual: false,
            decoder_learns: false,
            weight: 1.0,
        })
    }
}

use super::relu::l1;
use super::{Auxiliary, Begin, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::Parameters;
use ndarray::{Array1, ArrayView2, Zip};

/// h = [z > 0] · max((z − b_enc) · exp(r_mag) + b_mag, 0): whether a feature is on and how much are two things (Rajamanoharan et al. 2024a).
///
/// penalty = mean over rows of Σ_j max(z_j, 0) · ‖W_dec,j‖; and max(z, 0) must reconstruct the target, too: its squared error is added.
/// No gradient passes [z > 0]. The decoder learns from both reconstructions, as in SAELens; the paper keeps it constant in the second,
/// and does not weigh by norms, because its decoder rows are of norm 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gated;

impl Gated {
    /// Keeps the magnitudes what they are where b_enc has moved by `by`, because what it stands for has moved in z: they are made of z
    /// without b_enc.
    pub(crate) fn b_enc_moved(parameters: &mut Parameters, by: &Array1<f64>) {
        let [(r_mag, gains), (b_mag, magnitudes)] = parameters.per_feature.as_mut_slice() else { return };
        if (*r_mag, *b_mag) != ("r_mag", "b_mag") {
            return;
        }
        Zip::from(magnitudes).and(gains).and(by).for_each(|b, r, by| {
            *b = (f64::from(*b) + libm::exp(f64::from(*r)) * by) as f32;
        });
    }
}

impl Named for Gated {
    const NAME: &'static str = "gated";
    const OPTIONS: &'static [&'static str] = &["sparsityWeight"];
    const RECIPE: Recipe = Recipe { sparsity_weight: 7e-3, start: Begin::TiedBelow, ..Recipe::PLAIN };

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

    fn auxiliary(&self, z: ArrayView2<T>, _: &Tensors<T>, _: &[u32]) -> Option<Auxiliary<T>> {
        Some(Auxiliary {
            codes: T::above_zero(z),
            of_residual: false,
            weight: 1.0,
        })
    }
}

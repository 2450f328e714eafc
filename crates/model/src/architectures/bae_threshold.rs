use super::{Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::{Architecture, Estimator, Parameters};
use bae_codes::entropy::{smoothed, smoothed_derivative};
use ndarray::ArrayView2;

/// A Binary Autoencoder that learns a threshold for each feature: h = [z > θ_j]. The derivative of the step is replaced by that of
/// σ((z − θ_j) / T): σ′((z − θ_j) / T) / T for z and its negative for θ_j; from 8 T on it is 0.
///
/// The entropy penalty is the Binary Autoencoder's. What is saved is one, with θ taken from b_enc.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaeThreshold {
    /// T, in units of the pre-activation.
    pub temperature: f64,
}

impl Named for BaeThreshold {
    const NAME: &'static str = "bae-threshold";
    const OPTIONS: &'static [&'static str] = &["gradientWidth", "entropyWeight"];
    const RECIPE: Recipe = Recipe::QUANTISED;

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { temperature: settings.width()? })
    }

    fn applied(&self, parameters: &mut Parameters) -> Option<Architecture> {
        for (_, threshold) in std::mem::take(&mut parameters.per_feature) {
            parameters.b_enc -= &threshold;
        }
        Some(Architecture::binary(Estimator::Sigmoid { width: self.temperature }))
    }
}

impl<T: Real> Coding<T> for BaeThreshold {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        &[("threshold", 0.0)]
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, pass: Pass) -> Entries<T> {
        let window = Surrogate { temperature: self.temperature }.window();
        Entries::by_values(z, |feature, z| {
            let above = z - tensors.per_feature[0][feature];
            if above > T::zero() {
                Some(T::one())
            } else {
                (pass != Pass::Applied && -above < window).then_some(T::zero())
            }
        })
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        let threshold = column.tensors.per_feature[0][column.feature];
        let pull = Surrogate { temperature: self.temperature }.backward(column, threshold, gradient);
        let sum = gradient.iter().fold(T::zero(), |sum, &g| sum + g);
        Pull { per_feature: [-sum, T::zero()], ..pull }
    }
}

/// σ(u / T) in place of a bit's step, with the entropy penalty of bits.
pub(super) struct Surrogate {
    pub temperature: f64,
}

impl Surrogate {
    fn estimator(&self) -> Estimator {
        Estimator::Sigmoid { width: self.temperature }
    }

    /// The |u| from which on no gradient passes.
    pub fn window<T: Real>(&self) -> T {
        T::of(self.estimator().window().expect("it ends"))
    }

    /// [`Coding::backward`] for bits of u = z − `threshold`.
    pub fn backward<T: Real>(&self, column: &Column<T>, threshold: T, gradient: &mut [T]) -> Pull<T> {
        let p = column.h.iter().filter(|h| **h != T::zero()).count() as f64 / column.rows as f64;
        let pull = column.objective.entropy_weight * smoothed_derivative(p) / column.rows as f64;
        // the estimator is 1 at the threshold, the derivative 1 / (4 T)
        let scale = 1.0 / (4.0 * self.temperature);
        for (g, &z) in gradient.iter_mut().zip(column.z) {
            let upstream = scale * (g.wide() + pull);
            *g = T::of(self.estimator().backward(upstream, (z - threshold).wide()));
        }
        Pull { entropy_bits: Some(smoothed(p)), ..Pull::default() }
    }
}

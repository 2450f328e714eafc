use super::bae_threshold::Surrogate;
use super::{Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::{Architecture, Estimator, Parameters};
use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A Binary Autoencoder whose bits are drawn while it learns: h is 1 with probability σ(z / T), so h = [z + T · noise > 0] with logistic noise.
/// The derivative that goes back is that of the probability, σ′(z / T) / T; from 8 T on it is 0.
///
/// The entropy penalty is the Binary Autoencoder's, on the bits drawn. What is saved is one: h = [z > 0].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BaeStochastic {
    /// T, in units of the pre-activation.
    pub temperature: f64,
    /// Of the noise, which depends on it, the step, the row of the batch and the feature alone.
    pub seed: u64,
}

/// Keeps the sequences of steps apart from all others of the same seed.
const STREAM: u64 = 0xFF << 56;

impl BaeStochastic {
    /// Logistic noise of a row: ln(u / (1 − u)) with u even in (0, 1).
    fn noise(&self, step: u64, row: usize, features: usize) -> impl Iterator<Item = f64> + use<> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        random.set_stream(STREAM | step);
        random.set_word_pos(row as u128 * features as u128);
        std::iter::repeat_with(move || {
            let u = (f64::from(random.next_u32()) + 0.5) / 2f64.powi(32);
            libm::log(u / (1.0 - u))
        })
    }
}

impl Named for BaeStochastic {
    const NAME: &'static str = "bae-stochastic";
    const OPTIONS: &'static [&'static str] = &["gradientWidth", "entropyWeight"];
    const RECIPE: Recipe = Recipe::QUANTISED;

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { temperature: settings.width()?, seed: settings.seed })
    }

    fn applied(&self, _: &mut Parameters) -> Option<Architecture> {
        Some(Architecture::binary(Estimator::Sigmoid { width: self.temperature }))
    }
}

impl<T: Real> Coding<T> for BaeStochastic {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, pass: Pass) -> Entries<T> {
        let Pass::Step(step) = pass else {
            return Entries::by_values(z, |_, z| (z > T::zero()).then_some(T::one()));
        };
        let window: T = Surrogate { temperature: self.temperature }.window();
        let features = z.ncols();
        Entries::by_rows(z, |row, z, to| {
            for ((feature, &z), noise) in z.iter().enumerate().zip(self.noise(step, row, features)) {
                let on = z.wide() + self.temperature * noise > 0.0;
                if on || z.abs() < window {
                    to.push(feature, z, if on { T::one() } else { T::zero() });
                }
            }
        })
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        Surrogate { temperature: self.temperature }.backward(column, T::zero(), gradient)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn bits_are_on_as_often_as_their_probability_says() {
        let coding = BaeStochastic { temperature: 0.5, seed: 3 };
        let values = [-1.5f32, -0.3, 0.0, 0.4, 2.0];
        let z = Array2::from_shape_fn((4000, 5), |(_, feature)| values[feature]);
        let (b_enc, decoder) = ([0.0; 5], Array2::zeros((5, 1)));
        let encoder = Array2::zeros((5, 1));
        let tensors = Tensors { b_enc: &b_enc, per_feature: vec![], encoder: encoder.view(), decoder: decoder.view() };
        let codes = coding.encode(z.view(), &tensors, Pass::Step(9));
        for (feature, &z) in values.iter().enumerate() {
            let of = codes.features.iter().zip(&codes.h).filter(|(of, _)| **of as usize == feature);
            let share = of.map(|(_, h)| f64::from(*h)).sum::<f64>() / 4000.0;
            let p = 1.0 / (1.0 + f64::from(-z / 0.5).exp());
            // four standard deviations
            assert!((share - p).abs() < 4.0 * (p * (1.0 - p) / 4000.0).sqrt(), "{z}: {share}, expected {p}");
        }
        assert!(coding.encode(z.view(), &tensors, Pass::Step(9)) == codes);
        assert!(coding.encode(z.view(), &tensors, Pass::Step(10)) != codes);
        assert!(BaeStochastic { seed: 4, ..coding }.encode(z.view(), &tensors, Pass::Step(9)) != codes);
    }
}

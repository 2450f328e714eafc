use super::{Coding, Column, Entries, Kind, Named, Pass, Pull, Real, Recipe, Settings, Tensors, Threshold};
use crate::{Architecture, Parameters};
use ndarray::{ArrayView2, ArrayViewMut1};

/// h = z where z > θ_j, else 0, with the threshold learnt through a straight-through estimator (Rajamanoharan et al. 2024b).
///
/// penalty = mean over rows of the number of features that are on (L0). With K(u) = [|u| < ½], the estimators of the derivatives by θ
/// are −(θ/ε) K((z − θ)/ε) for the code and −(1/ε) K((z − θ)/ε) for the count. What is learnt is θ itself, as in SAELens (the paper
/// learns its logarithm), and a step that makes it negative leaves 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JumpRelu {
    /// ε, in units of the pre-activation.
    pub bandwidth: f64,
}

impl Named for JumpRelu {
    const NAME: &'static str = "jumprelu";
    const OPTIONS: &'static [&'static str] = &["sparsityWeight", "gradientWidth"];
    const RECIPE: Recipe = Recipe { gradient_width: Some(0.5), sparsity_weight: 1e-3, ..Recipe::PLAIN };

    fn with(settings: &Settings) -> Result<Self, String> {
        Ok(Self { bandwidth: settings.width()? })
    }

    fn applied(&self, _: &mut Parameters) -> Option<Architecture> {
        Some(Architecture::of(Kind::Threshold(Threshold)))
    }
}

impl<T: Real> Coding<T> for JumpRelu {
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        // about one feature in fifteen is on: a few hundred steps move thresholds too little to get there from 0
        &[("threshold", 1.5)]
    }

    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, pass: Pass) -> Entries<T> {
        let thresholds = tensors.per_feature[0];
        let half = T::of(self.bandwidth / 2.0);
        let learns = pass != Pass::Applied;
        Entries::by_values(z, |feature, z| {
            let threshold = thresholds[feature];
            if z > threshold {
                Some(z)
            } else {
                (learns && (z - threshold).abs() < half).then_some(T::zero())
            }
        })
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        let threshold = column.tensors.per_feature[0][column.feature];
        let (weight, bandwidth) = (column.sparsity_weight(), T::of(self.bandwidth));
        let half = bandwidth / T::of(2.0);
        let (mut of_threshold, mut on) = (T::zero(), 0u32);
        for (g, &z) in gradient.iter_mut().zip(column.z) {
            if (z - threshold).abs() < half {
                of_threshold -= (threshold * *g + weight) / bandwidth;
            }
            if z > threshold {
                on += 1;
            } else {
                *g = T::zero();
            }
        }
        Pull {
            per_feature: [of_threshold, T::zero()],
            penalty: f64::from(on) / column.rows as f64,
            ..Pull::default()
        }
    }

    fn after_step(&self, _: &Entries<T>, tensors: &mut [ArrayViewMut1<T>]) {
        tensors[0].mapv_inplace(|threshold| threshold.max(T::zero()));
    }
}

use super::{Begin, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use ndarray::ArrayView2;

/// h = max(z, 0), with an L1 penalty: the first sparse autoencoders (Bricken et al. 2023; Cunningham et al. 2023).
///
/// penalty = mean over rows of Σ_j h_j · ‖W_dec,j‖ (Conerly et al. 2024): without the norm, codes shrink and the decoder grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relu {
    /// Whether the penalty weighs a feature by its decoder row's norm; the published code of the Binary Autoencoder does not.
    pub by_norm: bool,
}

impl Named for Relu {
    const NAME: &'static str = "relu";
    const OPTIONS: &'static [&'static str] = &["sparsityWeight"];
    const RECIPE: Recipe = Recipe { sparsity_weight: 3e-3, start: Begin::TiedBelow, ..Recipe::PLAIN };

    fn with(_: &Settings) -> Result<Self, String> {
        Ok(Self { by_norm: true })
    }
}

impl<T: Real> Coding<T> for Relu {
    fn encode(&self, z: ArrayView2<T>, _: &Tensors<T>, _: Pass) -> Entries<T> {
        T::above_zero(z)
    }

    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T> {
        l1(column, gradient, self.by_norm)
    }
}

/// The L1 penalty on the pre-activations of a column, all of them above 0.
pub(super) fn l1<T: Real>(column: &Column<T>, gradient: &mut [T], by_norm: bool) -> Pull<T> {
    let weight = column.sparsity_weight();
    let norm = if by_norm { column.norm } else { T::one() };
    gradient.iter_mut().for_each(|g| *g += weight * norm);
    let sum: f64 = column.z.iter().map(|z| z.wide()).sum();
    Pull {
        norm: if by_norm { weight * T::of(sum) } else { T::zero() },
        penalty: sum * norm.wide() / column.rows as f64,
        ..Pull::default()
    }
}

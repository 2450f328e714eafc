//! Architectures whose codes are no bits: the peers that a Binary Autoencoder is compared with, and its relatives with more than
//! two values.
//!
//! Each is one file that implements [`Coding`]; a new one is such a file and its line in the list below. Encoder, decoder, loss,
//! optimiser, data, checkpoints and the command line are shared.

mod entries;
mod levels;
mod real;
mod settings;

pub use entries::{Entries, Row};
pub use real::Real;
pub use settings::{Begin, Named, Recipe, Settings};

use crate::{Architecture, ModelError, Objective, Parameters};
use ndarray::{ArrayView2, ArrayViewMut1};
use rand_chacha::ChaCha8Rng;
use std::fmt::Debug;
use std::ops::RangeInclusive;

/// How pre-activations become codes, and how gradients go back: all that architectures differ in.
///
/// Everything is in the number type of who asks: f32 in the engine, f64 in the reference.
pub trait Coding<T: Real>: Debug + Send + Sync {
    /// Tensors beside encoder and decoder, `[d_sae]` each: their names, and the values they start at. They are learnt where
    /// [`Coding::backward`] gives a gradient.
    fn per_feature(&self) -> &'static [(&'static str, f32)] {
        &[]
    }

    /// Codes of a batch: for each row the features that are not 0, and those that a gradient could open.
    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, pass: Pass) -> Entries<T>;

    /// What arrives at one feature's codes becomes what its pre-activations get, in place; the penalty's pull is added.
    fn backward(&self, column: &Column<T>, gradient: &mut [T]) -> Pull<T>;

    /// A second reconstruction that is learnt beside the first. `idle`: steps since each feature was last on, `[d_sae]`.
    fn auxiliary(&self, _z: ArrayView2<T>, _tensors: &Tensors<T>, _idle: &[u32]) -> Option<Auxiliary<T>> {
        None
    }

    /// Features after which a nested reconstruction ends, ascending up to d_sae: the loss has the squared error of each.
    fn prefixes(&self, d_sae: usize) -> Vec<usize> {
        vec![d_sae]
    }

    /// Keeps up what is no gradient's business, after a step: `tensors` are those of [`Coding::per_feature`].
    fn after_step(&self, _codes: &Entries<T>, _tensors: &mut [ArrayViewMut1<T>]) {}
}

/// Why codes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// To learn from: step of the training, from 0.
    Step(u64),
    /// To be used.
    Applied,
}

/// What an architecture may look at beside the pre-activations.
#[derive(Debug)]
pub struct Tensors<'a, T> {
    /// Encoder bias, `[d_sae]`, which the pre-activations hold already.
    pub b_enc: &'a [T],
    /// In the order of [`Coding::per_feature`], `[d_sae]` each.
    pub per_feature: Vec<&'a [T]>,
    /// Encoder, a row for each feature, `[d_sae, d_in]`. Not there (`[0, 0]`) in [`Coding::backward`].
    pub encoder: ArrayView2<'a, T>,
    /// Decoder, `[d_sae, d_out]`. Not there (`[0, 0]`) in [`Coding::backward`].
    pub decoder: ArrayView2<'a, T>,
}

/// One feature over a batch: the rows that have an entry for it.
#[derive(Debug)]
pub struct Column<'a, 'b, T> {
    /// Which feature.
    pub feature: usize,
    /// Its pre-activations in these rows.
    pub z: &'a [T],
    /// Its codes in these rows.
    pub h: &'a [T],
    /// Rows of the whole batch.
    pub rows: usize,
    /// Euclidean norm of its decoder row.
    pub norm: T,
    /// The parameters, without the decoder.
    pub tensors: &'a Tensors<'b, T>,
    /// Weights of the penalties.
    pub objective: &'a Objective,
}

impl<T: Real> Column<'_, '_, T> {
    /// Weight of the sparsity penalty for one row: the penalty is a mean over rows.
    pub fn sparsity_weight(&self) -> T {
        T::of(self.objective.sparsity_weight / self.rows as f64)
    }
}

/// What a feature's backward pass leaves beside the gradient of its pre-activations.
#[derive(Clone, Copy, Debug)]
pub struct Pull<T> {
    /// Gradient of [`Coding::per_feature`]'s tensors at this feature, in that order.
    pub per_feature: [T; 2],
    /// To be added to the encoder bias's gradient, which is the sum over the pre-activations'.
    pub b_enc: T,
    /// Gradient by the norm of the decoder row.
    pub norm: T,
    /// This feature's share of the sparsity penalty, before its weight.
    pub penalty: f64,
    /// Entropy of its values over the batch in bits; that of active or not where there is none.
    pub entropy_bits: Option<f64>,
}

impl<T: Real> Default for Pull<T> {
    fn default() -> Self {
        let zero = T::zero();
        Self { per_feature: [zero; 2], b_enc: zero, norm: zero, penalty: 0.0, entropy_bits: None }
    }
}

/// A reconstruction beside the main one, from pre-activations themselves.
#[derive(Debug)]
pub struct Auxiliary<T> {
    /// The pre-activations that it is made of: h = z.
    pub codes: Entries<T>,
    /// Whether it is to give what the main one leaves over (a constant to it) and goes without b_dec, or the target itself.
    pub of_residual: bool,
    /// Weight of its mean squared error.
    pub weight: f64,
}

/// Lists the architectures: a module and the type in it.
macro_rules! architectures {
    ($($module:ident :: $Type:ident),* $(,)?) => {
        $(mod $module;)*
        $(pub use $module::$Type;)*

        /// An architecture whose codes are no bits, with its settings.
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[allow(missing_docs, reason = "each type says it")]
        pub enum Kind {
            $($Type($Type)),*
        }

        impl Kind {
            /// What it does.
            pub fn coding<T: Real>(&self) -> &dyn Coding<T> {
                match self {
                    $(Kind::$Type(coding) => coding),*
                }
            }

            /// Names of all that can be trained, with the training options that are theirs.
            pub fn names() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
                let all = [$((<$Type as Named>::NAME, <$Type as Named>::OPTIONS)),*];
                all.into_iter().filter(|(name, _)| *name != Threshold::NAME)
            }

            /// The architecture of this name; `None` if there is none.
            ///
            /// # Errors
            /// What is wrong with a setting.
            pub fn named(name: &str, settings: Settings) -> Option<Result<Self, String>> {
                $(if name == <$Type as Named>::NAME {
                    let recipe = <$Type as Named>::RECIPE;
                    let settings = Settings {
                        k: settings.k.or(recipe.k_of(settings.d_sae)),
                        bits: settings.bits.or(recipe.bits),
                        gradient_width: settings.gradient_width.or(recipe.gradient_width),
                        ..settings
                    };
                    return Some(<$Type as Named>::with(&settings).map(Kind::$Type));
                })*
                None
            }

            /// How it is trained unless told otherwise.
            pub fn recipe(&self) -> Recipe {
                match self {
                    $(Kind::$Type(_) => <$Type as Named>::RECIPE),*
                }
            }

            /// [`Named::levels`].
            pub fn levels(&self) -> Option<RangeInclusive<i32>> {
                match self {
                    $(Kind::$Type(named) => named.levels()),*
                }
            }

            /// [`Named::fit`]: parameters found at once, on rows of the training space; `None` for what is trained by steps.
            ///
            /// # Errors
            /// As there.
            pub fn fit(
                &self,
                rows: ArrayView2<f32>,
                d_sae: usize,
                random: &mut ChaCha8Rng,
                going_on: &dyn Fn(f64) -> bool,
            ) -> Option<Result<Parameters, ModelError>> {
                match self {
                    $(Kind::$Type(named) => named.fit(rows, d_sae, random, going_on)),*
                }
            }

            /// The model that is saved and applied once one with these parameters is trained.
            pub fn applied(self, mut parameters: Parameters) -> (Architecture, Parameters) {
                let becomes = match self {
                    $(Kind::$Type(named) => named.applied(&mut parameters)),*
                };
                (becomes.unwrap_or_else(|| Architecture::of(self)), parameters)
            }
        }
    };
}

architectures! {
    gated::Gated,
    jumprelu::JumpRelu,
    matryoshka::Matryoshka,
    relu::Relu,
    threshold::Threshold,
    topk::TopK,
    batchtopk::BatchTopK,
    ternary::Ternary,
    kbit::KBit,
    bae_threshold::BaeThreshold,
    bae_stochastic::BaeStochastic,
    pca::Pca,
    snmf::Snmf,
}

pub use topk::Revival;

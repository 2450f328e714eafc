use crate::{Architecture, ModelError, Parameters};
use ndarray::ArrayView2;
use rand_chacha::ChaCha8Rng;
use std::ops::RangeInclusive;

/// What an architecture can be asked for, beside its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Features there are.
    pub d_sae: usize,
    /// Features that are on in a row.
    pub k: Option<usize>,
    /// Bits of a feature's code.
    pub bits: Option<u32>,
    /// Width of the estimator that stands for a step's derivative, in units of the pre-activation.
    pub gradient_width: Option<f64>,
    /// A feature is dead that has not been on for more than so many steps.
    pub dead_after: u32,
    /// Seed of what is random in a step.
    pub seed: u64,
}

impl Settings {
    /// `k`, which the recipe gives where the user did not.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn k(&self) -> Result<usize, String> {
        match self.k {
            Some(k) if k > 0 && k <= self.d_sae => Ok(k),
            k => Err(format!("k is {}: it must be from 1 to dSae, here {}", k.unwrap_or(0), self.d_sae)),
        }
    }

    /// `gradient_width`, likewise.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn width(&self) -> Result<f64, String> {
        match self.gradient_width {
            Some(width) if width > 0.0 && width.is_finite() => Ok(width),
            width => Err(format!("gradientWidth is {}: it must be above 0", width.unwrap_or_default())),
        }
    }
}

/// How an architecture is asked for, and trained unless told otherwise.
pub trait Named: Sized {
    /// Its name in JSON and on the command line.
    const NAME: &'static str;
    /// Training options, by their names in JSON, that not all architectures have and this one does.
    const OPTIONS: &'static [&'static str] = &[];
    /// Recipe.
    const RECIPE: Recipe;

    /// With these settings.
    ///
    /// # Errors
    /// What is wrong with one of them, and what it may be.
    fn with(settings: &Settings) -> Result<Self, String>;

    /// Lowest and highest code where codes are whole numbers, halfway between which their thresholds lie: 0 to a number above it, or
    /// −1 to 1. `None` for all others.
    fn levels(&self) -> Option<RangeInclusive<i32>> {
        None
    }

    /// What a trained model becomes where it is saved and applied: its parameters are changed, its new architecture is returned.
    /// `None` where it stays what it is.
    fn applied(&self, _parameters: &mut Parameters) -> Option<Architecture> {
        None
    }

    /// The model of `rows` `[n, d_in]`, where it is found at once and not by steps; `None` elsewhere. `going_on` gets the share that is
    /// done and says whether to go on. Runs on the current rayon pool; the same bits on any number of threads.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] where these rows have no such model; [`ModelError::TooLarge`]; [`ModelError::Cancelled`].
    fn fit(
        &self,
        _rows: ArrayView2<f32>,
        _d_sae: usize,
        _random: &mut ChaCha8Rng,
        _going_on: &dyn Fn(f64) -> bool,
    ) -> Option<Result<Parameters, ModelError>> {
        None
    }
}

/// What training takes unless told otherwise: docs/architectures.md has the trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recipe {
    /// Features that are on in a row, where that is fixed.
    pub k: Option<usize>,
    /// Bits of a feature's code, where they can be chosen.
    pub bits: Option<u32>,
    /// Width of the estimator of a step's gradient, where there is one.
    pub gradient_width: Option<f64>,
    /// Adam's learning rate at its highest.
    pub learning_rate: f64,
    /// Weight of the sparsity penalty, in units of squared error of the training space.
    pub sparsity_weight: f64,
    /// Weight of Σ_j H(feature j), in units of squared error a bit.
    pub entropy_weight: f64,
    /// What it starts from.
    pub start: Begin,
}

/// What training starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Random directions: the encoder is the decoder turned round.
    Tied,
    /// The same, with biases of minus twice what pre-activations of ordinary rows vary by: about one feature in fifty is on. A few
    /// hundred steps move biases too little to get there from 0.
    TiedBelow,
    /// A quantiser ([`crate::initial::Quantiser`]): of bits, or of the levels that a feature's code has.
    Quantiser,
    /// What [`super::Kind::fit`] finds; no step follows.
    Fitted,
}

impl Recipe {
    /// Of a sparse autoencoder without settings and penalties.
    pub const PLAIN: Self = Self {
        k: None,
        bits: None,
        gradient_width: None,
        learning_rate: 2e-3,
        sparsity_weight: 0.0,
        entropy_weight: 0.0,
        start: Begin::Tied,
    };

    /// Of the Binary Autoencoder's relatives: its own.
    pub const QUANTISED: Self = Self {
        gradient_width: Some(0.25),
        learning_rate: 2e-4,
        entropy_weight: 6e-4,
        start: Begin::Quantiser,
        ..Self::PLAIN
    };

    /// [`Recipe::k`], or all of `d_sae` features where there are not as many.
    pub fn k_of(&self, d_sae: usize) -> Option<usize> {
        self.k.map(|k| k.min(d_sae))
    }
}

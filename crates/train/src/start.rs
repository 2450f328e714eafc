//! What training starts from: what is done to the rows, and the first parameters.

use crate::memory::{READ_ONCE, Shares};
use crate::options::{Normalize, Preset};
use crate::spaces::Spaces;
use crate::{Plan, TrainError};
use bae_data::{Dataset, Feed, Order, Purpose, RowMoments, RowSet, generator};
use bae_model::architectures::Begin;
use bae_model::initial::{self, Prediction, Quantiser, Typical};
use bae_model::{Normalisation, Parameters, layer_norm};
use ndarray::{Array1, Array2, ArrayView2};
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicBool, Ordering};

/// What training starts from.
pub(crate) struct Start {
    /// The maps into the training space.
    pub spaces: Spaces,
    /// Parameters there.
    pub parameters: Parameters,
    /// Standard deviation of the noise that the encoder's input gets at each step, in the training space.
    pub noise: f32,
}

/// Input noise of the default recipe, in quantiser steps: it keeps rows from being learnt by heart.
const NOISE: f64 = 0.16;
/// That of architectures that start from random directions, in root mean squares of an ordinary row (docs/architectures.md).
const TIED_NOISE: f64 = 0.5;
/// Bias that random directions may start with, likewise.
const BELOW: f32 = -2.0;

impl Start {
    /// Measures a sample of the training rows and draws the first parameters. Takes the [`moments`] of all of them. Runs on
    /// the engine's threads.
    pub fn new(
        plan: &Plan,
        moments: Option<&Moments>,
        feed: &Feed,
        cancel: &AtomicBool,
    ) -> Result<Self, TrainError> {
        let (d_in, d_out) = (feed.d_in(), feed.d_out());
        let mut random = generator(plan.seed, Purpose::Start, 0);
        let published = plan.preset == Preset::Reference;
        let (of_input, of_target) = (moments.map(|of| &of.input), moments.and_then(|of| of.target.as_ref()));
        if published && plan.normalize != Normalize::Default {
            let target = feed.has_target().then(|| exact(plan.normalize, of_target, d_out));
            let spaces = Spaces { input: exact(plan.normalize, of_input, d_in), target };
            let parameters = initial::published(&mut random, d_in, plan.d_sae, d_out);
            return Ok(Self { spaces, parameters, noise: 0.0 });
        }
        let (mut rows, targets) = feed.apart(feed.sample(Shares::new(plan.memory, feed.width()).sample)?);
        if plan.normalize == Normalize::LayerNorm {
            layer_norm(rows.view_mut());
        }
        let input = Side::measure(plan.normalize, of_input, rows);
        let target = targets.map(|targets| Side::measure(plan.normalize, of_target, targets));
        let spaces = Spaces {
            input: input.normalisation.clone(),
            target: target.as_ref().map(|target| target.normalisation.clone()),
        };
        if published {
            let parameters = initial::published(&mut random, d_in, plan.d_sae, d_out);
            return Ok(Self { spaces, parameters, noise: 0.0 });
        }
        let Some(target) = target else {
            let Drawn { parameters, noise, .. } =
                draw(plan, input.rows.view(), input.size, &mut random, cancel)?;
            return Ok(Self { spaces, parameters: input.centring.fold(&parameters), noise: noise as f32 });
        };
        let both = (input.rows.view(), target.rows.view());
        let prediction = Prediction::fit(both, (input.size, target.size), &mut random, cancel)?;
        let predicted = prediction.of(input.rows.view());
        let size = Typical::measure(predicted.view()).rms;
        let Drawn { parameters, noise_of_z, .. } = draw(plan, predicted.view(), size, &mut random, cancel)?;
        let parameters = prediction.before(parameters);
        let noise = (noise_of_z / gain(&parameters)) as f32;
        Ok(Self { spaces, parameters: input.centring.fold_to(&target.centring, &parameters), noise })
    }
}

/// A sample of hidden states, or of targets, as training starts from it.
struct Side {
    /// The map into the training space.
    normalisation: Normalisation,
    /// The map from there to where the ordinary rows' mean is 0.
    centring: Normalisation,
    /// The sample there, `[n, d]`.
    rows: Array2<f32>,
    /// Root mean square of an ordinary row there, over dimensions.
    size: f32,
}

impl Side {
    fn measure(normalize: Normalize, moments: Option<&RowMoments>, mut rows: Array2<f32>) -> Self {
        let d = rows.ncols();
        let mut normalisation = exact(normalize, moments, d);
        normalisation.apply(rows.view_mut());
        let Typical { centre, rms } = Typical::measure(rows.view());
        if normalize == Normalize::Default {
            normalisation = Normalisation { centre, scale: Array1::from_elem(d, rms) };
            normalisation.apply(rows.view_mut());
            // the space is centred already
            return Self { normalisation, centring: Normalisation::none(d), rows, size: 1.0 };
        }
        let centring = Normalisation { centre, scale: Array1::ones(d) };
        centring.apply(rows.view_mut());
        Self { normalisation, centring, rows, size: rms }
    }
}

/// A first autoencoder.
struct Drawn {
    parameters: Parameters,
    /// Standard deviation of the noise that is to be on its rows ...
    noise: f64,
    /// ... and of that on its pre-activations, which this is to come to.
    noise_of_z: f64,
}

/// Draws an autoencoder of `rows`, whose ordinary ones have mean 0 and the root mean square `size`.
fn draw(
    plan: &Plan,
    rows: ArrayView2<f32>,
    size: f32,
    random: &mut ChaCha8Rng,
    cancel: &AtomicBool,
) -> Result<Drawn, TrainError> {
    let Plan { entropy_weight, d_sae, .. } = *plan;
    let begin = plan.kind.map_or(Begin::Quantiser, |kind| kind.recipe().start);
    if let (Some(kind), Begin::Fitted) = (plan.kind, begin) {
        let going_on = |_| !cancel.load(Ordering::Relaxed);
        let fitted = kind.fit(rows, d_sae, random, &going_on);
        let parameters = fitted.expect("what is fitted has a fit")?;
        return Ok(Drawn { parameters, noise: 0.0, noise_of_z: 0.0 });
    }
    if let (Some(kind), Begin::Tied | Begin::TiedBelow) = (plan.kind, begin) {
        let mut parameters = initial::tied(random, rows.ncols(), d_sae);
        if begin == Begin::TiedBelow {
            parameters.b_enc.fill(BELOW * size);
        }
        parameters.add_per_feature(kind);
        // the columns of the encoder are of norm 1
        let noise = TIED_NOISE * f64::from(size);
        return Ok(Drawn { parameters, noise, noise_of_z: noise });
    }
    let quantiser = Quantiser { rows, typical: size, entropy_weight, d_sae, kind: plan.kind };
    let (mut parameters, step) = quantiser.draw(random, cancel)?;
    if let Some(kind) = plan.kind {
        parameters.add_per_feature(kind);
    }
    Ok(Drawn { parameters, noise: NOISE * step, noise_of_z: NOISE })
}

/// By how much noise of the input is larger in the pre-activations: the root mean square norm of the encoder's columns, of features
/// that are ever on.
fn gain(parameters: &Parameters) -> f64 {
    let squares = parameters
        .w_enc
        .columns()
        .into_iter()
        .map(|w| w.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>());
    let (sum, count) = squares
        .filter(|&square| square > 0.0)
        .fold((0.0, 0.0), |(sum, count), square| (sum + square, count + 1.0));
    if count > 0.0 { (sum / count).sqrt() } else { f64::INFINITY }
}

/// The normalisations that follow from sums over all rows.
fn exact(normalize: Normalize, moments: Option<&RowMoments>, d_in: usize) -> Normalisation {
    // what does not vary has no size; any scale serves
    let above_zero = |scale: f64| if scale > 0.0 { (scale as f32).max(f32::MIN_POSITIVE) } else { 1.0 };
    match (normalize, moments) {
        (Normalize::MeanNorm, Some(moments)) => {
            let scale = above_zero(moments.mean_norm() / (d_in as f64).sqrt());
            Normalisation { scale: Array1::from_elem(d_in, scale), ..Normalisation::none(d_in) }
        }
        (Normalize::Standardize, Some(moments)) => Normalisation {
            centre: moments.mean().mapv(|mean| mean as f32),
            scale: moments.variance().mapv(|variance| above_zero(variance.sqrt())),
        },
        _ => Normalisation::none(d_in),
    }
}

/// Sums over all training rows.
pub(crate) struct Moments {
    /// Of hidden states.
    input: RowMoments,
    /// Of targets, where there are some.
    target: Option<RowMoments>,
}

/// One pass over all training rows, if `plan` needs it. `progress` gets the rows done and says whether to go on.
///
/// # Errors
/// Those of reading; [`TrainError::Cancelled`] if `progress` says stop.
pub(crate) fn moments(
    plan: &Plan,
    data: &Dataset,
    training: &RowSet,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<Moments>, TrainError> {
    const CHUNK: usize = 2048;
    if !matches!(plan.normalize, Normalize::MeanNorm | Normalize::Standardize) {
        return Ok(None);
    }
    let mut input = RowMoments::new(data.d_in());
    let mut target = data.has_target().then(|| RowMoments::new(data.d_out()));
    let memory = Shares::new(plan.memory, data.width()).measuring.min(READ_ONCE);
    let feed = Feed::new(data, training, Order::Stored, memory);
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, CHUNK, 0);
        while let Some(rows) = batches.next() {
            let (x, targets) = feed.apart(rows?);
            input.add(x.view());
            if let (Some(sums), Some(targets)) = (&mut target, targets) {
                sums.add(targets.view());
            }
            if !progress(input.rows() as usize) {
                return Err(TrainError::Cancelled);
            }
        }
        Ok(Some(Moments { input, target }))
    })
}

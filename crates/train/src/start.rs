//! What training starts from: what is done to the rows, and the first parameters.

use crate::memory::{READ_ONCE, Shares};
use crate::options::{Normalize, Preset};
use crate::{Plan, TrainError};
use bae_data::{Dataset, Feed, Order, Purpose, RowMoments, RowSet, generator};
use bae_model::architectures::Begin;
use bae_model::initial::{self, Quantiser, Typical};
use bae_model::{Normalisation, Parameters, layer_norm};
use ndarray::Array1;
use std::sync::atomic::AtomicBool;

/// What training starts from.
pub(crate) struct Start {
    /// The map into the training space.
    pub normalisation: Normalisation,
    /// Parameters there.
    pub parameters: Parameters,
    /// Standard deviation of the noise that the encoder's input gets at each step, in the training space.
    pub noise: f32,
}

/// Input noise of the default recipe, in quantiser steps: it keeps rows from being learnt by heart.
const NOISE: f64 = 0.16;

impl Start {
    /// Measures a sample of the training rows and draws the first parameters. Takes the [`moments`] of all of them. Runs on
    /// the engine's threads.
    pub fn new(
        plan: &Plan,
        moments: Option<&RowMoments>,
        feed: &Feed,
        cancel: &AtomicBool,
    ) -> Result<Self, TrainError> {
        let d_in = feed.d_in();
        let mut random = generator(plan.seed, Purpose::Start, 0);
        let published = plan.preset == Preset::Reference;
        if published && plan.normalize != Normalize::Default {
            let normalisation = exact(plan.normalize, moments, d_in);
            let parameters = initial::published(&mut random, d_in, plan.d_sae);
            return Ok(Self { normalisation, parameters, noise: 0.0 });
        }
        let mut rows = feed.sample(Shares::new(plan.memory, d_in).sample)?;
        if plan.normalize == Normalize::LayerNorm {
            layer_norm(rows.view_mut());
        }
        let mut normalisation = exact(plan.normalize, moments, d_in);
        normalisation.apply(rows.view_mut());
        let Typical { centre, rms } = Typical::measure(rows.view());
        let typical = if plan.normalize == Normalize::Default {
            normalisation = Normalisation { centre, scale: Array1::from_elem(d_in, rms) };
            normalisation.apply(rows.view_mut());
            // the space is centred already
            Normalisation::none(d_in)
        } else {
            let typical = Normalisation { centre, scale: Array1::ones(d_in) };
            typical.apply(rows.view_mut());
            typical
        };
        if published {
            let parameters = initial::published(&mut random, d_in, plan.d_sae);
            return Ok(Self { normalisation, parameters, noise: 0.0 });
        }
        let Plan { entropy_weight, d_sae, .. } = *plan;
        let begin = plan.kind.map_or(Begin::Bits, |kind| kind.recipe().start);
        if let (Some(kind), Begin::Tied) = (plan.kind, begin) {
            let mut parameters = initial::tied(&mut random, d_in, d_sae);
            parameters.add_per_feature(kind);
            return Ok(Self { normalisation, parameters: typical.fold(&parameters), noise: 0.0 });
        }
        let size = if plan.normalize == Normalize::Default { 1.0 } else { rms };
        let quantiser = Quantiser { rows: rows.view(), typical: size, entropy_weight, d_sae };
        let (parameters, step) = quantiser.draw(&mut random, cancel)?;
        Ok(Self { normalisation, parameters: typical.fold(&parameters), noise: (NOISE * step) as f32 })
    }
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

/// One pass over all training rows, if `plan` needs it. `progress` gets the rows done and says whether to go on.
///
/// # Errors
/// Those of reading; [`TrainError::Cancelled`] if `progress` says stop.
pub(crate) fn moments(
    plan: &Plan,
    data: &Dataset,
    training: &RowSet,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Option<RowMoments>, TrainError> {
    const CHUNK: usize = 2048;
    if !matches!(plan.normalize, Normalize::MeanNorm | Normalize::Standardize) {
        return Ok(None);
    }
    let mut moments = RowMoments::new(data.d_in());
    let memory = Shares::new(plan.memory, data.d_in()).measuring.min(READ_ONCE);
    let feed = Feed::new(data, training, Order::Stored, memory);
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, CHUNK, 0);
        while let Some(rows) = batches.next() {
            moments.add(rows?.view());
            if !progress(moments.rows() as usize) {
                return Err(TrainError::Cancelled);
            }
        }
        Ok(Some(moments))
    })
}

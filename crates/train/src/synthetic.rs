//! The synthetic benchmark: trains on hidden states whose entropy is known, and says how near the code comes.

use crate::evaluate::{Applied, encode_chunks};
use crate::{
    Engine, Event, Normalize, Outcome, READ_ONCE, Stopped, Summary, TrainError, TrainOptions, train,
};
use bae_codes::{
    Agreement, BitMatrix, CodeStatistics, Counting, Joint, Sparsity, Statistics, Subset, agreements,
    best_matching, joint,
};
use bae_data::{
    Dataset, Feed, MemorySource, Order, RowMoments, RowSet, Synthetic, SyntheticKind, SyntheticStates,
};
use bae_model::Parameters;
use ndarray::{Array2, ArrayView1};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};

/// What hidden states are drawn, and how a model is trained on them.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SyntheticOptions {
    /// How the bits depend on one another.
    pub kind: SyntheticKind,
    /// Bits, and directions that they switch.
    pub rank: usize,
    /// Width of a hidden state.
    pub d_in: usize,
    /// Hidden states.
    pub rows: usize,
    /// Standard deviation of the noise on each value; directions have length 1.
    pub noise: f64,
    /// How the directions lie.
    pub directions: Directions,
    /// The training. Its seed is that of the hidden states too.
    pub training: TrainOptions,
}

/// How directions lie.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// At right angles.
    #[default]
    Orthogonal,
    /// At random, each for itself.
    Random,
}

impl Default for SyntheticOptions {
    fn default() -> Self {
        Self {
            kind: SyntheticKind::Independent,
            rank: 4,
            d_in: 64,
            rows: 5120,
            noise: 0.0,
            directions: Directions::Orthogonal,
            training: TrainOptions::default(),
        }
    }
}

/// How near a code comes to what is known. Entropies in bits a row, over all rows.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyntheticReport {
    /// Joint entropy of the bits that made the hidden states, in closed form.
    pub true_bits: f64,
    /// Σ_j H of those bits, each by itself, in closed form.
    pub true_marginal_bits: f64,
    /// What was counted on the codes; `entropyBits` is Σ_j H(p_j).
    #[serde(flatten)]
    pub codes: Sparsity,
    /// Features that are on in some rows but not in all.
    pub live_features: usize,
    /// Joint entropy of the codes, estimated: by NSB where at most 20 features are live; else by Chao and Shen's estimator where codes repeat
    /// often enough, and by the held-out tree where they do not.
    pub joint_bits: Option<f64>,
    /// Bounds of it, by the tree and by collisions.
    pub joint: Option<Joint>,
    /// Estimates of it from how often each code occurs.
    pub patterns: Patterns,
    /// The same of the bits that made the hidden states: what the best code has on these very rows.
    pub plug_in_true_bits: f64,
    /// Share of the variance that the code leaves, on the held-out rows (on all, where none are held out).
    pub fvu: f64,
    /// Share of the variance that is noise: what no code of the bits explains.
    pub noise_fraction: f64,
    /// Which features are which bits.
    pub recovery: Recovery,
    /// How the training went.
    pub training: Summary,
}

/// Which features are which bits, by two one-to-one matchings: of directions by |cosine|, of bits by |φ|.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// Mean |cosine| of the directions with their features' decoders; directions without a feature count as 0.
    pub cosine: f64,
    /// Mean F1 of the bits with their features', those turned around that say the opposite; bits without a feature count as 0.
    pub f1: f64,
    /// Mean Matthews correlation of the same, which is |φ|.
    pub mcc: f64,
    /// Each bit with its feature.
    pub bits: Vec<RecoveredBit>,
}

/// A bit and the feature that says it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveredBit {
    /// From 0.
    pub bit: usize,
    /// The feature matched by bits.
    pub feature: usize,
    /// φ of the two; below 0 where the feature says the opposite.
    pub phi: f64,
    /// F1, the feature turned around if it says the opposite.
    pub f1: f64,
    /// |cosine| of the bit's direction with that feature's decoder.
    pub cosine: f64,
}

/// Draws hidden states, trains on them, and compares. `on_event` hears of the training.
///
/// # Errors
/// [`TrainError`]; [`TrainError::Cancelled`] if `cancel` was raised.
pub fn synthetic(
    options: &SyntheticOptions,
    cancel: &AtomicBool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<SyntheticReport, TrainError> {
    let &SyntheticOptions { kind, rank, d_in, rows, noise, directions, ref training } = options;
    let orthogonal = directions == Directions::Orthogonal;
    let SyntheticStates { states, bits, directions } =
        Synthetic { kind, rank, d_in, rows, noise, orthogonal, seed: training.seed }.draw()?;
    let noise_fraction = noise_fraction(&states, &bits, &directions);
    let values = states.into_raw_vec_and_offset().0;
    let data = Dataset::new(vec![Box::new(MemorySource::new("synthetic", values, d_in)?)])?;
    let Outcome { model, architecture, summary, stopped, plan, .. } =
        train(&data, training, cancel, on_event)?;
    match stopped {
        Some(Stopped::Cancelled) => return Err(TrainError::Cancelled),
        Some(Stopped::Failed(error)) => return Err(error),
        None => {}
    }
    let engine = Engine::choose(&training.device, training.threads, plan.task((d_in, d_in), rows))?;
    let applied = Applied {
        backend: engine.applied(&architecture, &model)?,
        architecture,
        layer_norm: plan.normalize == Normalize::LayerNorm,
    };
    let every = RowSet::all(rows);
    let feed = Feed::new(&data, &every, Order::Stored, READ_ONCE);
    let mut codes = BitMatrix::zeros(0, plan.d_sae);
    encode_chunks(&applied, &feed, |_, _, chunk| {
        codes.append(&chunk).expect("codes of one model");
        Ok(!cancel.load(Ordering::Relaxed))
    })?;
    let mut statistics = Statistics::new(plan.d_sae);
    statistics.add(&codes).expect("codes of one model");
    let live: Vec<usize> = (0..plan.d_sae)
        .filter(|&feature| statistics.ones()[feature] > 0 && statistics.ones()[feature] < statistics.rows())
        .collect();
    let joint_of_live = bounds(&codes, &live)?;
    let patterns = Patterns::of(&codes, live.len());
    let tree = joint_of_live.as_ref().map(|joint| joint.tree.bits);
    Ok(SyntheticReport {
        true_bits: kind.joint_bits(rank),
        true_marginal_bits: kind.marginal_bits(rank),
        codes: Sparsity::from(&statistics),
        live_features: live.len(),
        joint_bits: patterns.best(codes.rows()).or(tree),
        joint: joint_of_live,
        patterns,
        plug_in_true_bits: joint::plug_in(&bits.occurrences()),
        fvu: summary.validation.as_ref().map_or_else(
            || summary.train.as_ref().map_or(f64::NAN, |train| 1.0 - train.explained_variance),
            |validation| validation.fvu,
        ),
        noise_fraction,
        recovery: Recovery::of(&bits, &directions, &codes, &model),
        training: summary,
    })
}

/// How often codes occur, and what that says about their joint entropy, in bits.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Patterns {
    /// Codes that differ from each other.
    pub distinct: usize,
    /// Plug-in: it runs low where rows are few for so many bits.
    pub plug_in: f64,
    /// Chao & Shen 2003.
    pub chao_shen: f64,
    /// Nemenman, Shafee & Bialek 2002, mean; where at most 20 features are live.
    pub nsb: Option<f64>,
}

/// Rows that repeat an earlier code, at least, for a count of the codes that were not seen.
const REPEATS: usize = 50;

impl Patterns {
    fn of(codes: &BitMatrix, live: usize) -> Self {
        let counts = codes.occurrences();
        Self {
            distinct: counts.len(),
            plug_in: joint::plug_in(&counts),
            chao_shen: joint::chao_shen(&counts),
            nsb: (live <= Subset::MOST).then(|| joint::nsb(&counts, 1 << live).0),
        }
    }

    /// The estimate to believe, if there is one.
    fn best(&self, rows: usize) -> Option<f64> {
        self.nsb.or((rows - self.distinct >= REPEATS).then_some(self.chao_shen))
    }
}

/// Bounds of the joint entropy of the live features.
fn bounds(codes: &BitMatrix, live: &[usize]) -> Result<Option<Joint>, TrainError> {
    if live.is_empty() {
        return Ok(None);
    }
    let by_feature = codes.transposed();
    let mut rows = vec![];
    live.iter().for_each(|&feature| rows.extend(by_feature.to_bytes(feature..feature + 1)));
    let kept = BitMatrix::from_bytes(&rows, live.len(), codes.rows())?.transposed();
    let mut counts = CodeStatistics::new(live.len(), &Counting { pairs: true, ..Counting::default() })?;
    counts.add(&kept, 0, None)?;
    Ok(counts.report().joint.flatten())
}

/// Squared noise over the variance of the rows.
fn noise_fraction(states: &Array2<f32>, bits: &BitMatrix, directions: &Array2<f32>) -> f64 {
    let mut moments = RowMoments::new(states.ncols());
    moments.add(states.view());
    let mut noise = 0.0;
    let mut sum = vec![0.0; states.ncols()];
    for (row, state) in states.rows().into_iter().enumerate() {
        sum.fill(0.0);
        for (bit, direction) in directions.rows().into_iter().enumerate() {
            if bits.get(row, bit) {
                sum.iter_mut().zip(direction).for_each(|(sum, &u)| *sum += f64::from(u));
            }
        }
        noise +=
            state.iter().zip(&sum).map(|(&x, sum)| (f64::from(x) - sum) * (f64::from(x) - sum)).sum::<f64>();
    }
    let variance = moments.squared_deviation();
    if variance > 0.0 { noise / variance } else { 0.0 }
}

impl Recovery {
    fn of(bits: &BitMatrix, directions: &Array2<f32>, codes: &BitMatrix, model: &Parameters) -> Self {
        let rank = bits.features();
        let features = codes.features();
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / rank as f64;
        let cosines: Vec<f64> = directions
            .rows()
            .into_iter()
            .flat_map(|u| model.w_dec.rows().into_iter().map(move |w| cosine(u, w).abs()))
            .collect();
        let agreements = agreements(bits, codes).expect("codes of the same rows");
        let phis: Vec<f64> = agreements.iter().map(|agreement| agreement.phi().abs()).collect();
        let pairs = best_matching(&phis, features);
        let recovered: Vec<RecoveredBit> = pairs
            .into_iter()
            .map(|(bit, feature)| {
                let at = bit * features + feature;
                let agreement: Agreement = agreements[at];
                let phi = agreement.phi();
                let f1 = if phi < 0.0 { agreement.turned().f1() } else { agreement.f1() };
                RecoveredBit { bit, feature, phi, f1, cosine: cosines[at] }
            })
            .collect();
        Self {
            cosine: mean(
                &mut best_matching(&cosines, features)
                    .into_iter()
                    .map(|(bit, feature)| cosines[bit * features + feature]),
            ),
            f1: mean(&mut recovered.iter().map(|bit| bit.f1)),
            mcc: mean(&mut recovered.iter().map(|bit| bit.phi.abs())),
            bits: recovered,
        }
    }
}

/// 0 where one of the two has no length.
fn cosine(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f64 {
    let dot = |a: ArrayView1<f32>, b: ArrayView1<f32>| {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
    };
    let size = (dot(a, a) * dot(b, b)).sqrt();
    if size > 0.0 { dot(a, b) / size } else { 0.0 }
}

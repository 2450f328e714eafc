use crate::TrainError;
use crate::evaluate::{Applied, measured_rows};
use bae_codes::{BitMatrix, Class, Correspondence, Corresponding, CrossCounts, Family, Side};
use bae_data::Feed;
use bae_kernels::batch::PANEL;
use bae_kernels::{Isa, product};
use bae_model::layer_norm;
use ndarray::{Array2, ArrayView1, Axis, s};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

/// From which likeness on features of two models are taken for alike.
#[derive(Clone, Copy, Debug)]
pub struct CompareOptions {
    /// Of the cosine of their decoder rows: above 0, at most 1.
    pub cosine_threshold: f64,
    /// Of the φ coefficient of their codes.
    pub phi_threshold: f64,
}

/// Which features two models share.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Comparison {
    /// Rows that both have encoded, if there were any.
    pub rows: Option<usize>,
    /// By the cosines of decoder rows.
    pub decoder: Measure,
    /// By the φ coefficients of codes, where there were rows.
    pub codes: Option<Measure>,
    /// Pairs that both match, the same way around.
    pub matched_by_both: Option<usize>,
}

/// What is shared by one likeness.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measure {
    /// From which likeness on features are alike.
    pub threshold: f64,
    /// Whether a feature and the same one turned around are one: where a code is bits, 1 − h says what h does.
    pub turning: bool,
    /// The models.
    #[serde(flatten)]
    pub matched: Matched,
    /// The same by chance: the second model's hidden dimensions shuffled, or its rows.
    pub chance: Matched,
    /// The features of the first model.
    pub a: Features,
    /// The features of the second model.
    pub b: Features,
    /// Matched pairs, the most alike first.
    pub pairs: Vec<Pairing>,
    /// Matched pairs with their followers, the largest first.
    pub families: Vec<Family>,
}

/// The figures that have a control.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matched {
    /// Pairs that are alike and matched one to one.
    pub matched: usize,
    /// Twice these over the features of both that change; NaN where none does.
    pub matched_fraction: f64,
    /// Their mean likeness; NaN where there are none.
    pub mean_matched: f64,
    /// The mean over features that change of the largest likeness to any of the other model, of the first model and of the
    /// second; NaN where none does.
    pub mean_nearest: [f64; 2],
}

/// The features of one model, as the other has them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Features of each class.
    pub shared: usize,
    /// Of [`Class::Split`].
    pub split: usize,
    /// Of [`Class::Merged`].
    pub merged: usize,
    /// Of [`Class::Missing`].
    pub missing: usize,
    /// Of [`Class::Constant`].
    pub constant: usize,
    /// The class of each feature.
    pub classes: Vec<Class>,
    /// The feature of the other model that each is most like.
    pub nearest: Vec<Option<usize>>,
    /// The score of the two; negative if they are like each other turned around.
    pub similarity: Vec<f64>,
}

/// A matched pair of features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Pairing {
    /// Of the first model.
    pub a: usize,
    /// Of the second.
    pub b: usize,
    /// Cosine of their decoder rows.
    pub cosine: f64,
    /// φ of their codes, where there were rows.
    pub phi: Option<f64>,
}

/// Scores that are computed at once (16 MiB), if that is a feature of the first model at least.
const BLOCK: usize = 1 << 21;

/// Compares the features of two models by their decoders and, on the rows that `feed` gives, by their codes. `progress` gets
/// the rows done and says whether to go on.
///
/// # Errors
/// [`TrainError::Models`] if they do not make hidden states of one width; [`TrainError::Option`] for a threshold that is none;
/// those of reading, encoding and counting; [`TrainError::Cancelled`].
pub fn compare(
    a: &Applied,
    b: &Applied,
    feed: Option<&Feed>,
    options: &CompareOptions,
    mut progress: impl FnMut(usize) -> bool,
) -> Result<Comparison, TrainError> {
    for (name, threshold) in [("cosine", options.cosine_threshold), ("phi", options.phi_threshold)] {
        if !(0.01..=1.0).contains(&threshold) {
            return Err(TrainError::Option(format!(
                "the {name} threshold is {threshold}: it must be between 0.01 and 1"
            )));
        }
    }
    let (w_a, w_b) = (a.backend.parameters()?.w_dec, b.backend.parameters()?.w_dec);
    if w_a.ncols() != w_b.ncols() {
        return Err(TrainError::Models(format!(
            "the decoders make hidden states of width {} and {}: features can be compared only between models of one width",
            w_a.ncols(),
            w_b.ncols()
        )));
    }
    let counts = feed
        .map(|feed| {
            let mut counts = CrossCounts::new(w_a.nrows(), w_b.nrows())?;
            cross(a, b, feed, &mut counts, &mut progress)?;
            Ok::<_, TrainError>(counts)
        })
        .transpose()?;
    let rows = counts.as_ref().map_or(0, CrossCounts::rows) as usize;
    let mut going_on = || if progress(rows) { Ok(()) } else { Err(TrainError::Cancelled) };
    let turning = [a, b].iter().any(|model| model.architecture.estimator().is_some());

    let (w_a, w_b) = (unit_rows(w_a), unit_rows(w_b));
    let by_cosine = |w_b: &Array2<f32>, going_on: &mut dyn FnMut() -> Result<(), TrainError>| {
        let corresponding = Corresponding::new(w_a.nrows(), w_b.nrows(), options.cosine_threshold, turning);
        let zero = |w: &Array2<f32>| w.rows().into_iter().map(|row| row.iter().all(|&w| w == 0.0)).collect();
        let (constant_a, constant_b): (Vec<bool>, Vec<bool>) = (zero(&w_a), zero(w_b));
        let cosines = Cosines::new(&w_a, w_b);
        correspondence(corresponding, [&constant_a, &constant_b], |rows| cosines.of(rows), going_on)
    };
    let by_phi = |counts: &CrossCounts,
                  shuffled: bool,
                  going_on: &mut dyn FnMut() -> Result<(), TrainError>| {
        let [ones_a, ones_b] = counts.ones();
        let corresponding = Corresponding::new(ones_a.len(), ones_b.len(), options.phi_threshold, turning);
        let never_changes = |ones: &[u64]| -> Vec<bool> {
            ones.iter().map(|ones| [0, counts.rows()].contains(ones)).collect()
        };
        let phis = |rows: std::ops::Range<usize>| {
            let of_row = |i: usize| {
                (0..ones_b.len())
                    .map(|j| if shuffled { counts.shuffled(i, j) } else { counts.agreement(i, j) }.phi())
                    .collect::<Vec<f64>>()
            };
            rows.into_par_iter().map(of_row).collect()
        };
        correspondence(corresponding, [&never_changes(ones_a), &never_changes(ones_b)], phis, going_on)
    };
    let pairing = |a: usize, b: usize| Pairing {
        a,
        b,
        cosine: dot(w_a.row(a), w_b.row(b)),
        phi: counts.as_ref().map(|counts| counts.agreement(a, b).phi()),
    };

    let found = by_cosine(&w_b, &mut going_on)?;
    let chance = by_cosine(&shuffled_columns(&w_b), &mut going_on)?;
    let decoder = Measure::of(found, &chance, options.cosine_threshold, turning, pairing);
    let codes = match &counts {
        None => None,
        Some(counts) => {
            let found = by_phi(counts, false, &mut going_on)?;
            let chance = by_phi(counts, true, &mut going_on)?;
            Some(Measure::of(found, &chance, options.phi_threshold, turning, pairing))
        }
    };
    let matched_by_both = codes.as_ref().map(|codes| {
        let same_way = |pair: &&Pairing| pair.cosine * pair.phi.unwrap_or(0.0) > 0.0;
        let of_codes: std::collections::HashSet<_> =
            codes.pairs.iter().map(|pair| (pair.a, pair.b)).collect();
        decoder.pairs.iter().filter(same_way).filter(|pair| of_codes.contains(&(pair.a, pair.b))).count()
    });
    Ok(Comparison { rows: feed.map(|_| rows), decoder, codes, matched_by_both })
}

impl Measure {
    fn of(
        found: Correspondence,
        chance: &Correspondence,
        threshold: f64,
        turning: bool,
        pairing: impl Fn(usize, usize) -> Pairing,
    ) -> Self {
        let mut pairs = found.pairs.clone();
        pairs.sort_by(|one, other| other.score.abs().total_cmp(&one.score.abs()));
        let mut families = found.families.clone();
        families.sort_by_key(|family| std::cmp::Reverse(family.first.len() + family.second.len()));
        Self {
            threshold,
            turning,
            matched: Matched::of(&found),
            chance: Matched::of(chance),
            a: Features::of(&found.sides[0]),
            b: Features::of(&found.sides[1]),
            pairs: pairs.iter().map(|pair| pairing(pair.first, pair.second)).collect(),
            families,
        }
    }
}

impl Matched {
    fn of(found: &Correspondence) -> Self {
        Self {
            matched: found.pairs.len(),
            matched_fraction: found.matched_fraction(),
            mean_matched: found.mean_matched(),
            mean_nearest: found.sides.each_ref().map(Side::mean_nearest),
        }
    }
}

impl Features {
    fn of(side: &Side) -> Self {
        Self {
            shared: side.count(Class::Shared),
            split: side.count(Class::Split),
            merged: side.count(Class::Merged),
            missing: side.count(Class::Missing),
            constant: side.count(Class::Constant),
            classes: side.classes.clone(),
            nearest: side.nearest.iter().map(|nearest| nearest.map(|nearest| nearest.0)).collect(),
            similarity: side.nearest.iter().map(|nearest| nearest.map_or(0.0, |nearest| nearest.1)).collect(),
        }
    }
}

/// Encodes all rows with both models, reading them once.
fn cross(
    a: &Applied,
    b: &Applied,
    feed: &Feed,
    counts: &mut CrossCounts,
    progress: &mut impl FnMut(usize) -> bool,
) -> Result<(), TrainError> {
    let chunk = measured_rows(a.backend.d_sae().max(b.backend.d_sae()));
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 0, chunk, 0);
        let mut done = 0;
        while let Some(x) = batches.next() {
            let x = x?;
            counts.add(&codes(a, &x)?, &codes(b, &x)?)?;
            done += x.nrows();
            if !progress(done) {
                return Err(TrainError::Cancelled);
            }
        }
        counts.settle();
        Ok(())
    })
}

/// The features that are on.
fn codes(model: &Applied, x: &Array2<f32>) -> Result<BitMatrix, TrainError> {
    if !model.layer_norm {
        return Ok(model.backend.encode(&model.architecture, x.view())?);
    }
    let mut normalised = x.clone();
    layer_norm(normalised.view_mut());
    Ok(model.backend.encode(&model.architecture, normalised.view())?)
}

/// Matches by the scores that `scores` gives for some features of the first model with all of the second.
fn correspondence(
    mut corresponding: Corresponding,
    constant: [&[bool]; 2],
    scores: impl Fn(std::ops::Range<usize>) -> Vec<Vec<f64>>,
    going_on: &mut dyn FnMut() -> Result<(), TrainError>,
) -> Result<Correspondence, TrainError> {
    let [features, others] = constant.map(<[bool]>::len);
    let block = (BLOCK / others.max(1)).max(1);
    for start in (0..features).step_by(block) {
        going_on()?;
        let rows = start..features.min(start + block);
        for (row, scores) in rows.clone().zip(scores(rows)) {
            corresponding.add(row, &scores)?;
        }
    }
    going_on()?;
    Ok(corresponding.solve(constant)?)
}

/// Products of rows of length 1.
struct Cosines<'a> {
    isa: Isa,
    a: &'a Array2<f32>,
    features: usize,
    /// Rows of the second, `[panel][depth][PANEL]`, filled up with 0.
    b: Vec<f32>,
}

impl<'a> Cosines<'a> {
    fn new(a: &'a Array2<f32>, b: &Array2<f32>) -> Self {
        let depth = b.ncols();
        let mut panels = vec![0.0; b.nrows().div_ceil(PANEL) * depth * PANEL];
        panels.par_chunks_mut((depth * PANEL).max(1)).enumerate().for_each(|(panel, values)| {
            let rows = panel * PANEL..b.nrows().min((panel + 1) * PANEL);
            for (lane, row) in b.slice(s![rows, ..]).rows().into_iter().enumerate() {
                values.iter_mut().skip(lane).step_by(PANEL).zip(row).for_each(|(to, &value)| *to = value);
            }
        });
        Self { isa: Isa::best(), a, features: b.nrows(), b: panels }
    }

    /// The cosines of some rows of the first with all of the second.
    fn of(&self, rows: std::ops::Range<usize>) -> Vec<Vec<f64>> {
        let mut packed = product::PackedRows::default();
        packed.pack(self.isa, self.a.slice(s![rows.clone(), ..]));
        let panel = (self.a.ncols() * PANEL).max(1);
        let panels: Vec<Vec<f32>> = self
            .b
            .par_chunks(panel)
            .map(|b| {
                let mut out = vec![0.0; rows.len() * PANEL];
                product::add_panel(self.isa, &packed, b, &mut out);
                out
            })
            .collect();
        let cosine = |row: usize, j: usize| f64::from(panels[j / PANEL][row * PANEL + j % PANEL]);
        let of_row = |row| (0..self.features).map(|j| cosine(row, j).clamp(-1.0, 1.0)).collect();
        (0..rows.len()).into_par_iter().map(of_row).collect()
    }
}

/// The rows brought to length 1; rows of length 0 stay.
fn unit_rows(mut w: Array2<f32>) -> Array2<f32> {
    w.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut row| {
        let length = dot(row.view(), row.view()).sqrt();
        if length > 0.0 {
            row.mapv_inplace(|w| (f64::from(w) / length) as f32);
        }
    });
    w
}

/// The dimensions in a random order, the same for all rows: features keep their angles to each other, and lose those to any
/// other model's.
fn shuffled_columns(w: &Array2<f32>) -> Array2<f32> {
    let mut order: Vec<usize> = (0..w.ncols()).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    w.select(Axis(1), &order)
}

fn dot(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bae_model::{Activation, Architecture, Cpu, Estimator, OutputActivation, Parameters};
    use proptest::prelude::*;
    use rand::RngExt;

    const OPTIONS: CompareOptions = CompareOptions { cosine_threshold: 0.7, phi_threshold: 0.5 };

    fn drawn(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_simple_fn((rows, columns), || generator.random::<f32>() - 0.5)
    }

    /// A model of which only the decoder matters.
    fn decoder(w_dec: &Array2<f32>, activation: Activation) -> Applied {
        let mut parameters = Parameters::zeros(w_dec.ncols(), w_dec.nrows(), w_dec.ncols());
        parameters.w_dec.assign(w_dec);
        let architecture = Architecture { activation, output: OutputActivation::None };
        Applied { backend: Box::new(Cpu::new(&parameters, 1)), architecture, layer_norm: false }
    }

    fn by_decoder(a: &Applied, b: &Applied) -> Measure {
        let found = compare(a, b, None, &OPTIONS, |_| true).unwrap();
        assert!(found.codes.is_none() && found.rows.is_none() && found.matched_by_both.is_none());
        found.decoder
    }

    const BITS: Activation = Activation::Binary(Estimator::Identity);

    #[test]
    fn only_bits_can_be_turned_around() {
        let w = drawn(40, 30, 1);
        let turned = w.mapv(|w| -w);
        for (a, b, matched) in
            [(BITS, BITS, 40), (BITS, Activation::Relu, 40), (Activation::Relu, Activation::Relu, 0)]
        {
            let found = by_decoder(&decoder(&w, a), &decoder(&turned, b));
            assert_eq!((found.turning, found.matched.matched), (matched > 0, matched), "{a:?} {b:?}");
            assert!(found.pairs.iter().all(|pair| pair.a == pair.b && pair.cosine < -0.999_999));
            let same = by_decoder(&decoder(&w, a), &decoder(&w, b));
            assert_eq!(same.matched.matched, 40);
            assert_eq!(same.a.shared, 40);
        }
    }

    /// Chance keeps the angles within a model and loses those between models.
    #[test]
    fn shuffled_dimensions_are_no_copy() {
        let w = drawn(300, 64, 2);
        let found = by_decoder(&decoder(&w, BITS), &decoder(&w, BITS));
        assert_eq!((found.matched.matched_fraction, found.chance.matched), (1.0, 0));
        let (of_chance, other) = (found.chance.mean_nearest[0], {
            let random = by_decoder(&decoder(&w, BITS), &decoder(&drawn(300, 64, 3), BITS));
            random.matched.mean_nearest[0]
        });
        assert!((of_chance - other).abs() < 0.02, "{of_chance} by shuffling, {other} with a random one");
    }

    #[test]
    fn widths_thresholds_and_stopping() {
        let models = [3, 4].map(|width| decoder(&drawn(5, width, 1), BITS));
        let failed = |a, b, options: &CompareOptions, going_on: bool| {
            compare(a, b, None, options, |_| going_on).unwrap_err()
        };
        let [a, b] = &models;
        let widths = failed(a, b, &OPTIONS, true);
        assert_eq!((widths.code(), widths.to_string().contains("3 and 4")), ("SHAPE_MISMATCH", true));
        for threshold in [0.0, -1.0, 1.5, f64::NAN] {
            let options = CompareOptions { cosine_threshold: threshold, ..OPTIONS };
            assert_eq!(failed(a, a, &options, true).code(), "INVALID_ARGUMENT");
            let options = CompareOptions { phi_threshold: threshold, ..OPTIONS };
            assert_eq!(failed(a, a, &options, true).code(), "INVALID_ARGUMENT");
        }
        assert!(matches!(failed(a, a, &OPTIONS, false), TrainError::Cancelled));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]
        #[test]
        fn cosines_are_plain(a in 1usize..80, b in 1usize..80, width in 1usize..70, seed: u64) {
            let (w_a, mut w_b) = (drawn(a, width, seed), drawn(b, width, !seed));
            w_b.row_mut(b / 2).fill(0.0);
            let (unit_a, unit_b) = (unit_rows(w_a.clone()), unit_rows(w_b.clone()));
            let cosines = Cosines::new(&unit_a, &unit_b);
            for (i, row) in cosines.of(0..a).iter().enumerate() {
                prop_assert_eq!(row.len(), b);
                for (j, &cosine) in row.iter().enumerate() {
                    let (x, y) = (w_a.row(i), w_b.row(j));
                    let lengths = (dot(x, x) * dot(y, y)).sqrt();
                    let plain = if lengths > 0.0 { dot(x, y) / lengths } else { 0.0 };
                    prop_assert!((cosine - plain).abs() < 1e-5, "{} for {}", cosine, plain);
                }
            }
        }
    }
}

use super::controls::{Control, Controls, Pca, chunks, derangement};
use super::frozen::{FEWEST_ROWS, Frozen, row_lengths};
use super::rate::{self, Rate};
use super::reconstruction::{Errors, Reconstruction, taken};
use super::{Applied, COVARIANCE_ROWS, measured_rows, through};
use crate::yardsticks::{Sample, SecondMoment};
use crate::{By, READ_ONCE, TrainError};
use bae_codes::{BitMatrix, DensityHistogram, Label, Sparsity, Statistics};
use bae_data::{Dataset, Feed, Order, RowMoments, RowSet};
use bae_model::{Cpu, Parameters, layer_norm};
use ndarray::{Array1, ArrayView2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;
use std::collections::BTreeMap;

/// Whose codes are exchanged.
const SEED: u64 = 0;

/// Groups, at most: each is gone through by itself.
const MOST_GROUPS: usize = 1024;

/// What to measure beside all rows, and on how many threads.
#[derive(Clone, Debug, Default)]
pub struct EvaluationOptions {
    /// What rows are grouped by, if anything.
    pub by: Option<By>,
    /// Threads for the controls; 0 for the physical cores.
    pub threads: usize,
}

/// How well a model makes hidden states again, and how sparse its codes are, beside controls; and the same for groups of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlledEvaluation {
    /// Of all rows.
    #[serde(flatten)]
    pub all: EvaluationFigures,
    /// What groups are made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Of each group, by its label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<EvaluationGroup>>,
}

/// One group of rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationGroup {
    /// What it is called.
    pub value: Label,
    /// Its figures.
    #[serde(flatten)]
    pub figures: EvaluationFigures,
}

/// Figures of a model over rows, and of its controls over the same ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluationFigures {
    /// Rows measured.
    pub rows: usize,
    /// How well they are made again.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// Σ_{i≠j} |Cov_ij| of the codes (of the first 16,384 rows where there are more); `None` where they are no bits.
    pub covariance: Option<f64>,
    /// What was counted on the codes.
    #[serde(flatten)]
    pub codes: Sparsity,
    /// Bits a row, each feature coded for itself: Σ_j H(active_j) + p_j H(value_j | active_j), values rounded to steps.
    pub rate_bits: f64,
    /// That step, of h times the length of its decoder row, in units of the reconstruction; `None` where codes are bits.
    pub rate_step: Option<f64>,
    /// Features by how often they are on.
    pub density_histogram: DensityHistogram,
    /// What the figures are to be compared with.
    pub controls: Controls,
    /// Why a control is `None`, by its name.
    pub missing: BTreeMap<&'static str, String>,
}

/// Measures a model and its controls on `rows` of the data: three passes over the rows (their moments; the model; principal components),
/// and two controls that are fitted to a sample of at most 4,096 rows. Groups have the controls that need no fitting. `progress` gets how far
/// it is, in rows, and of how many, and says whether to go on.
///
/// Memory does not grow with the rows: 6 d_in² f64 for the components, the sample, and what training on 512 rows at a time takes.
///
/// # Errors
/// Those of reading and encoding; more than 1,024 groups; [`TrainError::Cancelled`] if `progress` says stop.
pub fn evaluate_with_controls(
    model: &Applied,
    data: &Dataset,
    rows: &RowSet,
    options: &EvaluationOptions,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<ControlledEvaluation, TrainError> {
    let groups = options.by.as_ref().map(|by| groups(by, data, rows)).transpose()?;
    let n = rows.count();
    let passes = if groups.is_some() { 6 } else { 3 };
    let sample = n.min(4096);
    let total = passes * n + if sample < FEWEST_ROWS { 0 } else { Frozen::work(sample) };
    let mut done = 0;
    // all work is told as if it were a pass over the rows
    let mut going_on = |rows: usize| {
        done = total.min(done + rows);
        progress((done as u128 * n as u128 / total.max(1) as u128) as usize, n)
    };
    let threads = Cpu::new(&Parameters::zeros(0, 0, 0), options.threads);
    let parameters = model.backend.parameters()?;
    let mut measuring = Measuring { model, parameters: &parameters, data, threads, going_on: &mut going_on };
    let all = measuring.measure(rows, true)?;
    let mut of_groups = vec![];
    for (value, rows) in groups.into_iter().flatten() {
        of_groups.push(EvaluationGroup { value, figures: measuring.measure(&rows, false)? });
    }
    if !progress(n, n) {
        return Err(TrainError::Cancelled);
    }
    let by = options.by.as_ref().map(By::to_string);
    Ok(ControlledEvaluation { all, groups: by.is_some().then_some(of_groups), by })
}

/// The rows of each group.
fn groups(by: &By, data: &Dataset, rows: &RowSet) -> Result<BTreeMap<Label, RowSet>, TrainError> {
    const CHUNK: usize = 1 << 14;
    let mut groups: BTreeMap<Label, RowSet> = BTreeMap::new();
    let mut numbers = rows.iter();
    loop {
        let chunk: Vec<usize> = numbers.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(groups);
        }
        for (row, label) in chunk.iter().zip(by.labels(data, &chunk)?) {
            groups.entry(label).or_insert_with(|| RowSet::none(rows.of())).set(*row, true);
        }
        if groups.len() > MOST_GROUPS {
            return Err(TrainError::Option(format!(
                "by {by} the rows fall into more than {MOST_GROUPS} groups: group them by another column, or choose rows"
            )));
        }
    }
}

struct Measuring<'a> {
    model: &'a Applied,
    parameters: &'a Parameters,
    data: &'a Dataset,
    threads: Cpu,
    going_on: &'a mut dyn FnMut(usize) -> bool,
}

/// What a first pass over the rows gives.
struct Known {
    mean: Array1<f64>,
    /// Σ |x − mean|².
    variance: f64,
    second_moment: SecondMoment,
    sample: Sample,
    /// Targets of the same rows, where there are some.
    targets: Option<Sample>,
}

/// What the pass of the model gives.
struct OfModel {
    reconstruction: Reconstruction,
    mean_prediction: Reconstruction,
    shuffled_codes: Reconstruction,
    statistics: Statistics,
    covariance: Option<f64>,
    rate: Option<Rate>,
}

impl Known {
    fn of_targets(&self) -> Option<ArrayView2<'_, f32>> {
        self.targets.as_ref().map(|of| of.rows.view())
    }
}

impl Measuring<'_> {
    fn measure(&mut self, rows: &RowSet, fitted: bool) -> Result<EvaluationFigures, TrainError> {
        let feed = Feed::new(self.data, rows, Order::Stored, READ_ONCE);
        let count = feed.rows();
        let known = self.look(&feed)?;
        let step = self.step(known.sample.rows.view(), known.of_targets())?;
        let OfModel { reconstruction, mean_prediction, shuffled_codes, statistics, covariance, rate } =
            self.of_model(&feed, &known, step)?;
        let codes = Sparsity::from(&statistics);
        let rate_bits = rate.as_ref().map_or(codes.entropy_bits, Rate::bits);
        let mut missing = BTreeMap::new();
        let shuffled_codes = if count < 2 {
            missing.insert("shuffledCodes", "there is no other row".to_owned());
            None
        } else {
            Some(Control {
                l0: Some(codes.l0),
                entropy_bits: Some(codes.entropy_bits),
                rate_bits: Some(rate_bits),
                ..Control::plain(count, shuffled_codes)
            })
        };
        let Known { mean, variance, second_moment, sample, targets } = known;
        let pca = if variance > 0.0 {
            let rank = (codes.l0.round() as usize).clamp(1, feed.d_out());
            self.go_on(0)?;
            Some(self.pca(&feed, Pca::new(second_moment, &mean, rank, variance / count as f64), variance)?)
        } else {
            missing.insert("pca", "the rows are all alike".to_owned());
            self.go_on(count)?;
            None
        };
        let (mut frozen_encoder, mut frozen_decoder) = (None, None);
        if !fitted {
            for name in ["frozenEncoder", "frozenDecoder"] {
                missing.insert(name, "it is fitted to a sample of all rows, not to each group".to_owned());
            }
        } else if sample.rows.nrows() < FEWEST_ROWS {
            for name in ["frozenEncoder", "frozenDecoder"] {
                missing.insert(
                    name,
                    format!("there are fewer than {FEWEST_ROWS} rows to fit it to and measure it on"),
                );
            }
        } else {
            let threads = self.threads.thread_count();
            let frozen = Frozen::new(
                self.model,
                self.parameters,
                &statistics,
                step,
                (sample.rows.view(), targets.as_ref().map(|of| of.rows.view())),
                threads,
            )?;
            drop((sample, targets));
            frozen_encoder = kept("frozenEncoder", frozen.encoder(self.going_on), &mut missing)?;
            frozen_decoder = kept("frozenDecoder", frozen.decoder(self.going_on), &mut missing)?;
        }
        Ok(EvaluationFigures {
            rows: count,
            reconstruction,
            covariance,
            rate_bits,
            rate_step: rate.map(|rate| rate.step()),
            density_histogram: DensityHistogram::of(&statistics),
            codes,
            controls: Controls {
                mean_prediction: Control::plain(count, mean_prediction),
                pca,
                shuffled_codes,
                frozen_encoder,
                frozen_decoder,
            },
            missing,
        })
    }

    fn go_on(&mut self, rows: usize) -> Result<(), TrainError> {
        if (self.going_on)(rows) { Ok(()) } else { Err(TrainError::Cancelled) }
    }

    /// Moments of the rows, and a sample.
    fn look(&mut self, feed: &Feed) -> Result<Known, TrainError> {
        let d_out = feed.d_out();
        let (mut moments, mut second_moment) = (RowMoments::new(d_out), SecondMoment::new(d_out));
        let mut sample = Sample::new(feed.rows(), feed.d_in());
        let mut targets = feed.has_target().then(|| Sample::new(feed.rows(), d_out));
        chunks(feed, measured_rows(self.parameters.d_sae()), |done, x, target| {
            moments.add(target);
            self.threads.install(|| second_moment.add(target));
            sample.add(done, x);
            if let Some(targets) = &mut targets {
                targets.add(done, target);
            }
            self.go_on(x.nrows())
        })?;
        Ok(Known {
            mean: moments.mean(),
            variance: moments.squared_deviation(),
            second_moment,
            sample,
            targets,
        })
    }

    /// The step that values are rounded to for the rate, by the error on the sample; 0 where codes are bits.
    fn step(&self, sample: ArrayView2<f32>, targets: Option<ArrayView2<f32>>) -> Result<f64, TrainError> {
        if self.model.architecture.kind().is_none() || sample.nrows() == 0 {
            return Ok(0.0);
        }
        let mut x = sample.to_owned();
        let norms = self.model.layer_norm.then(|| layer_norm(x.view_mut()));
        let targets = targets.map(|targets| taken(norms.as_deref(), targets));
        let targets = targets.as_ref().unwrap_or(&x);
        let (mut error, mut size, mut on) = (0.0, 0.0, 0);
        let together = measured_rows(self.parameters.d_sae());
        let chunks = x.axis_chunks_iter(ndarray::Axis(0), together);
        for (x, target) in chunks.zip(targets.axis_chunks_iter(ndarray::Axis(0), together)) {
            let codes = self.model.encode(x)?;
            let y = self.model.decode(&codes)?;
            for (&x, &y) in target.iter().zip(&y) {
                let (x, y) = (f64::from(x), f64::from(y));
                error += (x - y) * (x - y);
                size += x * x;
            }
            on += codes.active().ones_per_row().iter().map(|&ones| u64::from(ones)).sum::<u64>();
        }
        let rows = sample.nrows() as f64;
        Ok(rate::step(error / rows, size / rows, on as f64 / rows))
    }

    /// The model over all rows, with the controls that cost nothing beside it.
    fn of_model(&mut self, feed: &Feed, known: &Known, step: f64) -> Result<OfModel, TrainError> {
        let model = self.model;
        let backend = &*model.backend;
        let is_bits = model.architecture.kind().is_none();
        let d_sae = backend.d_sae();
        let [mut errors, mut of_mean, mut of_shuffled] = [(); 3].map(|()| Errors::new(&known.mean));
        let mut statistics = Statistics::new(d_sae);
        let mut kept = BitMatrix::zeros(0, d_sae);
        let mut rate = (!is_bits).then(|| Rate::new(step, row_lengths(self.parameters, 1.0)));
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let mean = known.mean.mapv(|mean| mean as f32);
        // for a chunk of one row, which has no other beside it
        let mut before: Option<Array1<f32>> = None;
        through(model, feed, |_, _, x, norms, codes| {
            let y = model.decode(&codes)?;
            let mut shuffled = y.select(ndarray::Axis(0), &derangement(y.nrows(), &mut random));
            if let (1, Some(other)) = (y.nrows(), &before) {
                shuffled.row_mut(0).assign(other);
            }
            before = Some(y.row(0).to_owned());
            let predicted = mean.broadcast(x.dim()).expect("as wide as the rows");
            self.threads.install(|| {
                errors.add(x.view(), y.view(), norms);
                of_mean.add(x.view(), predicted, None);
                of_shuffled.add(x.view(), shuffled.view(), norms);
            });
            let active = codes.active();
            statistics.add(&active)?;
            if is_bits && kept.rows() < COVARIANCE_ROWS {
                kept.append(&active)?;
            }
            if let Some(rate) = &mut rate {
                rate.add(&codes);
            }
            Ok((self.going_on)(x.nrows()))
        })?;
        let variance = Some(known.variance);
        Ok(OfModel {
            reconstruction: errors.figures(variance),
            mean_prediction: of_mean.figures(variance),
            shuffled_codes: of_shuffled.figures(variance),
            statistics,
            covariance: is_bits.then(|| backend.covariance(&kept)).transpose()?,
            rate,
        })
    }

    fn pca(&mut self, feed: &Feed, mut pca: Pca, variance: f64) -> Result<Control, TrainError> {
        chunks(feed, measured_rows(self.parameters.d_sae()), |_, _, x| {
            self.threads.install(|| pca.add(x));
            self.go_on(x.nrows())
        })?;
        Ok(pca.control(feed.rows(), variance))
    }
}

/// A control that failed does not take the model's figures with it.
fn kept(
    name: &'static str,
    control: Result<Control, TrainError>,
    missing: &mut BTreeMap<&'static str, String>,
) -> Result<Option<Control>, TrainError> {
    match control {
        Err(error) if !error.is_cancel() => {
            missing.insert(name, error.to_string());
            Ok(None)
        }
        other => other.map(Some),
    }
}

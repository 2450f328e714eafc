//! Probes: can a label be read off a model's features, and off few of them; beside what can be read off the hidden states
//! themselves. `docs/probing.md` has the definitions.

mod division;
mod logistic;
mod score;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use bae_codes::{Label, ValueMatrix};
use bae_data::{Column, Dataset, Feed, Labels, Order, Purpose, RowSet, generator};
use ndarray::{Array2, s};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

use crate::TrainError;
use crate::evaluate::{Applied, Codes, through};
use crate::memory::READ_ONCE;
use division::{Division, sample};
use logistic::{Inputs, Linear, Regression, SparseRows, Standard};
use score::Figures;

/// Features that sparse probes read.
const SPARSE: [usize; 3] = [1, 2, 5];
/// Classes that are probed, at most.
const MOST_CLASSES: usize = 50;
/// Splits, at most.
const MOST_SPLITS: usize = 100;
/// Rows that are probed, at most.
const MOST_ROWS: usize = 1 << 16;
/// Rows of a class, and of all others, that each split needs to train on ...
const LEAST_TRAIN: usize = 8;
/// ... and to test on.
const LEAST_TEST: usize = 2;
/// Values of hidden states that are kept, and of features that are not 0, at most (512 MiB and 1 GiB).
const MOST_VALUES: usize = 1 << 27;
/// Strengths of the penalty that dense probes choose from, strongest first, as scikit-learn's C.
const PENALTIES: [f64; 5] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0];
/// That of sparse probes: with so few weights it hardly matters.
const SPARSE_PENALTY: f64 = 1.0;

/// What to probe on.
#[derive(Clone, Debug)]
pub struct ProbeOptions {
    /// Rows drawn from those that have a label, at most.
    pub rows: usize,
    /// Random divisions into rows to train on and rows to test on.
    pub splits: usize,
    /// Decides the rows drawn, the splits, and the draws of the controls.
    pub seed: u64,
    /// Threads; 0 takes what the machine offers. The figures do not depend on it.
    pub threads: usize,
}

/// How well labels can be read off features and hidden states.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeReport {
    /// Rows probed.
    pub rows: usize,
    /// Rows that have a label, of which these were drawn.
    pub labelled_rows: usize,
    /// Rows without a label, which take no part.
    pub unlabelled_rows: usize,
    /// Random divisions into rows to train on and rows to test on.
    pub splits: usize,
    /// Share of the rows that are tested on.
    pub test_fraction: f64,
    /// What was kept together by the splits: `row` or `sequence`.
    pub split_by: &'static str,
    /// Of the draws.
    pub seed: u64,
    /// Each class against all other rows; of two classes the second alone, for the first is the same question.
    pub classes: Vec<ClassProbes>,
    /// Means over the classes; the deviation is that over splits of this mean.
    pub mean: Probes,
    /// Classes with too few rows to be probed. Their rows are among the others of each class.
    pub left_out: Vec<LeftOutClass>,
}

/// The probes for one class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassProbes {
    /// The label.
    pub value: Label,
    /// Rows of it, of those probed.
    pub rows: usize,
    /// How well it is told from the others.
    #[serde(flatten)]
    pub probes: Probes,
}

/// A class that is not probed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LeftOutClass {
    /// The label.
    pub value: Label,
    /// Rows of it, of those drawn.
    pub rows: usize,
}

/// Probes for one question, each beside its controls.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// Logistic regression on the k features whose means differ most between the classes.
    pub sparse: Vec<SparseProbe>,
    /// Logistic regression on all features.
    pub dense: Probe,
    /// Logistic regression on the hidden states, standardised.
    pub hidden_states: Probe,
    /// The hidden states, standardised, along the difference of the classes' means.
    pub difference_of_means: Probe,
}

/// A probe beside its control.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// On rows that it was not trained on.
    #[serde(flatten)]
    pub score: Score,
    /// The same, trained on labels that were shuffled.
    pub shuffled: Score,
}

/// A probe that reads few features, beside its controls.
#[derive(Clone, Debug, Serialize)]
pub struct SparseProbe {
    /// Features that it reads.
    pub k: usize,
    /// Those that were chosen in most splits, at most k; empty in a mean over classes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<ChosenFeature>,
    /// On rows that it was not trained on.
    #[serde(flatten)]
    pub score: Score,
    /// Trained on k features drawn at random from those that vary.
    pub random: Score,
    /// The same probe, choice of features included, trained on labels that were shuffled.
    pub shuffled: Score,
}

/// A feature that a sparse probe reads.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChosenFeature {
    /// Its number, from 0.
    pub feature: usize,
    /// Splits in which it was chosen.
    pub splits: usize,
}

/// How well two classes are told apart; ½ by chance, and by always giving one answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Score {
    /// Mean of the shares of both classes that are recognised.
    pub balanced_accuracy: Spread,
    /// Area under the receiver operating characteristic.
    pub auc: Spread,
}

/// A figure over splits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, divisor splits − 1; none of a single split.
    pub deviation: Option<f64>,
}

/// Probes the features of `model` for `labels`, which are those of all rows of `data`, on `rows` of it. `progress` gets
/// the rows gone through, once to be encoded and once for each split, and those to go through, and says whether to go on.
///
/// # Errors
/// `INVALID_ARGUMENT` for options out of range, fewer than two classes, more than 50, or none with enough rows;
/// `SHAPE_MISMATCH` for labels of other data; `OUT_OF_MEMORY` where the rows drawn are too large; those of reading and
/// encoding; [`TrainError::Cancelled`].
pub fn probe(
    model: &Applied,
    data: &Dataset,
    rows: &RowSet,
    labels: &Labels,
    options: &ProbeOptions,
    progress: impl FnMut(usize, usize) -> bool + Send,
) -> Result<ProbeReport, TrainError> {
    check(options)?;
    if labels.rows() != data.rows() {
        return Err(TrainError::Data(bae_data::DataError::ShapeMismatch(format!(
            "there are labels for {} rows, the data has {}; give one for each row",
            labels.rows(),
            data.rows()
        ))));
    }
    let labelled: Vec<usize> = rows.iter().filter(|&row| labels.of(row).is_some()).collect();
    let classes = classes_of(&labelled, labels)?;
    let mut random = generator(options.seed, Purpose::Probe, 0);
    let drawn = sample(&labelled, options.rows.min(labelled.len()), &mut random);
    let total = drawn.len() * (1 + options.splits);
    let progress = Mutex::new(progress);
    let told = |done: usize| progress.lock().unwrap_or_else(|poisoned| poisoned.into_inner())(done, total);

    let sample = Sample::read(model, data, &drawn, told)?;
    let class: Vec<usize> = drawn
        .iter()
        .map(|&row| classes.binary_search(&labels.of(row).expect("a labelled row")).expect("one of them"))
        .collect();
    let (sequences, split_by) = sequences_of(data, &drawn)?;
    let splits: Vec<Split> =
        (0..options.splits).map(|number| Split::draw(number, options.seed, &class, &sequences)).collect();
    let counts = counts_of(&class, classes.len());
    let enough = |&at: &usize| splits.iter().all(|split| split.has_enough(&class, at));
    let (probed, left_out): (Vec<usize>, Vec<usize>) = (0..classes.len()).partition(enough);
    let value = |at: usize| labels.values()[classes[at]].clone();
    if probed.is_empty() {
        let largest = counts.iter().max().expect("two classes");
        return Err(TrainError::Option(format!(
            "no class has enough rows to be probed: the largest of {} has {largest}, and each split needs {LEAST_TRAIN} of a \
             class and of the others to train on and {LEAST_TEST} to test on{}; give more rows",
            classes.len(),
            if split_by == "sequence" { ", whole sequences together" } else { "" }
        )));
    }
    let asked = if classes.len() == 2 { &probed[probed.len() - 1..] } else { &probed[..] };

    let jobs: Vec<(usize, usize)> =
        (0..splits.len()).flat_map(|split| asked.iter().map(move |&class| (split, class))).collect();
    let (stopped, ended) = (AtomicBool::new(false), Mutex::new(0));
    let go_on = || {
        let ended = *ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let done = drawn.len() + (drawn.len() * options.splits * ended) / jobs.len();
        if !stopped.load(Ordering::Relaxed) && !told(done) {
            stopped.store(true, Ordering::Relaxed);
        }
        !stopped.load(Ordering::Relaxed)
    };
    let run = |&(split, at): &(usize, usize)| {
        let question =
            Question { sample: &sample, split: &splits[split], class: &class, of: at, go_on: &go_on };
        let answers = question.answers(&mut generator(options.seed, Purpose::Probe, job_number(split, at)));
        *ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += 1;
        answers
    };
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(bae_model::cpu::thread_count(options.threads))
        .build()
        .map_err(|error| {
            TrainError::Memory(format!("threads could not be started: {error}; ask for fewer"))
        })?;
    // in their order, whatever thread takes which
    let answers: Vec<Answers> = pool.install(|| jobs.par_iter().map(run).collect::<Result<_, _>>())?;
    told(total);

    let of_class = |at: usize| answers.iter().skip(at).step_by(asked.len()).collect::<Vec<_>>();
    let in_split: Vec<Answers> = answers.chunks(asked.len()).map(Answers::mean).collect();
    Ok(ProbeReport {
        rows: drawn.len(),
        labelled_rows: labelled.len(),
        unlabelled_rows: rows.count() - labelled.len(),
        splits: options.splits,
        test_fraction: division::TEST_FRACTION,
        split_by,
        seed: options.seed,
        classes: asked
            .iter()
            .enumerate()
            .map(|(number, &at)| ClassProbes {
                value: value(at),
                rows: counts[at],
                probes: Probes::over_splits(&of_class(number)),
            })
            .collect(),
        mean: Probes::over_splits(&in_split.iter().collect::<Vec<_>>()),
        left_out: left_out.iter().map(|&at| LeftOutClass { value: value(at), rows: counts[at] }).collect(),
    })
}

fn check(options: &ProbeOptions) -> Result<(), TrainError> {
    for (name, value, most) in [("rows", options.rows, MOST_ROWS), ("splits", options.splits, MOST_SPLITS)] {
        if value == 0 || value > most {
            return Err(TrainError::Option(format!("{name} is {value}: it must be from 1 to {most}")));
        }
    }
    Ok(())
}

/// The classes that rows have, by their numbers, ascending.
fn classes_of(labelled: &[usize], labels: &Labels) -> Result<Vec<usize>, TrainError> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    labelled
        .iter()
        .filter_map(|&row| labels.of(row))
        .for_each(|class| *counts.entry(class).or_default() += 1);
    let classes: Vec<usize> = counts.into_keys().collect();
    match classes[..] {
        [] => Err(TrainError::Option("none of the rows has a label; take others or label some".into())),
        [only] => Err(TrainError::Option(format!(
            "all {} rows with a label have the same one, {}; a probe needs two classes or more",
            labelled.len(),
            labels.values()[only]
        ))),
        _ if classes.len() > MOST_CLASSES => Err(TrainError::Option(format!(
            "the label has {} values, more than {MOST_CLASSES}; take fewer by a condition, or a coarser label",
            classes.len()
        ))),
        _ => Ok(classes),
    }
}

fn counts_of(class: &[usize], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    class.iter().for_each(|&class| counts[class] += 1);
    counts
}

/// Which sequence each of the rows drawn is in, or where nothing says so, or of one alone, the row itself.
fn sequences_of(data: &Dataset, drawn: &[usize]) -> Result<(Vec<i64>, &'static str), TrainError> {
    if data.has_column(Column::Sequence) {
        let sequences = data.read_column_of(Column::Sequence, drawn)?;
        if sequences.iter().any(|&sequence| sequence != sequences[0]) {
            return Ok((sequences, "sequence"));
        }
    }
    Ok(((0..drawn.len() as i64).collect(), "row"))
}

/// A stream of random numbers for each split and class.
fn job_number(split: usize, class: usize) -> u64 {
    ((1 + split as u64) << 32) | (1 + class as u64)
}

/// The rows drawn, in memory.
struct Sample {
    /// Hidden states `[rows, d_in]`.
    states: Array2<f32>,
    /// Features of the same rows: bits as 0 and 1.
    features: SparseRows,
}

impl Sample {
    fn read(
        model: &Applied,
        data: &Dataset,
        drawn: &[usize],
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Self, TrainError> {
        if drawn.len().saturating_mul(data.d_in()) > MOST_VALUES {
            return Err(too_large(drawn.len(), "values"));
        }
        let mut rows = RowSet::none(data.rows());
        drawn.iter().for_each(|&row| rows.set(row, true));
        let states = Array2::zeros((drawn.len(), data.d_in()));
        let mut sample = Self { states, features: SparseRows::new(model.backend.d_sae()) };
        through(model, &Feed::new(data, &rows, Order::Stored, READ_ONCE), |done, x, _, _, codes| {
            sample.states.slice_mut(s![done..done + x.nrows(), ..]).assign(x);
            let codes = match codes {
                Codes::Bits(bits) => ValueMatrix::from(&bits),
                Codes::Values(values) => values,
            };
            (0..codes.rows()).for_each(|row| sample.features.push(codes.row(row)));
            if sample.features.entries() > MOST_VALUES {
                return Err(too_large(drawn.len(), "features that are not 0"));
            }
            Ok(progress(done + x.nrows()))
        })?;
        Ok(sample)
    }
}

fn too_large(rows: usize, what: &str) -> TrainError {
    TrainError::Memory(format!("{rows} rows have more than {MOST_VALUES} {what}; probe on fewer rows"))
}

/// Rows to train on, of which some choose the penalty, and rows to test on; as places in the sample.
struct Split {
    all: Division,
    /// Of the rows to train on.
    inner: Division,
}

impl Split {
    fn draw(number: usize, seed: u64, class: &[usize], sequences: &[i64]) -> Self {
        let mut random = generator(seed, Purpose::Probe, job_number(number, 0) - 1);
        let mut draw =
            |rows: &[usize]| Division::draw(rows, |row| class[row], |row| sequences[row], &mut random);
        let all = draw(&(0..class.len()).collect::<Vec<_>>());
        let inner = draw(&all.train);
        Self { all, inner }
    }

    /// Whether a class and its opposite have enough rows on either side.
    fn has_enough(&self, class: &[usize], of: usize) -> bool {
        [(&self.all.train, LEAST_TRAIN), (&self.all.test, LEAST_TEST)].into_iter().all(|(rows, least)| {
            let ones = rows.iter().filter(|&&row| class[row] == of).count();
            ones >= least && rows.len() - ones >= least
        })
    }
}

/// One class against the others in one split.
struct Question<'a> {
    sample: &'a Sample,
    split: &'a Split,
    /// Of each row of the sample.
    class: &'a [usize],
    of: usize,
    go_on: &'a (dyn Fn() -> bool + Sync),
}

/// What came of one question.
#[derive(Clone)]
struct Answers {
    sparse: Vec<SparseAnswer>,
    dense: Answer,
    hidden_states: Answer,
    difference_of_means: Answer,
}

#[derive(Clone)]
struct Answer {
    score: Figures,
    shuffled: Figures,
}

#[derive(Clone)]
struct SparseAnswer {
    k: usize,
    features: Vec<usize>,
    score: Figures,
    random: Figures,
    shuffled: Figures,
}

impl Question<'_> {
    fn answers(&self, random: &mut ChaCha8Rng) -> Result<Answers, TrainError> {
        let Sample { states, features } = self.sample;
        let train = &self.split.all.train;
        let labels = self.labels(train);
        let mut shuffled = labels.clone();
        shuffled.shuffle(random);
        let (of_features, of_states) = (features.moments(train), states.moments(train));
        let (ranked, ranked_shuffled) = (self.ranked(&labels), self.ranked(&shuffled));
        let varying = of_features.varying();
        let sparse = SPARSE.map(|k| -> Result<SparseAnswer, TrainError> {
            let count = k.min(varying.len());
            let drawn = sample(&varying, count, random);
            Ok(SparseAnswer {
                k,
                features: ranked[..count].to_vec(),
                score: self.few(&ranked[..count], &labels)?,
                random: self.few(&drawn, &labels)?,
                shuffled: self.few(&ranked_shuffled[..count], &shuffled)?,
            })
        });
        let direction =
            |labels: &[bool]| self.scored(states, &difference_of_means(states, train, labels, &of_states));
        Ok(Answers {
            sparse: sparse.into_iter().collect::<Result<_, _>>()?,
            dense: self.all_of(features, &of_features, &labels, &shuffled)?,
            hidden_states: self.all_of(states, &of_states, &labels, &shuffled)?,
            difference_of_means: Answer { score: direction(&labels), shuffled: direction(&shuffled) },
        })
    }

    fn labels(&self, rows: &[usize]) -> Vec<bool> {
        rows.iter().map(|&row| self.class[row] == self.of).collect()
    }

    /// Features by |mean over the class − mean over the others| on the rows to train on, largest first.
    fn ranked(&self, labels: &[bool]) -> Vec<usize> {
        let [others, own] = [false, true]
            .map(|which| self.sample.features.means(&rows_where(&self.split.all.train, labels, which)));
        let difference: Vec<f64> = own.iter().zip(&others).map(|(own, other)| (own - other).abs()).collect();
        let mut order: Vec<usize> = (0..difference.len()).collect();
        order.sort_by(|&a, &b| difference[b].total_cmp(&difference[a]));
        order
    }

    /// A probe on these features.
    fn few(&self, chosen: &[usize], labels: &[bool]) -> Result<Figures, TrainError> {
        let inputs = self.sample.features.gather(chosen);
        let standard = inputs.moments(&self.split.all.train);
        let regression = Regression::new(&inputs, &self.split.all.train, labels, &standard);
        let linear = regression.fit(SPARSE_PENALTY, &mut vec![0.0; chosen.len() + 1], self.go_on)?;
        Ok(self.scored(&inputs, &linear))
    }

    /// A probe on all inputs, with the penalty that does best on a part of the rows to train on.
    fn all_of(
        &self,
        inputs: &impl Inputs,
        standard: &Standard,
        labels: &[bool],
        shuffled: &[bool],
    ) -> Result<Answer, TrainError> {
        let penalty = self.penalty(inputs)?;
        let fitted = |labels: &[bool]| -> Result<Figures, TrainError> {
            let regression = Regression::new(inputs, &self.split.all.train, labels, standard);
            let linear = regression.fit(penalty, &mut vec![0.0; inputs.width() + 1], self.go_on)?;
            Ok(self.scored(inputs, &linear))
        };
        Ok(Answer { score: fitted(labels)?, shuffled: fitted(shuffled)? })
    }

    fn penalty<I: Inputs>(&self, inputs: &I) -> Result<f64, TrainError> {
        let Division { train, test } = &self.split.inner;
        let (labels, held_out) = (self.labels(train), self.labels(test));
        let standard = inputs.moments(train);
        let regression = Regression::new(inputs, train, &labels, &standard);
        // each from where the last one ended
        let mut u = vec![0.0; inputs.width() + 1];
        let (mut best, mut least) = (PENALTIES[0], f64::INFINITY);
        for c in PENALTIES {
            let linear = regression.fit(c, &mut u, self.go_on)?;
            let loss = Regression::loss_of(&linear, inputs, test, &held_out);
            // weaker ones fit the rows to train on more closely still
            if loss >= least {
                break;
            }
            (best, least) = (c, loss);
        }
        Ok(best)
    }

    fn scored(&self, inputs: &impl Inputs, linear: &Linear) -> Figures {
        let test = &self.split.all.test;
        Figures::of(&linear.scores(inputs, test), &self.labels(test))
    }
}

/// The difference of the means of standardised states as a direction, 0 half way between them.
fn difference_of_means(states: &Array2<f32>, rows: &[usize], labels: &[bool], standard: &Standard) -> Linear {
    let [others, own] =
        [false, true].map(|which| states.moments(&rows_where(rows, labels, which)).into_mean());
    Linear::between(&others, &own, standard)
}

fn rows_where(rows: &[usize], labels: &[bool], which: bool) -> Vec<usize> {
    rows.iter().zip(labels).filter(|&(_, &label)| label == which).map(|(&row, _)| row).collect()
}

impl Answers {
    /// Of several classes in one split.
    fn mean(answers: &[Self]) -> Self {
        let mean = |of: &dyn Fn(&Self) -> Figures| Figures::mean(answers.iter().map(of));
        let answer = |of: fn(&Self) -> &Answer| Answer {
            score: mean(&|answers| of(answers).score),
            shuffled: mean(&|answers| of(answers).shuffled),
        };
        let sparse = (0..SPARSE.len()).map(|at| SparseAnswer {
            k: SPARSE[at],
            features: vec![],
            score: mean(&|answers| answers.sparse[at].score),
            random: mean(&|answers| answers.sparse[at].random),
            shuffled: mean(&|answers| answers.sparse[at].shuffled),
        });
        Self {
            sparse: sparse.collect(),
            dense: answer(|answers| &answers.dense),
            hidden_states: answer(|answers| &answers.hidden_states),
            difference_of_means: answer(|answers| &answers.difference_of_means),
        }
    }
}

impl Probes {
    /// Of one question in each split.
    fn over_splits(answers: &[&Answers]) -> Self {
        let score = |of: &dyn Fn(&Answers) -> Figures| {
            Score::of(&answers.iter().map(|each| of(each)).collect::<Vec<_>>())
        };
        let probe = |of: fn(&Answers) -> &Answer| Probe {
            score: score(&|answers| of(answers).score),
            shuffled: score(&|answers| of(answers).shuffled),
        };
        let sparse = (0..SPARSE.len()).map(|at| SparseProbe {
            k: SPARSE[at],
            features: most_chosen(answers.iter().map(|answers| &answers.sparse[at])),
            score: score(&|answers| answers.sparse[at].score),
            random: score(&|answers| answers.sparse[at].random),
            shuffled: score(&|answers| answers.sparse[at].shuffled),
        });
        Self {
            sparse: sparse.collect(),
            dense: probe(|answers| &answers.dense),
            hidden_states: probe(|answers| &answers.hidden_states),
            difference_of_means: probe(|answers| &answers.difference_of_means),
        }
    }
}

fn most_chosen<'a>(answers: impl Iterator<Item = &'a SparseAnswer>) -> Vec<ChosenFeature> {
    let (mut counts, mut most) = (BTreeMap::new(), 0);
    for answer in answers {
        most = answer.k;
        answer.features.iter().for_each(|&feature| *counts.entry(feature).or_default() += 1);
    }
    let mut chosen: Vec<ChosenFeature> =
        counts.into_iter().map(|(feature, splits)| ChosenFeature { feature, splits }).collect();
    chosen.sort_by_key(|chosen| (std::cmp::Reverse(chosen.splits), chosen.feature));
    chosen.truncate(most);
    chosen
}

impl Score {
    fn of(figures: &[Figures]) -> Self {
        let spread = |of: fn(&Figures) -> f64| Spread::of(&figures.iter().map(of).collect::<Vec<_>>());
        Self {
            balanced_accuracy: spread(|figures| figures.balanced_accuracy),
            auc: spread(|figures| figures.auc),
        }
    }
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
        let deviation = (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt());
        Self { mean, deviation }
    }
}

#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::collision::lower_entropy_bits;
use crate::dependence::{Block, Dependency, block_of, pairs_of_block, strongest};
use crate::interval::{self, jackknife};
use crate::joint::{chao_shen, miller_madow, nsb, plug_in};
use crate::marginal::{Estimator, entropy};
use crate::tree::{FoldCounts, held_out_bits};
use crate::{
    BATCH, BUCKETS, Buckets, Clusters, CodeStatistics, Collisions, FOLDS, GroupedStatistics, Label,
    PairCounts, Statistics, Subset, pair_index,
};

/// How often intervals hold the truth.
pub const LEVEL: f64 = 0.95;

/// Rates that features are sorted by; those below the first are counted with it.
const EDGES: [f64; 19] = [
    1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1.0,
];

/// Degrees of freedom of an interval, at least: of a handful of clusters most of what there is was not seen.
const FEWEST_DEGREES: usize = 9;

/// Pairs that are named.
const STRONGEST: usize = 20;

/// Features in a block of dependent ones, at most.
const BLOCK: usize = 24;

/// What counts say about all rows, and about each group.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupedReport {
    /// About all rows.
    #[serde(flatten)]
    pub all: Report,
    /// What groups are made of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// About each group, numbers first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupReport>>,
    /// Parts that were counted, where it was not simply all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardsReport>,
}

/// What counts say about a group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupReport {
    /// What it is called.
    pub value: Label,
    /// About its rows.
    #[serde(flatten)]
    pub report: Report,
}

/// Parts that were counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShardsReport {
    /// Parts there are.
    pub of: u32,
    /// Those that were not counted, from 1.
    pub missing: Vec<u32>,
}

/// What counts of codes say. Entropies are in bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Rows counted.
    pub rows: u64,
    /// Bits in a code (d_sae).
    pub features: usize,
    /// How much they say in these rows, and how sparse they are.
    #[serde(flatten)]
    pub sparsity: Sparsity,
    /// What they say beyond these rows.
    pub estimates: Estimates,
    /// Where that lies; absent with fewer than ten buckets in effect.
    pub interval: Option<Interval>,
    /// The published average over batches; not for groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchReport>,
    /// Features on in no row.
    pub never_on: NeverOn,
    /// Features on in every row.
    pub always_on: AlwaysOn,
    /// The others, by how often they are on.
    pub density_histogram: DensityHistogram,
    /// Rows by their number of ones; absent without rows.
    pub l0_distribution: Option<L0Distribution>,
    /// Bounds of the entropy of whole codes, where pairs were counted: absent, or null with too few clusters of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint: Option<Option<Joint>>,
    /// Dependence, where pairs were counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairs: Option<PairReport>,
    /// The features asked for, taken together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset: Option<SubsetReport>,
}

/// How much codes say, and how sparse they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sparsity {
    /// Σ_j H(p_j), in bits a row.
    pub entropy_bits: f64,
    /// Mean features on in a row.
    pub l0: f64,
    /// l0 / d_sae.
    pub density: f64,
    /// Share of features never on.
    pub dead_fraction: f64,
    /// Share of features on in every row.
    pub always_on_fraction: f64,
    /// Share of features on in more than half of the rows.
    pub dense_fraction: f64,
}

impl From<&Statistics> for Sparsity {
    fn from(statistics: &Statistics) -> Self {
        Self {
            entropy_bits: statistics.entropy_bits(),
            l0: statistics.l0(),
            density: statistics.density(),
            dead_fraction: statistics.dead_fraction(),
            always_on_fraction: statistics.always_on_fraction(),
            dense_fraction: statistics.dense_fraction(),
        }
    }
}

/// Σ_j H(p_j) of what the rows are a sample of, by four estimators.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimates {
    /// As if the rows were all there are.
    pub plug_in: f64,
    /// Miller 1955.
    pub miller_madow: f64,
    /// Zahl 1977.
    pub jackknife: f64,
    /// Grassberger 2003.
    pub grassberger: f64,
}

/// An interval for Σ_j H(p_j).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interval {
    /// The jackknife over buckets, in its middle.
    pub estimate: f64,
    /// Lower end.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
    /// How often such an interval holds the truth.
    pub level: f64,
    /// Standard error, clustered.
    pub standard_error: f64,
    /// What is taken for independent.
    pub clusters: &'static str,
    /// Of Student's t.
    pub degrees_of_freedom: usize,
}

/// The published average over batches.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchReport {
    /// Rows of a batch; the last one may have fewer.
    pub size: usize,
    /// Mean over batches of Σ_j H(p_j) in the batch.
    pub entropy_bits: f64,
    /// How far it is from the best estimate over all rows: that of the interval, where there is one.
    pub bias_bits: f64,
}

/// Features on in no row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NeverOn {
    /// How many.
    pub features: usize,
    /// 3 / n: none of them, with 95 % confidence, is on more often (the rule of three: Hanley & Lippman-Hand 1983).
    pub rate_below: Option<f64>,
}

/// Features on in every row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlwaysOn {
    /// How many.
    pub features: usize,
    /// 1 − 3 / n.
    pub rate_above: Option<f64>,
}

/// Features by the share of rows they are on in, those never and always on left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DensityHistogram {
    /// Rates, ascending.
    pub edges: Vec<f64>,
    /// Features from each edge to below the next.
    pub features: Vec<u64>,
}

/// Rows by their number of ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct L0Distribution {
    /// Least.
    pub minimum: usize,
    /// A quarter, half and three quarters of the rows have no more ones than this.
    pub quartiles: [usize; 3],
    /// Most.
    pub maximum: usize,
    /// Rows with 0, 1, … ones, to the most there are.
    pub counts: Vec<u64>,
}

/// Bounds of the entropy of whole codes.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Joint {
    /// Lower end.
    pub lower_bits: f64,
    /// Upper end.
    pub upper_bits: f64,
    /// How often such an interval holds the truth, at least.
    pub level: f64,
    /// What the lower one comes from.
    pub collision: CollisionReport,
    /// What the upper one comes from.
    pub tree: TreeReport,
}

/// Pairs of rows of different clusters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CollisionReport {
    /// How many.
    pub pairs: u64,
    /// Those with the same code.
    pub collisions: u64,
}

/// The code length of a tree of features on rows that it was not learned from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TreeReport {
    /// Parts that are held out in turn.
    pub folds: usize,
    /// Mean, in bits a row.
    pub bits: f64,
    /// Its standard error.
    pub standard_error: f64,
}

/// Dependence between features.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PairReport {
    /// Bytes that the counts take.
    pub memory_bytes: u64,
    /// Where Σ_j H(p_j) − H(code) lies.
    pub total_correlation: Option<Bounds>,
    /// The pairs that say most about each other.
    pub strongest: Vec<Dependency>,
    /// φ between features of the strongest pairs.
    pub block: BlockReport,
}

/// φ of some features with each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BlockReport {
    /// The features; dependent ones are neighbours.
    pub features: Vec<usize>,
    /// φ of each two of them, a row for each.
    pub phi: Vec<Vec<f64>>,
}

impl BlockReport {
    fn of(Block { features, phi }: Block) -> Self {
        let rows = phi.chunks(features.len().max(1)).map(<[f64]>::to_vec).collect();
        Self { features, phi: rows }
    }
}

/// A range in bits.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// Lower end.
    pub lower_bits: f64,
    /// Upper end.
    pub upper_bits: f64,
}

/// The entropy of a few features taken together.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubsetReport {
    /// The features.
    pub features: Vec<usize>,
    /// Patterns that occur.
    pub patterns: usize,
    /// As if the rows were all there are.
    pub plug_in: f64,
    /// Miller 1955.
    pub miller_madow: f64,
    /// Chao & Shen 2003.
    pub chao_shen: f64,
    /// Nemenman, Shafee & Bialek 2002.
    pub nsb: Posterior,
}

/// Mean and standard deviation of a posterior distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Posterior {
    /// Mean, in bits.
    pub mean: f64,
    /// Standard deviation, in bits.
    pub standard_deviation: f64,
}

impl GroupedStatistics {
    /// What the counts say; `None` as soon as `going_on`, asked before each group, says no.
    pub fn report(&mut self, going_on: impl Fn() -> bool) -> Option<GroupedReport> {
        let by = self.by().map(str::to_owned);
        let mut groups = vec![];
        for (value, group) in self.groups() {
            if !going_on() {
                return None;
            }
            groups.push(GroupReport { value: value.clone(), report: group.report() });
        }
        let shards = self.shards().map(|shards| ShardsReport { of: shards.of, missing: shards.missing() });
        going_on().then(|| GroupedReport {
            groups: by.is_some().then_some(groups),
            by,
            shards,
            all: self.all().report(),
        })
    }
}

impl CodeStatistics {
    /// What the counts say. With pairs, time grows with the square of the features.
    pub fn report(&mut self) -> Report {
        self.settle();
        let (counts, rows, features) = (self.counts(), self.rows(), self.features());
        let estimates = Estimates::of(&counts);
        let interval = Interval::of(self.buckets(), features, self.clusters());
        let best = interval.as_ref().map_or(estimates.jackknife, |interval| interval.estimate);
        let batch = self.batches().map(|batches| {
            let entropy_bits = batches.mean_entropy_bits(features);
            BatchReport { size: BATCH, entropy_bits, bias_bits: entropy_bits - best }
        });
        let (mut joint, mut pairs) = (None, None);
        if let (Some(counted), Some(sample)) = (self.settled_pairs(), self.sample()) {
            let bounds = Joint::of(counted, self.buckets(), sample.collisions(), features);
            pairs = Some(PairReport::of(counted, &counts, bounds.as_ref(), best));
            joint = Some(bounds);
        }
        let limit = (rows > 0).then(|| (3.0 / rows as f64).min(1.0));
        let which = |of: u64| counts.ones().iter().filter(|&&ones| rows > 0 && ones == of).count();
        Report {
            rows,
            features,
            sparsity: Sparsity::from(&counts),
            estimates,
            interval,
            batch,
            never_on: NeverOn { features: which(0), rate_below: limit },
            always_on: AlwaysOn { features: which(rows), rate_above: limit.map(|limit| 1.0 - limit) },
            density_histogram: DensityHistogram::of(&counts),
            l0_distribution: L0Distribution::of(self.l0()),
            joint,
            pairs,
            subset: self.subset().map(SubsetReport::of),
        }
    }
}

impl Estimates {
    fn of(counts: &Statistics) -> Self {
        let sum = |estimator| counts.ones().iter().map(|&ones| entropy(estimator, ones, counts.rows())).sum();
        Self {
            plug_in: sum(Estimator::PlugIn),
            miller_madow: sum(Estimator::MillerMadow),
            jackknife: sum(Estimator::Jackknife),
            grassberger: sum(Estimator::Grassberger),
        }
    }
}

impl Interval {
    /// `None` with too few clusters.
    fn of(buckets: &Buckets, features: usize, clusters: Option<Clusters>) -> Option<Self> {
        let estimate = jackknife(buckets, features);
        if estimate.degrees_of_freedom < FEWEST_DEGREES {
            return None;
        }
        let (lower, upper) =
            interval::interval(estimate.bits, estimate.standard_error, estimate.degrees_of_freedom, LEVEL);
        Some(Self {
            estimate: estimate.bits,
            lower,
            upper,
            level: LEVEL,
            standard_error: estimate.standard_error,
            clusters: match clusters? {
                Clusters::Row => "row",
                Clusters::Sequence => "sequence",
            },
            degrees_of_freedom: estimate.degrees_of_freedom,
        })
    }
}

impl DensityHistogram {
    /// Of counts over any number of rows.
    pub fn of(counts: &Statistics) -> Self {
        let mut features = vec![0; EDGES.len() - 1];
        for &ones in counts.ones().iter().filter(|&&ones| ones > 0 && ones < counts.rows()) {
            let rate = ones as f64 / counts.rows() as f64;
            let bin = EDGES.partition_point(|&edge| edge <= rate).clamp(1, EDGES.len() - 1) - 1;
            features[bin] += 1;
        }
        Self { edges: EDGES.to_vec(), features }
    }
}

impl L0Distribution {
    fn of(counts: &[u64]) -> Option<Self> {
        let maximum = counts.iter().rposition(|&rows| rows > 0)?;
        let minimum = counts.iter().position(|&rows| rows > 0)?;
        let rows: u64 = counts.iter().sum();
        let quantile = |quarters: u64| {
            let mut below = 0;
            let reached = |&rows_of: &u64| {
                below += rows_of;
                u128::from(below) * 4 >= u128::from(rows) * u128::from(quarters)
            };
            counts.iter().position(reached).unwrap_or(maximum)
        };
        let quartiles = [quantile(1), quantile(2), quantile(3)];
        Some(Self { minimum, quartiles, maximum, counts: counts[..=maximum].to_vec() })
    }
}

/// Counts in folds.
struct Folds<'a> {
    pairs: &'a PairCounts,
    /// Ones of each fold, `[features]`.
    ones: Vec<Vec<u64>>,
}

impl FoldCounts for Folds<'_> {
    fn features(&self) -> usize {
        self.ones[0].len()
    }

    fn folds(&self) -> usize {
        FOLDS
    }

    fn rows(&self, fold: usize) -> u64 {
        self.pairs.rows(fold)
    }

    fn ones(&self, fold: usize, feature: usize) -> u64 {
        self.ones[fold][feature]
    }

    fn both(&self, fold: usize, i: usize, j: usize) -> u64 {
        u64::from(self.pairs.both(fold)[pair_index(i, j)])
    }
}

impl Joint {
    /// `None` with too few clusters to hold some out, or to pair.
    fn of(pairs: &PairCounts, buckets: &Buckets, collisions: Collisions, features: usize) -> Option<Self> {
        let ones_of = |fold: usize| {
            let mut ones = vec![0; features];
            for bucket in (fold..BUCKETS).step_by(FOLDS) {
                let of_bucket = buckets.ones_of(bucket);
                ones.iter_mut().zip(of_bucket).for_each(|(sum, &ones)| *sum += u64::from(ones));
            }
            ones
        };
        let tree = held_out_bits(&Folds { pairs, ones: (0..FOLDS).map(ones_of).collect() });
        if tree.degrees_of_freedom == 0 {
            return None;
        }
        let each = 0.5 + LEVEL / 2.0;
        let upper_bits = tree.upper_bits(each);
        let lower_bits = lower_entropy_bits(collisions.collisions, collisions.pairs, each);
        Some(Self {
            lower_bits: lower_bits.min(upper_bits),
            upper_bits,
            level: LEVEL,
            collision: CollisionReport { pairs: collisions.pairs, collisions: collisions.collisions },
            tree: TreeReport { folds: FOLDS, bits: tree.bits, standard_error: tree.standard_error },
        })
    }
}

impl PairReport {
    fn of(pairs: &PairCounts, counts: &Statistics, joint: Option<&Joint>, sum_bits: f64) -> Self {
        let both = |i: usize, j: usize| {
            let at = pair_index(i, j);
            (0..FOLDS).map(|fold| u64::from(pairs.both(fold)[at])).sum()
        };
        let strongest = strongest(counts.ones(), counts.rows(), both, pairs_of_block(BLOCK).max(STRONGEST));
        let bounds = |joint: &Joint| Bounds {
            lower_bits: (sum_bits - joint.upper_bits).max(0.0),
            upper_bits: (sum_bits - joint.lower_bits).max(0.0),
        };
        Self {
            memory_bytes: PairCounts::bytes(counts.features()),
            total_correlation: joint.map(bounds),
            block: BlockReport::of(block_of(&strongest, counts.ones(), counts.rows(), both, BLOCK)),
            strongest: strongest.into_iter().take(STRONGEST).collect(),
        }
    }
}

impl SubsetReport {
    fn of(subset: &Subset) -> Self {
        let counts: Vec<u64> = subset.counts().values().copied().collect();
        let (mean, standard_deviation) = nsb(&counts, 1 << subset.features().len());
        Self {
            features: subset.features().to_vec(),
            patterns: counts.len(),
            plug_in: plug_in(&counts),
            miller_madow: miller_madow(&counts),
            chao_shen: chao_shen(&counts),
            nsb: Posterior { mean, standard_deviation },
        }
    }
}

use crate::batches::Batches;
use crate::buckets::Buckets;
use crate::pair_counts::{FOLDS, PairCounts};
use crate::sample::Sample;
use crate::subset::Subset;
use crate::{BitMatrix, CodesError, Statistics};

/// What rows belong together: rows of a cluster are like each other, clusters are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clusters {
    /// Each row is one.
    Row,
    /// The rows of a sequence (document, request, prompt) are one.
    Sequence,
}

/// What is counted beside ones, L0 and buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// Ones in each batch of 512 rows, for the published average over batches.
    pub batches: bool,
    /// How often each two features are on together, and a sample of clusters for the collision bound.
    pub pairs: bool,
    /// How often each pattern of these features occurs; at most [`Subset::MOST`] of them.
    pub subset: Vec<usize>,
}

/// Everything that is counted on codes in one pass. All of it is integers, and memory does not depend on the rows.
///
/// Merging adds: any order and any grouping of the same rows gives the same integers, if rows keep their numbers and
/// parts begin at multiples of [`BATCH`](crate::BATCH) rows (where batches are counted).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeStatistics {
    features: usize,
    rows: u64,
    /// Unknown as long as there are no rows.
    clusters: Option<Clusters>,
    /// Rows by their number of ones, `[features + 1]`.
    l0: Vec<u64>,
    buckets: Buckets,
    batches: Option<Batches>,
    joint: Option<Joint>,
    subset: Option<Subset>,
}

/// What the bounds of the joint entropy are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Joint {
    pairs: PairCounts,
    sample: Sample,
}

impl CodeStatistics {
    /// Bits of a code, at most: their buckets take 4 GiB.
    pub const MOST_FEATURES: usize = 1 << 24;

    /// No rows yet, of codes with `features` bits.
    ///
    /// # Errors
    /// [`CodesError::Wide`] for more than [`CodeStatistics::MOST_FEATURES`]; [`CodesError::Subset`] for features that are not
    /// there, given twice or too many; [`CodesError::Memory`] if pair counts do not fit into memory.
    pub fn new(features: usize, counting: &Counting) -> Result<Self, CodesError> {
        if features > Self::MOST_FEATURES {
            return Err(CodesError::Wide { features });
        }
        let joint = if counting.pairs {
            Some(Joint { pairs: PairCounts::new(features)?, sample: Sample::default() })
        } else {
            None
        };
        let subset = if counting.subset.is_empty() {
            None
        } else {
            Some(Subset::new(features, counting.subset.clone())?)
        };
        Ok(Self {
            features,
            rows: 0,
            clusters: None,
            l0: vec![0; features + 1],
            buckets: Buckets::default(),
            batches: counting.batches.then(Batches::default),
            joint,
            subset,
        })
    }

    /// Bytes that pair counts of codes with `features` bits take: 4 for each pair and fold.
    pub fn pair_bytes(features: usize) -> u64 {
        PairCounts::bytes(features)
    }

    /// Counts the rows of `codes`, which are numbered from `first_row` on; `sequences` says which sequence each is of.
    ///
    /// # Errors
    /// [`CodesError::Width`]; [`CodesError::Clusters`] if sequences are known of some rows only; [`CodesError::TooMany`].
    /// Nothing is counted then.
    ///
    /// # Panics
    /// If there are not as many sequences as rows.
    pub fn add(
        &mut self,
        codes: &BitMatrix,
        first_row: u64,
        sequences: Option<&[i64]>,
    ) -> Result<(), CodesError> {
        if let Some(sequences) = sequences {
            assert_eq!(sequences.len(), codes.rows(), "one sequence a row");
        }
        if codes.rows() == 0 {
            return self.check_width(codes.features());
        }
        let clusters = if sequences.is_some() { Clusters::Sequence } else { Clusters::Row };
        self.check(codes.features(), codes.rows() as u64, Some(clusters))?;
        for row in 0..codes.rows() {
            let number = first_row + row as u64;
            self.add_row(number, sequences.map(|sequences| sequences[row]), codes.row(row));
        }
        if let Some(batches) = &mut self.batches {
            batches.add(codes, first_row);
        }
        Ok(())
    }

    /// Counts one row in all but batches; whoever calls has checked it.
    pub(crate) fn add_row(&mut self, number: u64, sequence: Option<i64>, words: &[u64]) {
        self.clusters = Some(if sequence.is_some() { Clusters::Sequence } else { Clusters::Row });
        let cluster = sequence.map_or(number, |sequence| sequence as u64);
        self.rows += 1;
        self.l0[words.iter().map(|word| word.count_ones() as usize).sum::<usize>()] += 1;
        let bucket = self.buckets.add(cluster, words, self.features);
        if let Some(Joint { pairs, sample }) = &mut self.joint {
            pairs.add(bucket % FOLDS, words);
            sample.add(number, cluster, words);
        }
        if let Some(subset) = &mut self.subset {
            subset.add(words);
        }
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// [`CodesError::Width`], [`CodesError::Clusters`], [`CodesError::TooMany`]; [`CodesError::Counting`] if different
    /// things were counted. Nothing is added then.
    pub fn merge(&mut self, other: &CodeStatistics) -> Result<(), CodesError> {
        self.check(other.features, other.rows, other.clusters)?;
        if self.counting() != other.counting() {
            return Err(CodesError::Counting);
        }
        self.clusters = self.clusters.or(other.clusters);
        self.rows += other.rows;
        self.l0.iter_mut().zip(&other.l0).for_each(|(a, b)| *a += b);
        self.buckets.merge(&other.buckets);
        if let (Some(a), Some(b)) = (&mut self.batches, &other.batches) {
            a.merge(b);
        }
        if let (Some(a), Some(b)) = (&mut self.joint, &other.joint) {
            a.pairs.merge(&b.pairs);
            a.sample.merge(&b.sample);
        }
        if let (Some(a), Some(b)) = (&mut self.subset, &other.subset) {
            a.merge(b);
        }
        Ok(())
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bits in a code (d_sae).
    pub fn features(&self) -> usize {
        self.features
    }

    /// What the intervals take for independent, if there are rows.
    pub fn clusters(&self) -> Option<Clusters> {
        self.clusters
    }

    /// Rows by their number of ones, `[features + 1]`.
    pub fn l0(&self) -> &[u64] {
        &self.l0
    }

    /// Rows and ones of each bucket.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// Ones of all features over all rows.
    pub fn counts(&self) -> Statistics {
        Statistics::from_counts(self.rows, self.buckets.ones(self.features))
    }

    /// Ones by batches, where they are counted.
    pub fn batches(&self) -> Option<&Batches> {
        self.batches.as_ref()
    }

    /// Counts of pairs, where they are counted.
    pub fn pairs(&mut self) -> Option<&PairCounts> {
        self.settle();
        self.settled_pairs()
    }

    /// Counts the pairs of the rows that wait for it.
    pub(crate) fn settle(&mut self) {
        if let Some(joint) = &mut self.joint {
            joint.pairs.settle();
        }
    }

    /// Counts of pairs, once [`CodeStatistics::settle`] was called.
    pub(crate) fn settled_pairs(&self) -> Option<&PairCounts> {
        self.joint.as_ref().map(|joint| &joint.pairs)
    }

    /// The sample of clusters, where pairs are counted.
    pub fn sample(&self) -> Option<&Sample> {
        self.joint.as_ref().map(|joint| &joint.sample)
    }

    /// Counts of patterns, where a subset was asked for.
    pub fn subset(&self) -> Option<&Subset> {
        self.subset.as_ref()
    }

    /// From counts that were kept; `pairs` and `sample` go together.
    ///
    /// # Panics
    /// If `l0` is not `[features + 1]`.
    pub fn from_counts(
        clusters: Option<Clusters>,
        l0: Vec<u64>,
        buckets: Buckets,
        batches: Option<Batches>,
        joint: Option<(PairCounts, Sample)>,
        subset: Option<Subset>,
    ) -> Self {
        let features = l0.len().checked_sub(1).expect("rows with 0 ones and more");
        let rows = buckets.rows().iter().sum();
        let joint = joint.map(|(pairs, sample)| Joint { pairs, sample });
        Self { features, rows, clusters, l0, buckets, batches, joint, subset }
    }

    /// What is counted.
    pub fn counting(&self) -> Counting {
        Counting {
            batches: self.batches.is_some(),
            pairs: self.joint.is_some(),
            subset: self.subset.as_ref().map_or(vec![], |subset| subset.features().to_vec()),
        }
    }

    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> u64 {
        let joint = self.joint.as_ref().map_or(0, |joint| joint.pairs.bytes_held() + joint.sample.bytes());
        8 * self.l0.len() as u64 + self.buckets.bytes() + joint
    }

    fn check_width(&self, features: usize) -> Result<(), CodesError> {
        if features != self.features {
            return Err(CodesError::Width { expected: self.features, got: features });
        }
        Ok(())
    }

    fn check(&self, features: usize, rows: u64, clusters: Option<Clusters>) -> Result<(), CodesError> {
        self.check_width(features)?;
        if let (Some(a), Some(b)) = (self.clusters, clusters)
            && a != b
        {
            return Err(CodesError::Clusters);
        }
        // buckets and pairs are counted in 32 bits
        if self.rows.saturating_add(rows) > u64::from(u32::MAX) {
            return Err(CodesError::TooMany);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BATCH, Collisions, pair_index};
    use proptest::prelude::*;

    fn random(rows: usize, features: usize, seed: u64) -> BitMatrix {
        let mut codes = BitMatrix::zeros(rows, features);
        for row in 0..rows {
            for feature in 0..features {
                let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&(row * 7919 + feature).to_le_bytes(), seed);
                // some never on, some always, the others from rare to dense
                codes.set(row, feature, hash % 100 < [0, 100, 3, 40, 80][feature % 5]);
            }
        }
        codes
    }

    fn part(codes: &BitMatrix, rows: std::ops::Range<usize>) -> BitMatrix {
        BitMatrix::from_bytes(&codes.to_bytes(rows.clone()), rows.len(), codes.features()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_order_and_grouping_counts_the_same(
            batches in 1usize..6, tail in 0usize..BATCH, features in 1usize..70, seed: u64, by_sequence: bool,
            parts in 1usize..5, reverse: bool, chunk in 1usize..900,
        ) {
            let rows = batches * BATCH + tail;
            let codes = random(rows, features, seed);
            let sequences: Vec<i64> = (0..rows).map(|row| (row / 7) as i64 - 3).collect();
            let subset = (0..features.min(4)).rev().collect();
            let counting = Counting { batches: true, pairs: true, subset };
            let count = |range: std::ops::Range<usize>| {
                let mut statistics = CodeStatistics::new(features, &counting).unwrap();
                for start in range.clone().step_by(chunk) {
                    let rows = start..range.end.min(start + chunk);
                    let of = by_sequence.then(|| &sequences[rows.clone()]);
                    statistics.add(&part(&codes, rows), start as u64, of).unwrap();
                }
                statistics
            };
            let all = count(0..rows);
            // parts begin at batches
            let total = rows.div_ceil(BATCH);
            let mut counted: Vec<_> = (0..parts)
                .map(|at| count((at * total / parts * BATCH).min(rows)..((at + 1) * total / parts * BATCH).min(rows)))
                .collect();
            if reverse {
                counted.reverse();
            }
            let mut merged = CodeStatistics::new(features, &counting).unwrap();
            counted.iter().for_each(|part| merged.merge(part).unwrap());
            prop_assert_eq!(merged.batches().unwrap().counts(), all.batches().unwrap().counts());
            let batches = merged.batches().unwrap().counts().values().flatten().sum::<u64>();
            prop_assert_eq!(batches, (total * features) as u64);
            let without_batches = |mut statistics: CodeStatistics| {
                statistics.batches = None;
                statistics
            };
            prop_assert_eq!(without_batches(merged), without_batches(all.clone()));

            // against plain loops
            let mut simple = Statistics::new(features);
            simple.add(&codes).unwrap();
            prop_assert_eq!(all.counts(), simple);
            prop_assert_eq!(all.buckets().rows().iter().sum::<u64>(), rows as u64);
            for (ones, &count) in all.l0().iter().enumerate() {
                let expected = codes.ones_per_row().iter().filter(|&&l0| l0 as usize == ones).count();
                prop_assert_eq!(count, expected as u64);
            }
            let mut all = all;
            let pairs = all.pairs().unwrap();
            prop_assert_eq!((0..FOLDS).map(|fold| pairs.rows(fold)).sum::<u64>(), rows as u64);
            for j in 0..features {
                for i in 0..j {
                    let both = (0..rows).filter(|&row| codes.get(row, i) && codes.get(row, j)).count();
                    let counted: u32 = (0..FOLDS).map(|fold| pairs.both(fold)[pair_index(i, j)]).sum();
                    prop_assert_eq!(u64::from(counted), both as u64);
                    prop_assert_eq!(pairs.both_of(j, i), both as u64);
                }
            }
        }
    }

    #[test]
    fn the_sample_is_of_least_priority_whatever_the_order() {
        use crate::SAMPLE_CLUSTERS;
        let rows = SAMPLE_CLUSTERS + 5000;
        let codes = random(rows, 9, 1);
        let counting = Counting { pairs: true, ..Counting::default() };
        let mut all = CodeStatistics::new(9, &counting).unwrap();
        all.add(&codes, 0, None).unwrap();
        let mut halves = CodeStatistics::new(9, &counting).unwrap();
        let mut first = halves.clone();
        halves.add(&part(&codes, 30_000..rows), 30_000, None).unwrap();
        first.add(&part(&codes, 0..30_000), 0, None).unwrap();
        halves.merge(&first).unwrap();
        let sample = all.sample().unwrap();
        assert_eq!(sample.entries().len(), SAMPLE_CLUSTERS);
        assert_eq!(sample, halves.sample().unwrap());
        let Collisions { pairs, collisions } = sample.collisions();
        assert_eq!(pairs, SAMPLE_CLUSTERS as u64 / 2);
        // never, always, .03, .4, .8, never, always, .03, .4: the chance of equal rows in closed form
        let same = |p: f64| p * p + (1.0 - p) * (1.0 - p);
        let expected = pairs as f64 * same(0.03).powi(2) * same(0.4).powi(2) * same(0.8);
        assert!((collisions as f64 - expected).abs() < 4.0 * expected.sqrt(), "{collisions} {expected}");
    }

    #[test]
    fn a_sequence_is_in_one_pair_at_most() {
        let counting = Counting { pairs: true, ..Counting::default() };
        let codes = BitMatrix::zeros(10, 3);
        let pairs = |sequences: &[i64]| {
            let mut statistics = CodeStatistics::new(3, &counting).unwrap();
            statistics.add(&codes, 0, Some(sequences)).unwrap();
            statistics.sample().unwrap().collisions().pairs
        };
        assert_eq!(pairs(&[7; 10]), 0);
        assert_eq!(pairs(&[7, 7, 7, 7, 7, 8, 8, 8, 8, 8]), 1);
        assert_eq!(pairs(&[7, 8, 9, 1, 5, 5, 1, 9, 8, 7]), 2);
        assert_eq!(pairs(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 5);
    }

    /// Half of the rows have one code, but they come in one of 101 sequences.
    #[test]
    fn rows_of_long_sequences_collide_as_often_as_rows_do() {
        let (long, short) = (400, 40_000);
        let mut codes = BitMatrix::zeros(long * 100 + short, 17);
        let mut sequences: Vec<i64> = (0..long * 100).map(|row| (row / 100) as i64).collect();
        for at in 0..short {
            (0..16).for_each(|bit| codes.set(long * 100 + at, bit, at >> bit & 1 == 1));
            codes.set(long * 100 + at, 16, true);
            sequences.push((long + at) as i64);
        }
        let mut statistics =
            CodeStatistics::new(17, &Counting { pairs: true, ..Counting::default() }).unwrap();
        statistics.add(&codes, 0, Some(&sequences)).unwrap();
        let Collisions { pairs, collisions } = statistics.sample().unwrap().collisions();
        // a hundredth of the short ones is kept
        assert!((350..450).contains(&pairs), "{pairs}");
        let expected = 0.25 * pairs as f64;
        assert!(
            (collisions as f64 - expected).abs() < 4.0 * (0.75 * expected).sqrt(),
            "{collisions} of {pairs}"
        );
        // 1 bit, and half of the rows are one of 40,000
        let joint = statistics.report().joint.flatten().unwrap();
        assert!(joint.lower_bits < 1.0 + 0.5 * (short as f64).log2(), "{joint:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused_and_leaves_counts_as_they_were() {
        let none = Counting::default();
        let mut statistics = CodeStatistics::new(3, &none).unwrap();
        statistics.add(&BitMatrix::zeros(2, 3), 0, None).unwrap();
        let before = statistics.clone();
        let refused = statistics.add(&BitMatrix::zeros(1, 3), 2, Some(&[4])).unwrap_err();
        assert!(matches!(refused, CodesError::Clusters), "{refused}");
        assert!(statistics.add(&BitMatrix::zeros(1, 4), 2, None).is_err());
        let pairs = CodeStatistics::new(3, &Counting { pairs: true, ..none.clone() }).unwrap();
        assert!(matches!(statistics.merge(&pairs).unwrap_err(), CodesError::Counting));
        assert_eq!(statistics, before);
        for features in [CodeStatistics::MOST_FEATURES + 1, usize::MAX] {
            assert!(matches!(CodeStatistics::new(features, &none), Err(CodesError::Wide { .. })));
        }
        for features in [vec![3], vec![1, 1], (0..21).collect()] {
            let refused = CodeStatistics::new(3, &Counting { subset: features, ..none.clone() }).unwrap_err();
            assert!(matches!(refused, CodesError::Subset { .. }), "{refused}");
        }
    }
}

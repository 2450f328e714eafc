use crate::{BitMatrix, CodesError, pair_index};
use bae_kernels::counts;

/// Parts that pairs are counted in: trees are learned on all of them but one and measured on that one.
pub const FOLDS: usize = 4;

/// Rows that wait until they are counted together: as many as cost least for each row.
const WAITING: usize = counts::PAIR_ROWS;

/// How often each two features are on together, in each of [`FOLDS`] parts of the rows.
#[derive(Clone, Debug)]
pub struct PairCounts {
    folds: Vec<Fold>,
}

#[derive(Clone, Debug)]
struct Fold {
    /// Rows, those that wait included.
    rows: u64,
    /// Rows in which both are on, at [`pair_index`]; without those that wait.
    both: Vec<u32>,
    waiting: BitMatrix,
}

impl PairCounts {
    /// Bytes that the counts of codes with `features` bits take: 4 for each pair and fold.
    pub fn bytes(features: usize) -> u64 {
        let features = features as u64;
        features * features.saturating_sub(1) / 2 * 4 * FOLDS as u64
    }

    pub(crate) fn new(features: usize) -> Result<Self, CodesError> {
        let pairs = features.saturating_mul(features.saturating_sub(1)) / 2;
        let fold = || {
            let mut both = vec![];
            both.try_reserve_exact(pairs)
                .map_err(|_| CodesError::Memory { features, bytes: Self::bytes(features) })?;
            both.resize(pairs, 0);
            Ok(Fold { rows: 0, both, waiting: BitMatrix::zeros(0, features) })
        };
        Ok(Self { folds: (0..FOLDS).map(|_| fold()).collect::<Result<_, _>>()? })
    }

    /// From counts that were kept: for each fold rows, and rows in which both are on by [`pair_index`].
    ///
    /// # Panics
    /// If there are not as many.
    pub fn from_counts(features: usize, folds: Vec<(u64, Vec<u32>)>) -> Self {
        assert_eq!(folds.len(), FOLDS, "folds");
        let fold = |(rows, both): (u64, Vec<u32>)| {
            assert_eq!(both.len(), features * features.saturating_sub(1) / 2, "pairs");
            Fold { rows, both, waiting: BitMatrix::zeros(0, features) }
        };
        Self { folds: folds.into_iter().map(fold).collect() }
    }

    /// Rows of a fold.
    pub fn rows(&self, fold: usize) -> u64 {
        self.folds[fold].rows
    }

    /// Rows of a fold in which both features of a pair are on, by [`pair_index`].
    pub fn both(&self, fold: usize) -> &[u32] {
        debug_assert_eq!(self.folds[fold].waiting.rows(), 0, "settled");
        &self.folds[fold].both
    }

    /// Rows of all folds in which both features are on.
    pub fn both_of(&self, i: usize, j: usize) -> u64 {
        let at = pair_index(i.min(j), i.max(j));
        self.folds.iter().map(|fold| u64::from(fold.both[at])).sum()
    }

    /// Bytes of memory that these take, the rows that wait included.
    pub(crate) fn bytes_held(&self) -> u64 {
        let held = |fold: &Fold| 4 * fold.both.len() as u64 + 8 * fold.waiting.words().len() as u64;
        self.folds.iter().map(held).sum()
    }

    /// Counts a row of a fold, by and by.
    pub(crate) fn add(&mut self, fold: usize, words: &[u64]) {
        let fold = &mut self.folds[fold];
        fold.rows += 1;
        fold.waiting.push(words);
        if fold.waiting.rows() == WAITING {
            fold.settle();
        }
    }

    /// Counts the rows that wait.
    pub(crate) fn settle(&mut self) {
        self.folds.iter_mut().for_each(Fold::settle);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (a, b) in self.folds.iter_mut().zip(&other.folds) {
            a.rows += b.rows;
            a.both.iter_mut().zip(&b.both).for_each(|(a, b)| *a += b);
            a.waiting.append(&b.waiting).expect("one width");
            a.settle();
        }
    }
}

impl PartialEq for PairCounts {
    fn eq(&self, other: &Self) -> bool {
        // a copy of all counts only where it must be
        let settled = |counts: &Self| {
            let mut counts = counts.clone();
            counts.settle();
            counts
        };
        if self.folds.iter().any(|fold| fold.waiting.rows() > 0) {
            return settled(self) == *other;
        }
        if other.folds.iter().any(|fold| fold.waiting.rows() > 0) {
            return *self == settled(other);
        }
        self.folds.iter().zip(&other.folds).all(|(a, b)| a.rows == b.rows && a.both == b.both)
    }
}

impl Eq for PairCounts {}

impl Fold {
    fn settle(&mut self) {
        let Self { both, waiting, .. } = self;
        counts::pairs(waiting.words(), waiting.rows(), waiting.features(), both);
        self.waiting.clear();
    }
}

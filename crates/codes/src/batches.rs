use std::collections::BTreeMap;

use crate::{BitMatrix, entropy};

/// Rows of a batch.
pub const BATCH: usize = 512;

/// Ones in each batch of [`BATCH`] rows, for the average over batches that published code reports as the entropy of the
/// whole. What is kept is how many features have how many ones in a batch: whole numbers that can be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batches {
    /// By rows of the batch: how often a feature has 0, 1, … ones in such a batch, `[rows + 1]`.
    counts: BTreeMap<usize, Vec<u64>>,
    /// The batch that is not full yet.
    open: Option<Open>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    next_row: u64,
    rows: usize,
    ones: Vec<u64>,
}

impl Batches {
    /// From counts that were kept: for each size of a batch `[rows + 1]` of them.
    pub fn from_counts(counts: BTreeMap<usize, Vec<u64>>) -> Self {
        Self { counts, open: None }
    }

    /// By rows of a batch, how often a feature has 0, 1, … ones in such a batch, `[rows + 1]`: the last, smaller batch
    /// included.
    pub fn counts(&self) -> BTreeMap<usize, Vec<u64>> {
        let mut closed = self.clone();
        closed.close();
        closed.counts
    }

    /// Mean over batches, whatever their size, of Σ_j H(p_j) in the batch, in bits: what published training code prints
    /// (with its 1e-10 inside the logarithms). It runs low, because in few rows every feature looks more certain than it is.
    pub fn mean_entropy_bits(&self, features: usize) -> f64 {
        let (mut sum, mut batches) = (0.0, 0);
        for (size, counts) in self.counts() {
            let bits = |(ones, &count): (usize, &u64)| {
                if count == 0 { 0.0 } else { count as f64 * entropy::smoothed(ones as f64 / size as f64) }
            };
            sum += counts.iter().enumerate().map(bits).sum::<f64>();
            batches += counts.iter().sum::<u64>() / features.max(1) as u64;
        }
        if batches == 0 { 0.0 } else { sum / batches as f64 }
    }

    pub(crate) fn add(&mut self, codes: &BitMatrix, first_row: u64) {
        if self.open.as_ref().is_some_and(|open| open.next_row != first_row) {
            self.close();
        }
        let mut row = 0;
        while row < codes.rows() {
            let open = self.open.get_or_insert_with(|| Open {
                next_row: first_row + row as u64,
                rows: 0,
                ones: vec![0; codes.features()],
            });
            let count = (BATCH - open.rows).min(codes.rows() - row);
            codes.add_ones(row..row + count, &mut open.ones);
            open.rows += count;
            open.next_row += count as u64;
            row += count;
            if open.rows == BATCH {
                self.close();
            }
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.close();
        for (size, counts) in other.counts() {
            let sum = self.counts.entry(size).or_insert_with(|| vec![0; size + 1]);
            sum.iter_mut().zip(counts).for_each(|(a, b)| *a += b);
        }
    }

    fn close(&mut self) {
        if let Some(Open { rows, ones, .. }) = self.open.take() {
            let counts = self.counts.entry(rows).or_insert_with(|| vec![0; rows + 1]);
            ones.iter().for_each(|&ones| counts[ones as usize] += 1);
        }
    }
}

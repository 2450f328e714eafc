use std::collections::{BinaryHeap, HashSet};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Rows in a sample, at most.
pub const SAMPLE_ROWS: usize = 1 << 16;

/// A row of a sample. The order is that of the priorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Hash of the row's number.
    pub priority: u64,
    /// Cluster (sequence, or the row itself) that it is of.
    pub cluster: u64,
    /// Hash of its code: equal for equal codes, and different for different ones but for a chance of 2⁻¹²⁸.
    pub code: u128,
}

/// The rows of least priority, at most [`SAMPLE_ROWS`]: a sample without replacement that does not depend on the order
/// in which rows come, and that of a merged count is the merged sample (Cohen & Kaplan 2007, bottom-k sketches).
#[derive(Clone, Debug, Default)]
pub struct Sample {
    heap: BinaryHeap<Entry>,
}

impl PartialEq for Sample {
    fn eq(&self, other: &Self) -> bool {
        self.entries() == other.entries()
    }
}

impl Eq for Sample {}

impl Sample {
    /// From entries that were kept.
    pub fn from_entries(entries: Vec<Entry>) -> Self {
        let mut sample = Self { heap: entries.into() };
        sample.shrink();
        sample
    }

    /// The rows, by priority.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.heap.clone().into_vec();
        entries.sort_unstable();
        entries
    }

    /// Pairs of rows of different clusters, each cluster in one pair at most, and how many of them have the same code.
    ///
    /// Of each cluster the row of least priority is taken. Which rows make a pair depends on priorities and clusters, never on codes: the
    /// pairs are as independent as the clusters are.
    pub fn collisions(&self) -> Collisions {
        let mut used = HashSet::new();
        let mut waiting: Option<Entry> = None;
        let mut counted = Collisions { pairs: 0, collisions: 0 };
        for entry in self.entries().into_iter().filter(|entry| used.insert(entry.cluster)) {
            match waiting.take() {
                Some(other) => {
                    counted.pairs += 1;
                    counted.collisions += u64::from(other.code == entry.code);
                }
                None => waiting = Some(entry),
            }
        }
        counted
    }

    pub(crate) fn add(&mut self, row: u64, cluster: u64, words: &[u64]) {
        let priority = xxh3_64(&row.to_le_bytes());
        if self.heap.len() < SAMPLE_ROWS || self.heap.peek().is_some_and(|last| priority <= last.priority) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            self.heap.push(Entry { priority, cluster, code: xxh3_128(&bytes) });
            self.shrink();
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.heap.extend(other.heap.iter());
        self.shrink();
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }

    fn shrink(&mut self) {
        while self.heap.len() > SAMPLE_ROWS {
            self.heap.pop();
        }
    }
}

/// What pairs of rows say about how likely two rows are to have the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collisions {
    /// Pairs of rows of different clusters.
    pub pairs: u64,
    /// Those that have the same code.
    pub collisions: u64,
}

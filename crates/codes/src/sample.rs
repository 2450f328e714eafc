use std::collections::BTreeMap;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

/// Clusters in a sample, at most.
pub const SAMPLE_CLUSTERS: usize = 1 << 16;

/// A cluster of a sample, and one row of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The sequence, or the row itself.
    pub cluster: u64,
    /// Rows of the cluster that were counted.
    pub rows: u64,
    /// The least hash of the number of a row: that row is taken, as likely as any other of the cluster.
    pub priority: u64,
    /// Hash of that row's code: equal for equal codes, and different for different ones but for a chance of 2⁻¹²⁸.
    pub code: u128,
}

/// The clusters of least hash, at most [`SAMPLE_CLUSTERS`], each with its rows and one of them: a sample without replacement that
/// does not depend on the order in which rows come, and that of a merged count is the merged sample (Cohen & Kaplan 2007,
/// bottom-k sketches). A cluster that was pushed out never comes back, so the rows of those that stay are counted in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// By hash of the cluster's number, and that number.
    clusters: BTreeMap<(u64, u64), Drawn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Drawn {
    rows: u64,
    priority: u64,
    code: u128,
}

impl Sample {
    /// From entries that were kept.
    pub fn from_entries(entries: Vec<Entry>) -> Self {
        let mut sample = Self::default();
        for Entry { cluster, rows, priority, code } in entries {
            sample.take(key(cluster), Drawn { rows, priority, code });
        }
        sample
    }

    /// What is in the sample, by hash of the cluster.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |(&(_, cluster), &Drawn { rows, priority, code }): (&(u64, u64), &Drawn)| Entry {
            cluster,
            rows,
            priority,
            code,
        };
        self.clusters.iter().map(entry).collect()
    }

    /// Pairs of rows of different clusters, each cluster in one pair at most, and how many of them have the same code.
    ///
    /// One row of each cluster would make rows of long clusters rarer than they are, and bound the entropy of other codes than
    /// those counted. A cluster is therefore kept with a chance in proportion to its rows, by rejection: all where they are equally
    /// long, else as many as all rows are times the longest. Which rows make a pair depends on the numbers of rows and clusters,
    /// never on codes: the pairs are as independent as the clusters are.
    pub fn collisions(&self) -> Collisions {
        let longest = self.clusters.values().map(|drawn| drawn.rows).max().unwrap_or(0);
        let is_kept = |cluster: u64, rows: u64| {
            let hash = xxh3_64_with_seed(&cluster.to_le_bytes(), KEEP_SEED);
            ((u128::from(hash) * u128::from(longest)) >> 64) < u128::from(rows)
        };
        let mut kept = self
            .clusters
            .iter()
            .filter(|((_, cluster), drawn)| is_kept(*cluster, drawn.rows))
            .map(|(_, drawn)| drawn.code);
        let mut counted = Collisions { pairs: 0, collisions: 0 };
        while let (Some(one), Some(other)) = (kept.next(), kept.next()) {
            counted.pairs += 1;
            counted.collisions += u64::from(one == other);
        }
        counted
    }

    pub(crate) fn add(&mut self, row: u64, cluster: u64, words: &[u64]) {
        let key = key(cluster);
        if self.clusters.len() == SAMPLE_CLUSTERS
            && self.clusters.last_key_value().is_some_and(|last| *last.0 < key)
        {
            return;
        }
        let priority = xxh3_64(&row.to_le_bytes());
        if let Some(drawn) = self.clusters.get_mut(&key)
            && drawn.priority < priority
        {
            drawn.rows += 1;
            return;
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.take(key, Drawn { rows: 1, priority, code: xxh3_128(&bytes) });
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        other.clusters.iter().for_each(|(&key, &drawn)| self.take(key, drawn));
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        (self.clusters.len() * size_of::<((u64, u64), Drawn)>()) as u64
    }

    fn take(&mut self, key: (u64, u64), new: Drawn) {
        self.clusters
            .entry(key)
            .and_modify(|drawn| {
                drawn.rows = drawn.rows.saturating_add(new.rows);
                // by the code too, for rows that were given one number
                (drawn.priority, drawn.code) = (drawn.priority, drawn.code).min((new.priority, new.code));
            })
            .or_insert(new);
        if self.clusters.len() > SAMPLE_CLUSTERS {
            self.clusters.pop_last();
        }
    }
}

/// Decides which clusters make pairs, by other hashes than those that chose them.
const KEEP_SEED: u64 = 1;

fn key(cluster: u64) -> (u64, u64) {
    (xxh3_64(&cluster.to_le_bytes()), cluster)
}

/// What pairs of rows say about how likely two rows are to have the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collisions {
    /// Pairs of rows of different clusters.
    pub pairs: u64,
    /// Those that have the same code.
    pub collisions: u64,
}

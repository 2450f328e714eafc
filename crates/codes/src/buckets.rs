use xxhash_rust::xxh3::xxh3_64;

/// Buckets that clusters of rows fall into.
pub const BUCKETS: usize = 64;

/// Rows and ones in [`BUCKETS`] random groups of clusters: what the spread of a mean over clusters is estimated from
/// (the method of random groups: Wolter, *Introduction to Variance Estimation*, 2nd ed., chapter 2).
///
/// A cluster's bucket is decided by its number alone, so the rows of a cluster may come at any time, in any order and in
/// different parts of a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    rows: Vec<u64>,
    /// For each bucket its ones, `[features]`; empty as long as it has no row.
    ones: Vec<Vec<u32>>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { rows: vec![0; BUCKETS], ones: vec![vec![]; BUCKETS] }
    }
}

impl Buckets {
    /// From counts that were kept: rows `[BUCKETS]`, ones `[BUCKETS, features]`.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn from_counts(rows: Vec<u64>, ones: &[u32], features: usize) -> Self {
        assert_eq!((rows.len(), ones.len()), (BUCKETS, BUCKETS * features), "counts of all buckets");
        let of = |bucket: usize| match rows[bucket] {
            0 => vec![],
            _ => ones[bucket * features..(bucket + 1) * features].to_vec(),
        };
        Self { ones: (0..BUCKETS).map(of).collect(), rows }
    }

    /// Rows of each bucket, `[BUCKETS]`.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// Ones of the features in one bucket, `[features]`, or empty if it has no rows.
    pub fn ones_of(&self, bucket: usize) -> &[u32] {
        &self.ones[bucket]
    }

    /// Ones of all buckets together, `[features]`.
    pub fn ones(&self, features: usize) -> Vec<u64> {
        let mut sum = vec![0; features];
        for ones in &self.ones {
            sum.iter_mut().zip(ones).for_each(|(sum, &ones)| *sum += u64::from(ones));
        }
        sum
    }

    /// Counts a row of a cluster, and says into which bucket it went.
    pub(crate) fn add(&mut self, cluster: u64, words: &[u64], features: usize) -> usize {
        let bucket = (xxh3_64(&cluster.to_le_bytes()) % BUCKETS as u64) as usize;
        self.rows[bucket] += 1;
        let ones = &mut self.ones[bucket];
        ones.resize(features, 0);
        for (at, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                ones[at * 64 + rest.trailing_zeros() as usize] += 1;
                rest &= rest - 1;
            }
        }
        bucket
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.rows.iter_mut().zip(&other.rows).for_each(|(a, b)| *a += b);
        for (a, b) in self.ones.iter_mut().zip(&other.ones) {
            a.resize(a.len().max(b.len()), 0);
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.ones.iter().map(|ones| 4 * ones.len() as u64).sum()
    }
}

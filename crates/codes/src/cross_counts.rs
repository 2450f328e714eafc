use bae_kernels::counts::{self, Packed};
use xxhash_rust::xxh3::xxh3_64;

use crate::{Agreement, BitMatrix, CodesError};

/// Rows that wait until they are counted together: as many as cost least for each row.
const WAITING: usize = counts::PAIR_ROWS;

/// How often each feature of one code and each of another are on together in the same rows, and, as a control, in rows that do
/// not belong together: there each block of 16,384 rows of the second code is shuffled.
///
/// Takes [`CrossCounts::bytes`], whatever the number of rows.
pub struct CrossCounts {
    rows: u64,
    ones: [Vec<u64>; 2],
    /// `[first, second]`, without the rows that wait; so the shuffled ones.
    both: Vec<u32>,
    shuffled: Vec<u32>,
    waiting: [BitMatrix; 2],
}

impl CrossCounts {
    /// Bytes that the counts of codes with so many features take: 8 for each pair.
    pub fn bytes(first: usize, second: usize) -> u64 {
        8 * first as u64 * second as u64
    }

    /// No rows yet, of codes with so many features.
    ///
    /// # Errors
    /// [`CodesError::CrossMemory`].
    pub fn new(first: usize, second: usize) -> Result<Self, CodesError> {
        let none = || {
            let refused = || CodesError::CrossMemory { first, second, bytes: Self::bytes(first, second) };
            let pairs = first.checked_mul(second).ok_or_else(refused)?;
            let mut counts = vec![];
            counts.try_reserve_exact(pairs).map_err(|_| refused())?;
            counts.resize(pairs, 0);
            Ok(counts)
        };
        let (both, shuffled) = (none()?, none()?);
        Ok(Self {
            rows: 0,
            ones: [vec![0; first], vec![0; second]],
            both,
            shuffled,
            waiting: [BitMatrix::zeros(0, first), BitMatrix::zeros(0, second)],
        })
    }

    /// Counts rows in both codes.
    ///
    /// # Errors
    /// [`CodesError::Rows`] if they are not as many in both, [`CodesError::Width`] if one has not the features named,
    /// [`CodesError::TooMany`] rows; nothing is counted then.
    pub fn add(&mut self, first: &BitMatrix, second: &BitMatrix) -> Result<(), CodesError> {
        if first.rows() != second.rows() {
            return Err(CodesError::Rows { expected: first.rows(), got: second.rows() });
        }
        for (waiting, codes) in self.waiting.iter().zip([first, second]) {
            if waiting.features() != codes.features() {
                return Err(CodesError::Width { expected: waiting.features(), got: codes.features() });
            }
        }
        let rows = self.rows + first.rows() as u64;
        if rows > u64::from(u32::MAX) {
            return Err(CodesError::TooMany);
        }
        self.rows = rows;
        // cut at fixed rows, so that what is shuffled does not depend on how they come
        for row in 0..first.rows() {
            self.waiting[0].push(first.row(row));
            self.waiting[1].push(second.row(row));
            if self.waiting[0].rows() == WAITING {
                self.settle();
            }
        }
        Ok(())
    }

    /// Counts the rows that wait: before counts are read.
    pub fn settle(&mut self) {
        let [first, second] = &self.waiting;
        let rows = first.rows();
        for (codes, ones) in self.waiting.iter().zip(&mut self.ones) {
            counts::ones(codes.words(), rows, codes.features(), ones);
        }
        counts::cross(packed(first), packed(second), rows, &mut self.both);
        counts::cross(packed(first), packed(&shuffled(second)), rows, &mut self.shuffled);
        self.waiting.iter_mut().for_each(BitMatrix::clear);
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows in which each feature is on, of the first code and of the second.
    pub fn ones(&self) -> [&[u64]; 2] {
        [&self.ones[0], &self.ones[1]]
    }

    /// How feature `i` of the first code and `j` of the second agree.
    pub fn agreement(&self, i: usize, j: usize) -> Agreement {
        self.of(&self.both, i, j)
    }

    /// The same where the rows do not belong together.
    pub fn shuffled(&self, i: usize, j: usize) -> Agreement {
        self.of(&self.shuffled, i, j)
    }

    fn of(&self, both: &[u32], i: usize, j: usize) -> Agreement {
        debug_assert_eq!(self.waiting[0].rows(), 0, "settled");
        let [first, second] = &self.ones;
        let both = u64::from(both[i * second.len() + j]);
        Agreement { rows: self.rows, first: first[i], second: second[j], both }
    }
}

fn packed(codes: &BitMatrix) -> Packed<'_> {
    Packed { words: codes.words(), columns: codes.features() }
}

/// The rows in an order that hashes of their numbers decide.
fn shuffled(codes: &BitMatrix) -> BitMatrix {
    let mut order: Vec<usize> = (0..codes.rows()).collect();
    order.sort_by_cached_key(|&row| xxh3_64(&(row as u64).to_le_bytes()));
    let mut shuffled = BitMatrix::zeros(0, codes.features());
    order.into_iter().for_each(|row| shuffled.push(codes.row(row)));
    shuffled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreements;
    use proptest::prelude::*;

    fn codes(rows: usize, features: usize, seed: u64) -> BitMatrix {
        let mut codes = BitMatrix::zeros(rows, features);
        for (row, feature) in (0..rows).flat_map(|row| (0..features).map(move |j| (row, j))) {
            let hash = xxh3_64(&[seed, row as u64, feature as u64].map(u64::to_le_bytes).concat());
            codes.set(row, feature, hash % 8 < feature as u64 % 9);
        }
        codes
    }

    fn rows_of(codes: &BitMatrix, range: std::ops::Range<usize>) -> BitMatrix {
        BitMatrix::from_bytes(&codes.to_bytes(range.clone()), range.len(), codes.features()).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn counts_are_those_of_all_rows_at_once(
            rows in 0usize..150, a in 0usize..70, b in 0usize..70, cut in 0.0f64..1.0, seed: u64
        ) {
            let (first, second) = (codes(rows, a, seed), codes(rows, b, !seed));
            let cut = (rows as f64 * cut) as usize;
            let mut counts = CrossCounts::new(a, b).unwrap();
            for range in [0..cut, cut..rows] {
                counts.add(&rows_of(&first, range.clone()), &rows_of(&second, range)).unwrap();
            }
            counts.settle();
            prop_assert_eq!(counts.rows(), rows as u64);
            let want = agreements(&first, &second).unwrap();
            let control = agreements(&first, &shuffled(&second)).unwrap();
            for (at, (want, control)) in want.into_iter().zip(control).enumerate() {
                prop_assert_eq!(counts.agreement(at / b, at % b), want);
                prop_assert_eq!(counts.shuffled(at / b, at % b), control);
            }
        }
    }

    #[test]
    fn shuffled_rows_are_the_same_rows_in_other_places() {
        let codes = codes(300, 40, 5);
        let other = shuffled(&codes);
        assert_eq!(codes.occurrences().len(), other.occurrences().len());
        let staying = (0..300).filter(|&row| codes.row(row) == other.row(row)).count();
        assert!(staying < 10, "{staying} rows stay");
    }

    /// The control cuts rows into the same blocks however they come.
    #[test]
    fn more_rows_than_are_counted_together() {
        let rows = WAITING + 100;
        let (first, second) = (codes(rows, 7, 1), codes(rows, 5, 2));
        let counted = |chunk: usize| {
            let mut counts = CrossCounts::new(7, 5).unwrap();
            for (first, second) in first.chunks(chunk).zip(second.chunks(chunk)) {
                counts.add(&first, &second).unwrap();
            }
            counts.settle();
            counts
        };
        let (once, parts) = (counted(rows), counted(1000));
        assert_eq!((&once.both, &once.shuffled, &once.ones), (&parts.both, &parts.shuffled, &parts.ones));
        assert_eq!(once.agreement(3, 4), agreements(&first, &second).unwrap()[3 * 5 + 4]);
    }

    #[test]
    fn refuses_what_does_not_belong_together() {
        let mut counts = CrossCounts::new(3, 4).unwrap();
        let zeros = BitMatrix::zeros;
        assert!(matches!(counts.add(&zeros(2, 3), &zeros(3, 4)), Err(CodesError::Rows { .. })));
        assert!(matches!(counts.add(&zeros(2, 3), &zeros(2, 3)), Err(CodesError::Width { .. })));
        assert_eq!(counts.rows(), 0);
        assert!(matches!(CrossCounts::new(1 << 31, 1 << 31), Err(CodesError::CrossMemory { .. })));
    }
}

use std::ops::Range;

/// A set of the rows of some data, one bit for each row there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSet {
    words: Vec<u64>,
    rows: usize,
    count: usize,
}

impl RowSet {
    /// None of `rows` rows.
    pub fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows, count: 0 }
    }

    /// All of `rows` rows.
    pub fn all(rows: usize) -> Self {
        let mut words = vec![u64::MAX; rows.div_ceil(64)];
        if let Some(last) = words.last_mut()
            && !rows.is_multiple_of(64)
        {
            *last = (1 << (rows % 64)) - 1;
        }
        Self { words, rows, count: rows }
    }

    /// Rows of the data, in the set or not.
    pub fn of(&self) -> usize {
        self.rows
    }

    /// Rows in the set.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether all rows are in it.
    pub fn is_all(&self) -> bool {
        self.count == self.rows
    }

    /// Whether `row` is in the set.
    ///
    /// # Panics
    /// If the data has no such row.
    pub fn contains(&self, row: usize) -> bool {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// Puts `row` in, or takes it out.
    ///
    /// # Panics
    /// If the data has no such row.
    pub fn set(&mut self, row: usize, contained: bool) {
        match (self.contains(row), contained) {
            (false, true) => self.count += 1,
            (true, false) => self.count -= 1,
            _ => return,
        }
        self.words[row / 64] ^= 1 << (row % 64);
    }

    /// How many rows of `range` are in the set.
    pub fn count_in(&self, range: Range<usize>) -> usize {
        self.words_in(range).map(|(_, word)| word.count_ones() as usize).sum()
    }

    /// The rows of `range` that are in the set, ascending.
    pub fn rows_in(&self, range: Range<usize>) -> impl Iterator<Item = usize> {
        self.words_in(range).flat_map(|(first, mut word)| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                (word != 0).then(|| {
                    word &= word - 1;
                    first + bit
                })
            })
        })
    }

    /// All rows of the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.rows_in(0..self.rows)
    }

    /// Words with the bits of `range` only, each with its first row.
    fn words_in(&self, range: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
        let end = range.end.min(self.rows);
        let start = range.start.min(end);
        (start / 64..end.div_ceil(64)).map(move |at| {
            let first = 64 * at;
            let mut word = self.words[at];
            if first < start {
                word &= u64::MAX << (start - first);
            }
            if end - first < 64 {
                word &= (1 << (end - first)) - 1;
            }
            (first, word)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn is_a_set(rows in 0usize..300, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..200),
                    full: bool, a in 0usize..310, b in 0usize..310) {
            let mut set = if full { RowSet::all(rows) } else { RowSet::none(rows) };
            let mut expected: BTreeSet<usize> = if full { (0..rows).collect() } else { BTreeSet::new() };
            for (row, contained) in changes {
                if rows > 0 {
                    let row = row.index(rows);
                    set.set(row, contained);
                    if contained { expected.insert(row); } else { expected.remove(&row); }
                }
            }
            prop_assert_eq!(set.count(), expected.len());
            prop_assert!(set.iter().eq(expected.iter().copied()));
            let range = a.min(b)..a.max(b);
            let within: Vec<usize> = expected.iter().copied().filter(|row| range.contains(row)).collect();
            prop_assert_eq!(set.count_in(range.clone()), within.len());
            prop_assert_eq!(set.rows_in(range).collect::<Vec<_>>(), within);
        }
    }
}

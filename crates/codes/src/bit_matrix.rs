use std::collections::BTreeMap;

use bae_kernels::{bits, counts};

/// What can be wrong with packed codes handed in from outside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodesError {
    /// The bytes do not hold `rows` rows.
    #[error("{bytes} bytes cannot be {rows} rows of {features} features: that takes {expected} bytes")]
    Length {
        /// Bytes given.
        bytes: usize,
        /// Rows asked for.
        rows: usize,
        /// Features a row.
        features: usize,
        /// Bytes that would fit.
        expected: usize,
    },
    /// A bit beyond the last feature is set, so the width is wrong or the bytes are damaged.
    #[error(
        "row {row} has a bit set beyond its {features} features: the codes are damaged or of another width"
    )]
    Padding {
        /// First such row, from 0.
        row: usize,
        /// Features a row.
        features: usize,
    },
    /// Sequences are known of some of the rows only.
    #[error(
        "some rows come with a sequence and others without; count either with sequences, or all without, or apart"
    )]
    Clusters,
    /// Counts of different things cannot be added.
    #[error(
        "pairs, batches or a subset of features were counted in one part and not in the other; count all alike"
    )]
    Counting,
    /// Counts of different codes cannot be added.
    #[error("counts {why}; merge only parts of one count")]
    Other {
        /// What they are.
        why: String,
    },
    /// Parts of a whole that do not go together.
    #[error("{why}; merge each part of one division once")]
    Shards {
        /// What is wrong with them.
        why: String,
    },
    /// Counts of many groups.
    #[error("counts of {groups} groups take {bytes} bytes; choose fewer groups (where), or leave pairs out")]
    Groups {
        /// Groups so far.
        groups: usize,
        /// Bytes that they take.
        bytes: u64,
    },
    /// Counts are kept in 32 bits.
    #[error("more than 4,294,967,295 rows cannot be counted together; count and report them in parts")]
    TooMany,
    /// The subset asked for cannot be counted.
    #[error("{why}; name at most 20 different features of the code")]
    Subset {
        /// What is wrong with it.
        why: String,
    },
    /// Codes wider than any model's.
    #[error("codes of {features} features cannot be counted, only of 16,777,216 at most")]
    Wide {
        /// Features a row.
        features: usize,
    },
    /// The system does not give the memory.
    #[error(
        "counts of all pairs of {features} features take {bytes} bytes, which do not fit into memory; leave pairs out"
    )]
    Memory {
        /// Features a row.
        features: usize,
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// The system does not give the memory for pairs of two codes.
    #[error(
        "counts of all pairs of {first} and {second} features take {bytes} bytes, which do not fit into memory; compare without data"
    )]
    CrossMemory {
        /// Features of the first code.
        first: usize,
        /// Features of the second code.
        second: usize,
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// Too many features are like each other.
    #[error("more features of the two models are alike than can be matched in memory; raise the threshold")]
    Alike,
    /// Matrices of different width cannot be stacked.
    #[error("codes of {got} features cannot follow codes of {expected} features")]
    Width {
        /// Width of the rows already there.
        expected: usize,
        /// Width of the rows that were to follow.
        got: usize,
    },
    /// Codes of different rows cannot be compared.
    #[error("codes of {got} rows cannot be compared with codes of {expected} rows")]
    Rows {
        /// Rows of the first.
        expected: usize,
        /// Rows of the second.
        got: usize,
    },
}

impl CodesError {
    /// The name of the failure, as Node users see it in `BaeError.code`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } | Self::Padding { .. } | Self::Width { .. } | Self::Rows { .. } => {
                "SHAPE_MISMATCH"
            }
            Self::Memory { .. } | Self::CrossMemory { .. } | Self::Alike | Self::Groups { .. } => {
                "OUT_OF_MEMORY"
            }
            Self::Clusters
            | Self::Counting
            | Self::Other { .. }
            | Self::Shards { .. }
            | Self::TooMany
            | Self::Wide { .. }
            | Self::Subset { .. } => "INVALID_ARGUMENT",
        }
    }
}

/// Codes of `rows` hidden states, `features` bits each, packed row by row.
///
/// A row takes `features.div_ceil(64)` words of 64 bits; feature j is bit j % 64 of word j / 64. Bits beyond the
/// last feature are 0, always: counting needs no masks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitMatrix {
    rows: usize,
    features: usize,
    words: Vec<u64>,
}

impl BitMatrix {
    /// All bits 0.
    pub fn zeros(rows: usize, features: usize) -> Self {
        Self { rows, features, words: vec![0; rows * features.div_ceil(64)] }
    }

    /// No rows yet, with memory for `rows`; `None` if the system does not give that.
    pub fn with_room(rows: usize, features: usize) -> Option<Self> {
        let mut words = vec![];
        words.try_reserve_exact(rows.checked_mul(features.div_ceil(64))?).ok()?;
        Some(Self { rows: 0, features, words })
    }

    /// Packs rows of pre-activations (row-major, `features` to a row) by the step function: bit = value > 0.
    ///
    /// # Panics
    /// If the length of `values` is not a multiple of `features`.
    pub fn from_positive(values: &[f32], features: usize) -> Self {
        let rows = values.len().checked_div(features).unwrap_or(0);
        assert_eq!(values.len(), rows * features, "values are not whole rows");
        let mut codes = Self::zeros(rows, features);
        bits::pack_positive(values, features, &mut codes.words);
        codes
    }

    /// From words of 32 features, panel after panel and row after row in it, as [`bae_kernels::batch`] has them.
    ///
    /// # Panics
    /// If there are not `features.div_ceil(32)` panels of `rows` words.
    pub fn from_panels(rows: usize, features: usize, panels: &[u32]) -> Self {
        assert_eq!(panels.len(), rows * features.div_ceil(32), "words of all panels");
        let mut codes = Self::zeros(rows, features);
        let words = codes.words_per_row();
        for (panel, values) in panels.chunks_exact(rows.max(1)).enumerate() {
            for (row, &value) in values.iter().enumerate() {
                codes.words[row * words + panel / 2] |= u64::from(value) << (32 * (panel % 2));
            }
        }
        codes
    }

    /// The words that [`BitMatrix::from_panels`] takes.
    pub fn to_panels(&self) -> Vec<u32> {
        let half = |row: usize, panel: usize| (self.row(row)[panel / 2] >> (32 * (panel % 2))) as u32;
        let panels = 0..self.features.div_ceil(32);
        panels.flat_map(|panel| (0..self.rows).map(move |row| half(row, panel))).collect()
    }

    /// Unpacks the file format: `features.div_ceil(8)` bytes a row, feature j at byte j / 8, least significant first.
    ///
    /// # Errors
    /// [`CodesError::Length`] or [`CodesError::Padding`].
    pub fn from_bytes(bytes: &[u8], rows: usize, features: usize) -> Result<Self, CodesError> {
        let row_bytes = features.div_ceil(8);
        let expected = rows.saturating_mul(row_bytes);
        if bytes.len() != expected {
            return Err(CodesError::Length { bytes: bytes.len(), rows, features, expected });
        }
        let mut codes = Self::zeros(rows, features);
        let words = codes.words_per_row();
        let padding = if features.is_multiple_of(64) { 0 } else { u64::MAX << (features % 64) };
        for row in 0..rows {
            let target = &mut codes.words[row * words..(row + 1) * words];
            for (word, part) in target.iter_mut().zip(bytes[row * row_bytes..(row + 1) * row_bytes].chunks(8))
            {
                let mut le = [0; 8];
                le[..part.len()].copy_from_slice(part);
                *word = u64::from_le_bytes(le);
            }
            if target.last().is_some_and(|last| last & padding != 0) {
                return Err(CodesError::Padding { row, features });
            }
        }
        Ok(codes)
    }

    /// The rows `range` in the file format of [`BitMatrix::from_bytes`].
    pub fn to_bytes(&self, range: std::ops::Range<usize>) -> Vec<u8> {
        let row_bytes = self.features.div_ceil(8);
        let mut bytes = Vec::with_capacity(range.len() * row_bytes);
        for row in range {
            bytes.extend(self.row(row).iter().flat_map(|word| word.to_le_bytes()).take(row_bytes));
        }
        bytes
    }

    /// Appends the rows of `other`.
    ///
    /// # Errors
    /// [`CodesError::Width`] if `other` has another number of features.
    pub fn append(&mut self, other: &BitMatrix) -> Result<(), CodesError> {
        if other.features != self.features {
            return Err(CodesError::Width { expected: self.features, got: other.features });
        }
        self.words.extend_from_slice(&other.words);
        self.rows += other.rows;
        Ok(())
    }

    /// Appends one row.
    ///
    /// # Panics
    /// If it has not [`BitMatrix::words_per_row`] words.
    pub(crate) fn push(&mut self, words: &[u64]) {
        assert_eq!(words.len(), self.words_per_row(), "words of a row");
        self.words.extend_from_slice(words);
        self.rows += 1;
    }

    /// Takes all rows away and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.words.clear();
        self.rows = 0;
    }

    /// Copies of `rows` rows each, the last one perhaps shorter: for work that reports how far it is.
    ///
    /// # Panics
    /// If `rows` is 0.
    pub fn chunks(&self, rows: usize) -> impl Iterator<Item = BitMatrix> {
        let words = self.words_per_row();
        (0..self.rows).step_by(rows).map(move |start| {
            let end = self.rows.min(start + rows);
            let words = self.words[start * words..end * words].to_vec();
            BitMatrix { rows: end - start, features: self.features, words }
        })
    }

    /// Number of codes.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bits in a code (d_sae).
    pub fn features(&self) -> usize {
        self.features
    }

    /// 64-bit words in a row.
    pub fn words_per_row(&self) -> usize {
        self.features.div_ceil(64)
    }

    /// The packed words of one row.
    pub fn row(&self, row: usize) -> &[u64] {
        let words = self.words_per_row();
        &self.words[row * words..(row + 1) * words]
    }

    /// All packed words, row after row.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// Whether `feature` is on in `row`.
    pub fn get(&self, row: usize, feature: usize) -> bool {
        debug_assert!(feature < self.features);
        self.row(row)[feature / 64] >> (feature % 64) & 1 == 1
    }

    /// Turns `feature` of `row` on or off.
    pub fn set(&mut self, row: usize, feature: usize, on: bool) {
        assert!(feature < self.features, "feature {feature} of {}", self.features);
        let words = self.words_per_row();
        let word = &mut self.words[row * words + feature / 64];
        *word = *word & !(1 << (feature % 64)) | u64::from(on) << (feature % 64);
    }

    /// The same bits feature by feature: `features` rows of `rows` bits.
    pub fn transposed(&self) -> BitMatrix {
        let mut out = Self::zeros(self.features, self.rows);
        bits::transpose(&self.words, self.rows, self.features, &mut out.words);
        out
    }

    /// Adds the ones of each feature in `rows` to `ones` `[features]`.
    ///
    /// # Panics
    /// If there are no such rows, or `ones` has another length.
    pub fn add_ones(&self, rows: std::ops::Range<usize>, ones: &mut [u64]) {
        let words = self.words_per_row();
        counts::ones(&self.words[rows.start * words..rows.end * words], rows.len(), self.features, ones);
    }

    /// For each feature, the rows in which it is on.
    pub fn ones_per_feature(&self) -> Vec<u64> {
        let mut ones = vec![0; self.features];
        self.add_ones(0..self.rows, &mut ones);
        ones
    }

    /// Rows of each code that occurs, in no order that matters: what [`joint`](crate::joint) estimates entropies from.
    pub fn occurrences(&self) -> Vec<u64> {
        let mut counts = BTreeMap::new();
        for row in 0..self.rows {
            *counts.entry(self.row(row)).or_insert(0) += 1;
        }
        counts.into_values().collect()
    }

    /// Ones in each row: the L0 of each code.
    pub fn ones_per_row(&self) -> Vec<u32> {
        (0..self.rows).map(|row| self.row(row).iter().map(|word| word.count_ones()).sum()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_numpy_little_packbits() {
        let mut codes = BitMatrix::zeros(1, 11);
        for feature in [0, 3, 8, 10] {
            codes.set(0, feature, true);
        }
        assert_eq!(codes.to_bytes(0..1), [0b0000_1001, 0b101]);
    }

    #[test]
    fn occurrences_of_fair_bits() {
        let codes = BitMatrix::from_bytes(&[0, 1, 2, 3, 0, 1, 2, 3], 8, 2).unwrap();
        assert_eq!(codes.occurrences(), [2, 2, 2, 2]);
        assert_eq!(crate::joint::plug_in(&codes.occurrences()), 2.0);
        assert!(BitMatrix::zeros(0, 2).occurrences().is_empty());
    }

    #[test]
    fn damage_is_named() {
        assert!(matches!(BitMatrix::from_bytes(&[0; 3], 2, 8), Err(CodesError::Length { expected: 2, .. })));
        assert!(matches!(BitMatrix::from_bytes(&[1, 4], 2, 2), Err(CodesError::Padding { row: 1, .. })));
        assert!(BitMatrix::zeros(1, 3).append(&BitMatrix::zeros(1, 4)).is_err());
    }

    proptest! {
        #[test]
        fn every_view_holds_the_same_bits(rows in 0usize..70, features in 1usize..140, seed: u64) {
            let on = |row: usize, feature: usize| {
                (seed ^ (row * 7919 + feature) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 62 == 0
            };
            let mut values = vec![0f32; rows * features];
            for (at, value) in values.iter_mut().enumerate() {
                *value = if on(at / features, at % features) { 1e-30 } else { -0.0 };
            }
            let codes = BitMatrix::from_positive(&values, features);
            prop_assert_eq!(codes.rows(), rows);
            let ones = |feature: usize| (0..rows).filter(|&row| on(row, feature)).count() as u64;
            prop_assert_eq!(codes.ones_per_feature(), (0..features).map(ones).collect::<Vec<_>>());
            let across = codes.transposed();
            for row in 0..rows {
                for feature in 0..features {
                    prop_assert_eq!(codes.get(row, feature), on(row, feature));
                    prop_assert_eq!(across.get(feature, row), on(row, feature));
                }
            }
            prop_assert_eq!(&BitMatrix::from_bytes(&codes.to_bytes(0..rows), rows, features).unwrap(), &codes);
            prop_assert_eq!(&across.transposed(), &codes);
            prop_assert_eq!(&BitMatrix::from_panels(rows, features, &codes.to_panels()), &codes);
            let mut joined = BitMatrix::zeros(0, features);
            codes.chunks(16).for_each(|chunk| joined.append(&chunk).unwrap());
            prop_assert_eq!(&joined, &codes);
        }
    }
}

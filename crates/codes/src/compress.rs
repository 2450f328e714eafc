use crate::{BitMatrix, CodesError};

/// Stores a code as the features in which it differs from each feature's majority bit (section 3.3 of the paper).
///
/// The majority is fixed by the codes the compressor is made from; later codes may drift away from it, which costs
/// length, not bits. A feature on in exactly half of those rows has majority 0 and, as in the published code, is
/// never listed: with `lossless` false such features come back as 0.
#[derive(Clone, Debug)]
pub struct MajorityCompressor {
    rows: u64,
    ones: Vec<u64>,
    lossless: bool,
}

impl MajorityCompressor {
    /// Fixes the majority from the rows of `codes`. `lossless` lists features at exactly one half when they are on;
    /// the published code does not and loses them.
    pub fn new(codes: &BitMatrix, lossless: bool) -> Self {
        Self { rows: codes.rows() as u64, ones: codes.ones_per_feature(), lossless }
    }

    /// Share of rows with each feature on.
    pub fn mean(&self, feature: usize) -> f64 {
        self.ones[feature] as f64 / self.rows as f64
    }

    /// The bit stored for free: 1 where more than half of the rows have it.
    pub fn majority(&self, feature: usize) -> bool {
        2 * self.ones[feature] > self.rows
    }

    /// Features of row `row` that differ from the majority, ascending.
    ///
    /// # Errors
    /// [`CodesError::Width`] if `codes` has another number of features.
    pub fn encode(&self, codes: &BitMatrix, row: usize) -> Result<Vec<u32>, CodesError> {
        if codes.features() != self.ones.len() {
            return Err(CodesError::Width { expected: self.ones.len(), got: codes.features() });
        }
        let differs = |&feature: &usize| {
            codes.get(row, feature) != self.majority(feature)
                && (self.lossless || 2 * self.ones[feature] != self.rows)
        };
        Ok((0..codes.features()).filter(differs).map(|feature| feature as u32).collect())
    }

    /// Codes from the listed differences, one list a row.
    ///
    /// # Panics
    /// If a listed feature does not exist.
    pub fn decode(&self, lists: &[Vec<u32>]) -> BitMatrix {
        let mut codes = BitMatrix::zeros(lists.len(), self.ones.len());
        for (row, list) in lists.iter().enumerate() {
            (0..self.ones.len()).for_each(|feature| codes.set(row, feature, self.majority(feature)));
            for &feature in list {
                let on = codes.get(row, feature as usize);
                codes.set(row, feature as usize, !on);
            }
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_on_features_survive_only_when_lossless() {
        let mut codes = BitMatrix::zeros(2, 3);
        codes.set(0, 0, true); // half of the rows
        codes.set(0, 2, true);
        codes.set(1, 2, true); // all rows
        let restored = |lossless| {
            let compressor = MajorityCompressor::new(&codes, lossless);
            let lists: Vec<_> = (0..2).map(|row| compressor.encode(&codes, row).unwrap()).collect();
            compressor.decode(&lists)
        };
        assert_eq!(restored(true), codes);
        assert!(!restored(false).get(0, 0) && restored(false).get(1, 2));
    }
}

use crate::{BitMatrix, CodesError, entropy};

/// Exact counts over any number of codes: rows, and ones per feature. Merging is adding, so order cannot matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    rows: u64,
    ones: Vec<u64>,
}

impl Statistics {
    /// No rows yet, of codes with `features` bits.
    pub fn new(features: usize) -> Self {
        Self { rows: 0, ones: vec![0; features] }
    }

    /// From counts that were kept.
    pub fn from_counts(rows: u64, ones: Vec<u64>) -> Self {
        Self { rows, ones }
    }

    /// Counts the rows of `codes`.
    ///
    /// # Errors
    /// [`CodesError::Width`] if the number of features differs.
    pub fn add(&mut self, codes: &BitMatrix) -> Result<(), CodesError> {
        self.check(codes.features())?;
        codes.add_ones(0..codes.rows(), &mut self.ones);
        self.rows += codes.rows() as u64;
        Ok(())
    }

    /// Adds the counts of `other`.
    ///
    /// # Errors
    /// [`CodesError::Width`] if the number of features differs.
    pub fn merge(&mut self, other: &Statistics) -> Result<(), CodesError> {
        self.check(other.features())?;
        self.ones.iter_mut().zip(&other.ones).for_each(|(a, b)| *a += b);
        self.rows += other.rows;
        Ok(())
    }

    fn check(&self, got: usize) -> Result<(), CodesError> {
        let expected = self.features();
        if got == expected { Ok(()) } else { Err(CodesError::Width { expected, got }) }
    }

    /// Rows counted.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bits in a code (d_sae).
    pub fn features(&self) -> usize {
        self.ones.len()
    }

    /// For each feature, the rows in which it is on.
    pub fn ones(&self) -> &[u64] {
        &self.ones
    }

    /// Σ_j H(p_j) in bits a row: the sum of the marginal (plug-in) entropies over all rows counted.
    pub fn entropy_bits(&self) -> f64 {
        self.ones.iter().map(|&ones| entropy::marginal(ones, self.rows)).sum()
    }

    /// Mean number of features on in a row.
    pub fn l0(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.ones.iter().sum::<u64>() as f64 / self.rows as f64 }
    }

    /// Mean share of features on: [`Statistics::l0`] / features.
    pub fn density(&self) -> f64 {
        self.l0() / self.features().max(1) as f64
    }

    /// Share of features that were never on.
    pub fn dead_fraction(&self) -> f64 {
        self.fraction(|ones| ones == 0)
    }

    /// Share of features that were on in every row.
    pub fn always_on_fraction(&self) -> f64 {
        self.fraction(|ones| ones == self.rows && self.rows > 0)
    }

    /// Share of features that were on in more than half of the rows, the always-on ones included.
    pub fn dense_fraction(&self) -> f64 {
        self.fraction(|ones| 2 * ones > self.rows)
    }

    fn fraction(&self, which: impl Fn(u64) -> bool) -> f64 {
        self.ones.iter().filter(|&&ones| which(ones)).count() as f64 / self.features().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_by_hand() {
        // features:  never on, always on, on in 1 of 4, on in 3 of 4
        let mut codes = BitMatrix::zeros(4, 4);
        (0..4).for_each(|row| codes.set(row, 1, true));
        codes.set(2, 2, true);
        (0..3).for_each(|row| codes.set(row, 3, true));
        let mut all = Statistics::new(4);
        all.add(&codes).unwrap();
        assert_eq!((all.rows(), all.ones()), (4, [0, 4, 1, 3].as_slice()));
        assert!((all.entropy_bits() - 2.0 * 0.811_278_124_459_132_8).abs() < 1e-12);
        assert_eq!((all.l0(), all.density()), (2.0, 0.5));
        assert_eq!((all.dead_fraction(), all.always_on_fraction(), all.dense_fraction()), (0.25, 0.25, 0.5));
        let mut twice = all.clone();
        twice.merge(&all).unwrap();
        assert_eq!((twice.rows(), twice.ones()), (8, [0, 8, 2, 6].as_slice()));
        assert_eq!(twice.entropy_bits(), all.entropy_bits());
        assert!(twice.merge(&Statistics::new(3)).is_err());
    }

    #[test]
    fn nothing_counted_is_zero_not_nan() {
        let none = Statistics::new(3);
        assert_eq!((none.entropy_bits(), none.l0(), none.always_on_fraction()), (0.0, 0.0, 0.0));
    }
}

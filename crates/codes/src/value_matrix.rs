use crate::BitMatrix;

/// Codes that hold values: for each row the features that are not 0, ascending, and their values.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueMatrix {
    d_sae: usize,
    ends: Vec<usize>,
    features: Vec<u32>,
    values: Vec<f32>,
}

impl ValueMatrix {
    /// Rows of lists: where each ends, the features, ascending in each list, and their values; values of 0 are left out.
    ///
    /// # Panics
    /// If the lists are not as long as they say, or a feature is none of `d_sae`.
    pub fn new(d_sae: usize, mut ends: Vec<usize>, mut features: Vec<u32>, mut values: Vec<f32>) -> Self {
        assert_eq!(
            (features.len(), values.len()),
            (ends.last().copied().unwrap_or(0), features.len()),
            "lists"
        );
        assert!(features.iter().all(|&feature| (feature as usize) < d_sae), "features of the code");
        if values.contains(&0.0) {
            let (mut kept, mut start) = (0, 0);
            for end in &mut ends {
                for at in start..*end {
                    if values[at] != 0.0 {
                        (features[kept], values[kept]) = (features[at], values[at]);
                        kept += 1;
                    }
                }
                start = *end;
                *end = kept;
            }
            features.truncate(kept);
            values.truncate(kept);
        }
        Self { d_sae, ends, features, values }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Number of features: d_sae.
    pub fn features(&self) -> usize {
        self.d_sae
    }

    /// Where each row's list ends `[rows]`, the features of all lists, and their values.
    pub fn lists(&self) -> (&[usize], &[u32], &[f32]) {
        (&self.ends, &self.features, &self.values)
    }

    /// The features that are on in a row, ascending, and their values.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        (&self.features[start..self.ends[row]], &self.values[start..self.ends[row]])
    }

    /// Which features are on.
    pub fn active(&self) -> BitMatrix {
        let mut bits = BitMatrix::zeros(self.rows(), self.d_sae);
        for row in 0..self.rows() {
            self.row(row).0.iter().for_each(|&feature| bits.set(row, feature as usize, true));
        }
        bits
    }

    /// All values, `[rows, d_sae]`, row-major.
    pub fn dense(&self) -> Vec<f32> {
        let mut dense = vec![0.0; self.rows() * self.d_sae];
        for row in 0..self.rows() {
            let (features, values) = self.row(row);
            let to = &mut dense[row * self.d_sae..][..self.d_sae];
            features.iter().zip(values).for_each(|(&feature, &value)| to[feature as usize] = value);
        }
        dense
    }
}

impl From<&BitMatrix> for ValueMatrix {
    /// Bits that are on have the value 1.
    fn from(bits: &BitMatrix) -> Self {
        let (mut ends, mut features) = (Vec::with_capacity(bits.rows()), vec![]);
        for row in 0..bits.rows() {
            features.extend((0..bits.features() as u32).filter(|&feature| bits.get(row, feature as usize)));
            ends.push(features.len());
        }
        let values = vec![1.0; features.len()];
        Self { d_sae: bits.features(), ends, features, values }
    }
}

use super::Real;
use ndarray::ArrayView2;
use rayon::prelude::*;

/// Codes of a batch, and where a gradient may pass: a list for each row.
#[derive(Clone, Debug, PartialEq)]
pub struct Entries<T> {
    /// Where each row's list ends, `[n]`.
    pub ends: Vec<usize>,
    /// The features of the lists, ascending in each.
    pub features: Vec<u32>,
    /// Their pre-activations.
    pub z: Vec<T>,
    /// Their codes; 0 where the feature is off and a gradient could turn it on.
    pub h: Vec<T>,
}

/// One row's list, while it is made.
pub struct Row<'a, T>(&'a mut Entries<T>);

impl<T: Real> Row<'_, T> {
    /// Adds a feature above all that are there.
    pub fn push(&mut self, feature: usize, z: T, h: T) {
        self.0.features.push(feature as u32);
        self.0.z.push(z);
        self.0.h.push(h);
    }
}

impl<T> Default for Entries<T> {
    /// No rows.
    fn default() -> Self {
        Self { ends: vec![], features: vec![], z: vec![], h: vec![] }
    }
}

/// Rows that are coded together.
const ROWS: usize = 16;

impl<T: Real> Entries<T> {
    /// Row by row: `each` gets the row's number, its pre-activations `[d_sae]`, and its list. Runs on the current rayon pool.
    pub fn by_rows(z: ArrayView2<T>, each: impl Fn(usize, &[T], &mut Row<T>) + Sync) -> Self {
        let chunks: Vec<Self> = z
            .axis_chunks_iter(ndarray::Axis(0), ROWS)
            .into_par_iter()
            .enumerate()
            .map(|(chunk, z)| {
                let mut entries = Self::default();
                for (at, z) in z.rows().into_iter().enumerate() {
                    let z = z.to_slice().expect("row-major");
                    each(chunk * ROWS + at, z, &mut Row(&mut entries));
                    entries.ends.push(entries.features.len());
                }
                entries
            })
            .collect();
        let mut all = Self::default();
        let length = chunks.iter().map(|chunk| chunk.features.len()).sum();
        all.ends.reserve(z.nrows());
        all.features.reserve(length);
        all.z.reserve(length);
        all.h.reserve(length);
        for chunk in chunks {
            let before = all.features.len();
            all.ends.extend(chunk.ends.iter().map(|end| before + end));
            all.features.extend(chunk.features);
            all.z.extend(chunk.z);
            all.h.extend(chunk.h);
        }
        all
    }

    /// Entry by entry, where `code` gives one: the code of a feature's pre-activation.
    pub fn by_values(z: ArrayView2<T>, code: impl Fn(usize, T) -> Option<T> + Sync) -> Self {
        Self::by_rows(z, |_, z, row| {
            for (feature, &z) in z.iter().enumerate() {
                if let Some(h) = code(feature, z) {
                    row.push(feature, z, h);
                }
            }
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// The entries of a row.
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        start..self.ends[row]
    }

    /// The entries of a range of features, as a list of its own, and where each came from.
    pub fn of_features(&self, features: std::ops::Range<usize>) -> Self {
        let mut part = Self::default();
        for row in 0..self.rows() {
            let entries = self.row(row);
            let list = &self.features[entries.clone()];
            let from = entries.start + list.partition_point(|&feature| (feature as usize) < features.start);
            let to = entries.start + list.partition_point(|&feature| (feature as usize) < features.end);
            part.features.extend(&self.features[from..to]);
            part.z.extend(&self.z[from..to]);
            part.h.extend(&self.h[from..to]);
            part.ends.push(part.features.len());
        }
        part
    }
}

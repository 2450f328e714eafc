//! Codes that hold values, most of them 0: only the others are kept, and only they cost anything.
//!
//! A batch is kept by rows for decoding and, turned, by features for the gradients. Both orders are ascending, so each
//! sum is one chain of fused multiply-adds in a fixed order.

mod largest;
mod products;

pub use largest::{largest_of_batch, largest_of_rows};
pub use products::{add_scaled_rows, decode, dots};

use crate::Isa;
use crate::isa::per_isa;
use rayon::prelude::*;

/// The entries of a matrix that are not 0, row by row (compressed sparse rows).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sparse {
    /// Where the entries of each row end, `[rows]`.
    pub ends: Vec<usize>,
    /// The column of each entry, ascending within a row.
    pub indices: Vec<u32>,
    /// The value of each entry.
    pub values: Vec<f32>,
}

impl Sparse {
    /// The entries above 0 of a matrix `[rows][columns]` (so none that is NaN).
    ///
    /// # Panics
    /// If `values` is not whole rows, or there are 2³² columns or more.
    pub fn above_zero(isa: Isa, values: &[f32], columns: usize) -> Self {
        let row = |row: usize, to: &mut Sparse| {
            above(isa, &values[row * columns..][..columns], 0.0, &mut to.indices, &mut to.values);
        };
        Self::by_rows(rows(values, columns), row)
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.ends.len()
    }

    /// Entries of all rows.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no row has an entry.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Where the entries of a row are.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        start..self.ends[row]
    }

    /// The columns and values of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.range(row);
        (&self.indices[range.clone()], &self.values[range])
    }

    /// The transpose: `columns` rows, and in each the rows of this matrix, ascending.
    ///
    /// # Panics
    /// If an entry lies in none of the columns.
    pub fn transposed(&self, columns: usize) -> Self {
        assert!(
            self.indices.iter().all(|&column| (column as usize) < columns),
            "entries in {columns} columns"
        );
        let block = columns.div_ceil(4 * rayon::current_num_threads()).max(64);
        // each block of columns looks up its part of every row: threads split the output
        let parts = |first: usize, last: usize| {
            (0..self.rows()).map(move |row| {
                let (indices, values) = self.row(row);
                let start = indices.partition_point(|&column| (column as usize) < first);
                let end = start + indices[start..].partition_point(|&column| (column as usize) < last);
                (row, &indices[start..end], &values[start..end])
            })
        };
        let mut ends = vec![0; columns];
        ends.par_chunks_mut(block).enumerate().for_each(|(at, counts)| {
            let first = at * block;
            for (_, indices, _) in parts(first, first + counts.len()) {
                indices.iter().for_each(|&column| counts[column as usize - first] += 1);
            }
        });
        let mut end = 0;
        ends.iter_mut().for_each(|count: &mut usize| {
            end += *count;
            *count = end;
        });
        let (mut indices, mut values) = (vec![0; self.len()], vec![0.0; self.len()]);
        let blocks = ends.chunks(block).map(|ends| ends[ends.len() - 1]);
        let blocks = cut(&mut indices, blocks.clone()).into_par_iter().zip(cut(&mut values, blocks));
        blocks.enumerate().for_each(|(at, (to_indices, to_values))| {
            let first = at * block;
            let last = columns.min(first + block);
            let start = if first == 0 { 0 } else { ends[first - 1] };
            let mut next: Vec<usize> = (first..last)
                .map(|column| if column == first { 0 } else { ends[column - 1] - start })
                .collect();
            for (row, indices, values) in parts(first, last) {
                for (&column, &value) in indices.iter().zip(values) {
                    let next = &mut next[column as usize - first];
                    (to_indices[*next], to_values[*next]) = (row as u32, value);
                    *next += 1;
                }
            }
        });
        Self { ends, indices, values }
    }

    /// Rows one by one, in parallel: `entries` adds those of a row.
    fn by_rows(rows: usize, entries: impl Fn(usize, &mut Sparse) + Sync) -> Self {
        let part = rows.div_ceil(4 * rayon::current_num_threads()).max(1);
        let parts: Vec<Self> = (0..rows.div_ceil(part))
            .into_par_iter()
            .map(|at| {
                let mut all = Self::default();
                for row in at * part..rows.min((at + 1) * part) {
                    entries(row, &mut all);
                    all.ends.push(all.len());
                }
                all
            })
            .collect();
        Self::joined(&parts)
    }

    /// The rows of several, one after another.
    fn joined(parts: &[Self]) -> Self {
        let mut ends = Vec::with_capacity(parts.iter().map(Self::rows).sum());
        let mut part_ends = Vec::with_capacity(parts.len());
        let mut length = 0;
        for part in parts {
            ends.extend(part.ends.iter().map(|end| length + end));
            length += part.len();
            part_ends.push(length);
        }
        let (mut indices, mut values) = (vec![0; length], vec![0.0; length]);
        let to = cut(&mut indices, part_ends.iter().copied());
        let to = to.into_par_iter().zip(cut(&mut values, part_ends.iter().copied()));
        to.zip(parts).for_each(|((indices, values), part)| {
            indices.copy_from_slice(&part.indices);
            values.copy_from_slice(&part.values);
        });
        Self { ends, indices, values }
    }
}

/// Cuts at these ends, to be written in parallel.
fn cut<T>(mut from: &mut [T], ends: impl Iterator<Item = usize>) -> Vec<&mut [T]> {
    let mut start = 0;
    ends.map(|end| {
        let (part, rest) = std::mem::take(&mut from).split_at_mut(end - start);
        (from, start) = (rest, end);
        part
    })
    .collect()
}

/// Rows of a matrix with so many columns.
fn rows(values: &[f32], columns: usize) -> usize {
    assert!(values.len().is_multiple_of(columns.max(1)), "rows of {columns}");
    assert!(u32::try_from(columns).is_ok(), "columns that 32 bits can number");
    values.len().checked_div(columns).unwrap_or(0)
}

per_isa! {
    /// Adds the values above `limit` and where they are.
    fn above[simd: S](row: &[f32], limit: f32, indices: &mut Vec<u32>, values: &mut Vec<f32>) {
        let limits = simd.splat(limit);
        let whole = row.len() - row.len() % S::LANES;
        for first in (0..whole).step_by(S::LANES) {
            // a difference is above 0 exactly where the first number is above the second, down to the denormals
            let mut mask = simd.above_zero(simd.sub(simd.load(&row[first..]), limits));
            while mask != 0 {
                let at = first + mask.trailing_zeros() as usize;
                indices.push(at as u32);
                values.push(row[at]);
                mask &= mask - 1;
            }
        }
        for (at, &value) in row.iter().enumerate().skip(whole) {
            if value > limit {
                indices.push(at as u32);
                values.push(value);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{cases, up_to};
    use ndarray::Array2;
    use proptest::prelude::*;

    /// A matrix with about this share of entries above 0, the others 0, and its entries.
    pub(crate) fn codes(rows: usize, columns: usize, share: f32, seed: u64) -> (Sparse, Array2<f32>) {
        let mut dense = crate::values(rows, columns, seed);
        let keep = crate::values(rows, columns, seed ^ 0x5A5A);
        dense.zip_mut_with(&keep, |value, keep| {
            *value = if keep * 0.5 + 0.5 < share { value.abs() + 1e-3 } else { 0.0 };
        });
        (Sparse::above_zero(Isa::PORTABLE, dense.as_slice().unwrap(), columns), dense)
    }

    fn entries(sparse: &Sparse) -> Vec<(usize, usize, f32)> {
        (0..sparse.rows())
            .flat_map(|row| {
                let (indices, values) = sparse.row(row);
                indices.iter().zip(values).map(move |(&column, &value)| (row, column as usize, value))
            })
            .collect()
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn entries_above_zero_and_their_transpose(
            rows in 0..up_to(90), columns in 1..up_to(300), share in 0f32..1.0, seed: u64,
        ) {
            let mut dense = crate::values(rows, columns, seed);
            for (value, keep) in dense.iter_mut().zip(crate::values(rows, columns, seed ^ 9)) {
                *value = if keep.abs() < share { *value } else { [0.0, -0.0, f32::NAN, 1e-45][(keep * 1e6) as usize % 4] };
            }
            let want: Vec<_> =
                dense.indexed_iter().filter(|(_, v)| **v > 0.0).map(|((k, j), &v)| (k, j, v)).collect();
            let mut turned = want.clone();
            turned.sort_by_key(|&(k, j, _)| (j, k));
            let turned: Vec<_> = turned.into_iter().map(|(k, j, v)| (j, k, v)).collect();
            for isa in Isa::available() {
                let got = Sparse::above_zero(isa, dense.as_slice().unwrap(), columns);
                prop_assert_eq!(got.rows(), rows);
                prop_assert_eq!(&entries(&got), &want, "{}", isa.name());
                let back = got.transposed(columns);
                prop_assert_eq!(back.rows(), columns);
                prop_assert_eq!(&entries(&back), &turned);
                prop_assert_eq!(back.transposed(rows), got);
            }
        }
    }

    #[test]
    #[should_panic(expected = "entries in 3 columns")]
    fn a_column_too_many_is_refused() {
        Sparse { ends: vec![1], indices: vec![3], values: vec![1.0] }.transposed(3);
    }
}

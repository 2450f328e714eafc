//! Codes that hold values, most of them 0: only the others are kept, and only they cost anything.
//!
//! A batch is kept by rows for decoding and, turned, by features for the gradients. Both orders are ascending, so each
//! sum is one chain of fused multiply-adds in a fixed order.

mod groups;
mod largest;
mod products;

pub use groups::{Left, Panels};
pub use largest::{largest_of_batch, largest_of_rows};
pub use products::{add_decoded, add_scaled_rows, dots};

use crate::Isa;
use crate::isa::per_isa;
use rayon::prelude::*;
use std::ops::Range;

/// The entries of a matrix, row by row: where each row's end, their columns, ascending within a row, and their values.
pub type Lists<'a> = (&'a [usize], &'a [u32], &'a [f32]);

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

    /// Lent.
    pub fn lists(&self) -> Lists<'_> {
        (&self.ends, &self.indices, &self.values)
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
        let to = cut(&mut indices, &part_ends).into_par_iter().zip(cut(&mut values, &part_ends));
        to.zip(parts).for_each(|((indices, values), part)| {
            indices.copy_from_slice(&part.indices);
            values.copy_from_slice(&part.values);
        });
        Self { ends, indices, values }
    }
}

/// The entries of a matrix, column by column.
#[derive(Clone, Debug, PartialEq)]
pub struct Transposed<const N: usize> {
    /// Where the entries of each column end, `[columns]`.
    pub ends: Vec<usize>,
    /// The row of each entry, ascending within a column.
    pub rows: Vec<u32>,
    /// What entries hold.
    pub values: [Vec<f32>; N],
}

/// Some columns of [`Transposed`].
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a, const N: usize> {
    start: usize,
    ends: &'a [usize],
    /// The row of each entry, ascending within a column.
    pub rows: &'a [u32],
    /// What entries hold.
    pub values: [&'a [f32]; N],
}

impl<const N: usize> Transposed<N> {
    /// These columns.
    ///
    /// # Panics
    /// If there are not so many.
    pub fn group(&self, columns: Range<usize>) -> Columns<'_, N> {
        let start = if columns.start == 0 { 0 } else { self.ends[columns.start - 1] };
        let ends = &self.ends[columns];
        let entries = start..ends.last().copied().unwrap_or(start);
        let values = self.values.each_ref().map(|values| &values[entries.clone()]);
        Columns { start, ends, rows: &self.rows[entries], values }
    }
}

impl<const N: usize> Columns<'_, N> {
    /// Where the entries of a column are, counted from the first of these.
    ///
    /// # Panics
    /// If there is no such column.
    pub fn range(&self, column: usize) -> Range<usize> {
        let start = if column == 0 { self.start } else { self.ends[column - 1] };
        start - self.start..self.ends[column] - self.start
    }
}

/// Sorts the entries of a matrix by columns: `ends` and `indices` as [`Sparse`] has them, and for each entry N values.
///
/// # Panics
/// If an entry lies in none of the columns, or the lengths do not fit.
pub fn transposed<const N: usize>(
    ends: &[usize],
    indices: &[u32],
    values: [&[f32]; N],
    columns: usize,
) -> Transposed<N> {
    let length = ends.last().copied().unwrap_or(0);
    assert!(
        indices.len() == length && values.iter().all(|values| values.len() == length),
        "values of all entries"
    );
    assert!(indices.iter().all(|&column| (column as usize) < columns), "entries in {columns} columns");
    // each block of columns looks up its part of every row: threads split the output
    let block = columns.div_ceil(4 * rayon::current_num_threads()).max(64);
    let parts = |first: usize, last: usize| {
        (0..ends.len()).map(move |row| {
            let start = if row == 0 { 0 } else { ends[row - 1] };
            let list = &indices[start..ends[row]];
            let here = list.partition_point(|&column| (column as usize) < first);
            (row as u32, start + here..start + list.partition_point(|&column| (column as usize) < last))
        })
    };
    let mut column_ends = vec![0; columns];
    column_ends.par_chunks_mut(block).enumerate().for_each(|(at, counts)| {
        let first = at * block;
        for (_, entries) in parts(first, first + counts.len()) {
            indices[entries].iter().for_each(|&column| counts[column as usize - first] += 1);
        }
    });
    let mut end = 0;
    for count in &mut column_ends {
        end += *count;
        *count = end;
    }
    let mut rows = vec![0; length];
    let mut turned = [(); N].map(|()| vec![0f32; length]);
    let block_ends: Vec<usize> = column_ends.chunks(block).map(|ends| ends[ends.len() - 1]).collect();
    let mut of_values = turned.each_mut().map(|values| cut(values, &block_ends).into_iter());
    let blocks: Vec<_> = cut(&mut rows, &block_ends)
        .into_iter()
        .map(|rows| (rows, of_values.each_mut().map(|blocks| blocks.next().expect("as many blocks"))))
        .collect();
    blocks.into_par_iter().enumerate().for_each(|(at, (to_rows, mut to_values))| {
        let first = at * block;
        let last = columns.min(first + block);
        let start = if first == 0 { 0 } else { column_ends[first - 1] };
        let begins = std::iter::once(0).chain(column_ends[first..last].iter().map(|end| end - start));
        let mut next: Vec<usize> = begins.collect();
        for (row, entries) in parts(first, last) {
            for entry in entries {
                let next = &mut next[indices[entry] as usize - first];
                to_rows[*next] = row;
                for (to, from) in to_values.iter_mut().zip(&values) {
                    to[*next] = from[entry];
                }
                *next += 1;
            }
        }
    });
    Transposed { ends: column_ends, rows, values: turned }
}

/// Cuts at these ends, to be written in parallel.
fn cut<'a, T>(mut from: &'a mut [T], ends: &[usize]) -> Vec<&'a mut [T]> {
    let mut start = 0;
    let part = |&end: &usize| {
        let (part, rest) = std::mem::take(&mut from).split_at_mut(end - start);
        (from, start) = (rest, end);
        part
    };
    ends.iter().map(part).collect()
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

    fn entries((ends, indices, values): Lists) -> Vec<(usize, usize, f32)> {
        let row_of = |entry: usize| ends.partition_point(|&end| end <= entry);
        (0..indices.len()).map(|entry| (row_of(entry), indices[entry] as usize, values[entry])).collect()
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
                prop_assert_eq!(entries(got.lists()), want.clone(), "{}", isa.name());
                let doubled: Vec<f32> = got.values.iter().map(|value| value * 2.0).collect();
                let back = transposed(&got.ends, &got.indices, [&got.values, &doubled], columns);
                prop_assert_eq!(back.ends.len(), columns);
                prop_assert_eq!(entries((&back.ends, &back.rows, &back.values[0])), turned.clone());
                let doubles = turned.iter().map(|&(j, k, v)| (j, k, v * 2.0)).collect::<Vec<_>>();
                prop_assert_eq!(entries((&back.ends, &back.rows, &back.values[1])), doubles);
            }
        }
    }

    #[test]
    #[should_panic(expected = "entries in 3 columns")]
    fn a_column_too_many_is_refused() {
        transposed(&[1], &[3], [&[1.0]], 3);
    }
}

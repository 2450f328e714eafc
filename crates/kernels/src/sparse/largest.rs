//! The largest values, without sorting: the largest of each of many groups tell a bound that few values exceed.

use super::{Sparse, above, rows};
use crate::Isa;
use crate::isa::per_isa;
use rayon::prelude::*;

/// Groups whose largest are found side by side.
const LANES: usize = 16;
/// Groups for each value wanted: with fewer more values exceed the bound, with more the bound itself takes longer.
const GROUPS: usize = 2;

/// The `k` largest of the values above 0 in each row of a matrix `[rows][columns]`, or all where there are fewer. Of
/// equal values those in lower columns are taken. NaN is not above 0.
///
/// # Panics
/// If `values` is not whole rows, or there are 2³² columns or more.
pub fn largest_of_rows(isa: Isa, values: &[f32], columns: usize, k: usize) -> Sparse {
    let rows = rows(values, columns);
    Sparse::by_rows(rows, |row, to| {
        let row = &values[row * columns..][..columns];
        let depth = depth(columns, k);
        let mut largest = Vec::with_capacity(columns.div_ceil(depth * LANES) * LANES);
        add_largest(isa, row, depth, &mut largest);
        let start = to.len();
        above(isa, row, bound(&mut largest, k), &mut to.indices, &mut to.values);
        let mut keep = Keep::largest(&to.values[start..], k);
        let mut end = start;
        for at in start..to.len() {
            if keep.takes(to.values[at]) {
                (to.indices[end], to.values[end]) = (to.indices[at], to.values[at]);
                end += 1;
            }
        }
        to.indices.truncate(end);
        to.values.truncate(end);
    })
}

/// The `k` largest of the values above 0 in all rows of a matrix `[rows][columns]` together, or all where there are
/// fewer. Of equal values those in lower rows, then lower columns, are taken. NaN is not above 0.
///
/// # Panics
/// If `values` is not whole rows, or there are 2³² columns or more.
pub fn largest_of_batch(isa: Isa, values: &[f32], columns: usize, k: usize) -> Sparse {
    let rows = rows(values, columns);
    let depth = depth(values.len(), k);
    let part = (values.len() / (4 * rayon::current_num_threads())).next_multiple_of(depth * LANES);
    let parts = values.par_chunks(part.max(LANES)).map(|values| {
        let mut largest = vec![];
        add_largest(isa, values, depth, &mut largest);
        largest
    });
    let limit = bound(&mut parts.collect::<Vec<_>>().concat(), k);
    let candidates = Sparse::by_rows(rows, |row, to| {
        above(isa, &values[row * columns..][..columns], limit, &mut to.indices, &mut to.values);
    });
    let mut keep = Keep::largest(&candidates.values, k);
    let mut kept = Sparse::default();
    let mut at = 0;
    for &end in &candidates.ends {
        for entry in at..end {
            if keep.takes(candidates.values[entry]) {
                kept.indices.push(candidates.indices[entry]);
                kept.values.push(candidates.values[entry]);
            }
        }
        at = end;
        kept.ends.push(kept.len());
    }
    kept
}

/// Values in a group, where `k` of so many are wanted.
fn depth(values: usize, k: usize) -> usize {
    (values / k.saturating_mul(GROUPS).max(1)).max(1)
}

per_isa! {
    /// Adds the largest value above 0 of each group, or 0: group l holds every sixteenth of 16 · `depth` values.
    fn add_largest[simd: S](values: &[f32], depth: usize, largest: &mut Vec<f32>) {
        for groups in values.chunks(depth.saturating_mul(LANES)) {
            let mut all = [0f32; LANES];
            let (whole, rest) = groups.as_chunks::<LANES>();
            for values in whole {
                for lane in 0..LANES {
                    // as the instruction has it, NaN loses
                    all[lane] = if values[lane] > all[lane] { values[lane] } else { all[lane] };
                }
            }
            for (largest, &value) in all.iter_mut().zip(rest) {
                *largest = if value > *largest { value } else { *largest };
            }
            largest.extend(all);
        }
    }
}

/// A number below the `k` largest of all, or 0, made of the largest of each group: `k` groups reach it, so `k` values do.
fn bound(largest: &mut [f32], k: usize) -> f32 {
    match k {
        0 => f32::INFINITY,
        k if k > largest.len() => 0.0,
        k => match kth(largest, k) {
            0.0 => 0.0,
            value => value.next_down(),
        },
    }
}

/// The `k`-th largest, k ≥ 1, of numbers that are no NaN. Moves them.
fn kth(values: &mut [f32], k: usize) -> f32 {
    *values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Which values are among the largest, asked one after another.
struct Keep {
    /// The smallest of them.
    limit: f32,
    /// How many equal to it are still to be taken.
    ties: usize,
}

impl Keep {
    fn largest(values: &[f32], k: usize) -> Self {
        if values.len() <= k {
            return Self { limit: 0.0, ties: 0 };
        }
        if k == 0 {
            return Self { limit: f32::INFINITY, ties: 0 };
        }
        let limit = kth(&mut values.to_vec(), k);
        Self { limit, ties: k - values.iter().filter(|value| **value > limit).count() }
    }

    fn takes(&mut self, value: f32) -> bool {
        if value != self.limit {
            return value > self.limit;
        }
        let takes = self.ties > 0;
        self.ties -= usize::from(takes);
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    /// Places of the `k` largest above 0, by sorting.
    fn sorted(values: &[f32], k: usize) -> Vec<usize> {
        let mut places: Vec<usize> = (0..values.len()).filter(|&at| values[at] > 0.0).collect();
        places.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
        places.truncate(k);
        places.sort_unstable();
        places
    }

    fn check(values: &[f32], columns: usize, k: usize) {
        let entries = |sparse: &Sparse| -> Vec<(usize, f32)> {
            let row_of = |entry: usize| sparse.ends.partition_point(|&end| end <= entry);
            let place = |entry: usize| row_of(entry) * columns + sparse.indices[entry] as usize;
            (0..sparse.len()).map(|entry| (place(entry), sparse.values[entry])).collect()
        };
        let with_values = |places: Vec<usize>| -> Vec<(usize, f32)> {
            places.into_iter().map(|at| (at, values[at])).collect()
        };
        let by_row = values.chunks(columns).enumerate();
        let by_row: Vec<usize> = by_row
            .flat_map(|(row, values)| sorted(values, k).into_iter().map(move |at| row * columns + at))
            .collect();
        let rows = values.len() / columns;
        for isa in Isa::available() {
            let name = isa.name();
            assert_eq!(
                entries(&largest_of_rows(isa, values, columns, k)),
                with_values(by_row.clone()),
                "{name}"
            );
            let got = largest_of_batch(isa, values, columns, k);
            assert_eq!((got.rows(), entries(&got)), (rows, with_values(sorted(values, k))), "{name}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn of_rows_as_wide_as_real_ones() {
        let values = crate::values(3, 2304, 4);
        for k in [0, 1, 2, 32, 100, 1000, 2304, usize::MAX] {
            check(values.as_slice().unwrap(), 2304, k);
        }
        // all equal, and nothing above 0
        check(&[0.5; 1000], 500, 7);
        check(&[-0.0; 1000], 500, 7);
        check(&[], 5, 7);
    }

    #[test]
    fn special_values() {
        let special =
            [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-45, 3e-45, 1.0, -1.0];
        let values: Vec<f32> = (0..4 * 200).map(|at| special[at * 7 % 10]).collect();
        for k in [1, 3, 25, 90, 200] {
            check(&values, 200, k);
        }
    }

    proptest! {
        #![proptest_config(cases(64))]
        #[test]
        fn the_same_as_by_sorting(
            rows in 0..8usize, columns in 1..up_to(700), k in 0..60usize, grid in 1..2000u32, seed: u64,
        ) {
            // on a grid, so that some are equal
            let values = crate::values(rows, columns, seed).mapv(|value| (value * grid as f32).round());
            check(values.as_slice().unwrap(), columns, k);
        }
    }
}

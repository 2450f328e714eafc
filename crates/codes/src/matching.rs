//! Which feature is which bit: the best one-to-one matching, and how well two columns of bits agree.

use crate::dependence::phi;
use crate::{BitMatrix, CodesError};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;

/// Scores are compared in steps of 2⁻⁴⁰: integers have an order, and sums of them no rounding.
const STEPS: f64 = (1u64 << 40) as f64;

/// The one-to-one matching with the largest sum of scores: `(row, column)` pairs, by row, min(rows, columns) of them.
///
/// `scores` are row-major, `columns` to a row, between −1 and 1; what is not a number counts as 0. Solved exactly by the Hungarian
/// method (Kuhn 1955, Munkres 1957) in O(k² m) for the shorter side k and the longer one m.
///
/// # Panics
/// If the scores are not whole rows.
pub fn best_matching(scores: &[f64], columns: usize) -> Vec<(usize, usize)> {
    let rows = scores.len().checked_div(columns).unwrap_or(0);
    assert_eq!(scores.len(), rows * columns, "scores are not whole rows");
    if rows == 0 {
        return vec![];
    }
    let steps = |&score: &f64| if score.is_nan() { 0 } else { (score.clamp(-1.0, 1.0) * STEPS) as i64 };
    let weights =
        Matrix::from_vec(rows, columns, scores.iter().map(steps).collect()).expect("as many as checked");
    if rows <= columns {
        let (_, of_row) = kuhn_munkres(&weights);
        return of_row.into_iter().enumerate().collect();
    }
    let (_, of_column) = kuhn_munkres(&weights.transposed());
    let mut pairs: Vec<_> = of_column.into_iter().enumerate().map(|(column, row)| (row, column)).collect();
    pairs.sort_unstable();
    pairs
}

/// How two columns of bits agree: the counts of their four-field table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Rows.
    pub rows: u64,
    /// Rows in which the first is on.
    pub first: u64,
    /// Rows in which the second is on.
    pub second: u64,
    /// Rows in which both are on.
    pub both: u64,
}

impl Agreement {
    /// The φ coefficient, which is Pearson's correlation of two bits and Matthews's of a prediction: −1 to 1, and 0 where one of
    /// them never changes.
    pub fn phi(&self) -> f64 {
        phi(self.both, self.first, self.second, self.rows)
    }

    /// F1 of the second as a prediction of the first, 2 TP / (2 TP + FP + FN): 0 to 1, and 0 where neither is ever on.
    pub fn f1(&self) -> f64 {
        let either = self.first + self.second;
        if either == 0 { 0.0 } else { 2.0 * self.both as f64 / either as f64 }
    }

    /// The same with the second's bits turned around.
    pub fn turned(&self) -> Self {
        Self { second: self.rows - self.second, both: self.first - self.both, ..*self }
    }
}

/// The agreement of every column of `first` with every column of `second`, row-major: `second.features()` to each of `first`.
///
/// # Errors
/// [`CodesError::Rows`] if they have not the same rows.
pub fn agreements(first: &BitMatrix, second: &BitMatrix) -> Result<Vec<Agreement>, CodesError> {
    if first.rows() != second.rows() {
        return Err(CodesError::Rows { expected: first.rows(), got: second.rows() });
    }
    let rows = first.rows() as u64;
    let (first, second) = (first.transposed(), second.transposed());
    let ones = |column: &[u64]| column.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
    let of_second: Vec<u64> = (0..second.rows()).map(|j| ones(second.row(j))).collect();
    let mut all = Vec::with_capacity(first.rows() * second.rows());
    for i in 0..first.rows() {
        let a = first.row(i);
        let on = ones(a);
        all.extend(of_second.iter().enumerate().map(|(j, &of_second)| {
            let both = a.iter().zip(second.row(j)).map(|(a, b)| u64::from((a & b).count_ones())).sum();
            Agreement { rows, first: on, second: of_second, both }
        }));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The largest sum over all one-to-one matchings, by trying them.
    fn best_sum(scores: &[f64], rows: usize, columns: usize) -> f64 {
        fn from(scores: &[f64], row: usize, rows: usize, columns: usize, taken: u32, left: usize) -> f64 {
            if row == rows {
                return if left == 0 { 0.0 } else { f64::NEG_INFINITY };
            }
            // leaving this row out, where rows are more than columns
            let mut best = if rows - row > left {
                from(scores, row + 1, rows, columns, taken, left)
            } else {
                f64::NEG_INFINITY
            };
            for column in 0..columns {
                if left > 0 && taken >> column & 1 == 0 {
                    let rest = from(scores, row + 1, rows, columns, taken | 1 << column, left - 1);
                    best = best.max(scores[row * columns + column] + rest);
                }
            }
            best
        }
        from(scores, 0, rows, columns, 0, rows.min(columns))
    }

    proptest! {
        #[test]
        fn no_other_matching_scores_more(
            (rows, columns, scores) in (1usize..5, 1usize..6).prop_flat_map(|(rows, columns)| {
                (Just(rows), Just(columns), prop::collection::vec(-1.0f64..1.0, rows * columns))
            })
        ) {
            let pairs = best_matching(&scores, columns);
            prop_assert_eq!(pairs.len(), rows.min(columns));
            let mut seen: Vec<_> = pairs.iter().map(|pair| pair.1).collect();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(seen.len(), pairs.len());
            prop_assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0));
            let sum: f64 = pairs.iter().map(|&(row, column)| scores[row * columns + column]).sum();
            prop_assert!((sum - best_sum(&scores, rows, columns)).abs() < 1e-9);
        }

        #[test]
        fn counts_are_those_of_a_loop(rows in 0usize..150, a in 1usize..4, b in 1usize..70, seed: u64) {
            let draw = |features: usize, salt: u64| {
                let mut codes = BitMatrix::zeros(rows, features);
                for (row, feature) in (0..rows).flat_map(|row| (0..features).map(move |j| (row, j))) {
                    let hash = (seed ^ salt ^ (row * 977 + feature) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    codes.set(row, feature, hash >> 63 == 1);
                }
                codes
            };
            let (first, second) = (draw(a, 1), draw(b, 2));
            let all = agreements(&first, &second).unwrap();
            for (at, got) in all.iter().enumerate() {
                let (i, j) = (at / b, at % b);
                let count = |on: &dyn Fn(usize) -> bool| (0..rows).filter(|&row| on(row)).count() as u64;
                prop_assert_eq!(*got, Agreement {
                    rows: rows as u64,
                    first: count(&|row| first.get(row, i)),
                    second: count(&|row| second.get(row, j)),
                    both: count(&|row| first.get(row, i) && second.get(row, j)),
                });
                prop_assert!((got.phi() + got.turned().phi()).abs() < 1e-12);
                prop_assert!(got.phi().abs() <= 1.0 + 1e-12 && (0.0..=1.0).contains(&got.f1()));
            }
        }
    }

    #[test]
    fn edges() {
        assert_eq!(best_matching(&[], 3), []);
        assert_eq!(best_matching(&[], 0), []);
        // what is greedy takes .9 and is left with 0
        assert_eq!(best_matching(&[0.9, 0.8, 0.8, 0.0], 2), [(0, 1), (1, 0)]);
        assert_eq!(best_matching(&[f64::NAN, 0.1], 2), [(0, 1)]);
        let same = Agreement { rows: 10, first: 4, second: 4, both: 4 };
        assert_eq!((same.phi(), same.f1()), (1.0, 1.0));
        assert_eq!((same.turned().phi(), same.turned().f1()), (-1.0, 0.0));
        let constant = Agreement { rows: 10, first: 4, second: 10, both: 4 };
        assert_eq!((constant.phi(), Agreement::default().f1()), (0.0, 0.0));
        assert!(agreements(&BitMatrix::zeros(1, 2), &BitMatrix::zeros(2, 2)).is_err());
    }
}

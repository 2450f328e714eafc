//! The intrinsic dimension by the two nearest neighbours.

use ndarray::{ArrayView1, ArrayView2};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Share of the rows left out of the fit, those with the largest ratios, as the paper does.
const DISCARDED: f64 = 0.1;
/// Fewer distinct rows say nothing.
const FEWEST_ROWS: usize = 10;
/// Rows that are compared with as many others at once: both stay in a cache.
const TILE: usize = 32;

/// TwoNN (Facco, d'Errico, Rodriguez & Laio 2017, Scientific Reports 7:12140). For each row μ is the distance to its second
/// neighbour over that to its first; were the rows dense around it, the share with a ratio above μ would be μ^−d. The dimension is the
/// slope of −ln(1 − F(μ)) against ln μ, through the origin.
///
/// Descriptive: it says how neighbourhoods of this many rows look. It moves with the number of rows, it is too low for
/// high dimensions, and says nothing about bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TwoNn {
    /// The slope.
    pub dimension: Option<f64>,
    /// Rows drawn, at most 4,096, without replacement.
    pub rows: usize,
    /// Of these, left out because an earlier row is the same: they would be at distance 0.
    pub duplicates: usize,
    /// Share of the rows that is left out of the fit, those with the largest μ.
    pub discard_fraction: f64,
    /// Of the draw.
    pub seed: u64,
}

/// Of rows `[n, d_in]`, drawn with this seed; as an error without the dimension, and why.
pub fn two_nn(rows: ArrayView2<f32>, seed: u64) -> Result<TwoNn, (TwoNn, &'static str)> {
    let mut seen = HashSet::new();
    // 0 and −0 are one number
    let bits = |row: ArrayView1<f32>| row.iter().map(|&x| (x + 0.0).to_bits()).collect::<Vec<u32>>();
    let distinct: Vec<Vec<f32>> =
        rows.rows().into_iter().filter(|&row| seen.insert(bits(row))).map(|row| row.to_vec()).collect();
    drop(seen);
    let mut figures = TwoNn {
        dimension: None,
        rows: rows.nrows(),
        duplicates: rows.nrows() - distinct.len(),
        discard_fraction: DISCARDED,
        seed,
    };
    if distinct.len() < FEWEST_ROWS {
        return Err((figures, "there are fewer than 10 rows that differ"));
    }
    let mut ratios: Vec<f64> = nearest_two(&distinct)
        .into_iter()
        // of squares
        .map(|[first, second]| 0.5 * libm::log(second / first))
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let kept = ((1.0 - DISCARDED) * ratios.len() as f64) as usize;
    let (mut products, mut squares) = (0.0, 0.0);
    for (at, ratio) in ratios[..kept].iter().enumerate() {
        let above = 1.0 - (at + 1) as f64 / ratios.len() as f64;
        products -= ratio * libm::log(above);
        squares += ratio * ratio;
    }
    if squares == 0.0 {
        return Err((figures, "the two nearest neighbours of nearly every row are equally far"));
    }
    figures.dimension = Some(products / squares);
    Ok(figures)
}

/// Squared distances of each row to its two nearest others.
fn nearest_two(rows: &[Vec<f32>]) -> Vec<[f64; 2]> {
    let tiles = rows.len().div_ceil(TILE);
    let range = |tile: usize| tile * TILE..rows.len().min((tile + 1) * TILE);
    let none = || vec![[f64::INFINITY; 2]; rows.len()];
    (0..tiles)
        .into_par_iter()
        .fold(none, |mut nearest, left| {
            for right in left..tiles {
                for i in range(left) {
                    for j in range(right).filter(|&j| j > i) {
                        let square = squared_distance(&rows[i], &rows[j]);
                        insert(&mut nearest[i], square);
                        insert(&mut nearest[j], square);
                    }
                }
            }
            nearest
        })
        // the two smallest of all are the same in any order
        .reduce(none, |mut one, other| {
            for (one, [first, second]) in one.iter_mut().zip(other) {
                insert(one, first);
                insert(one, second);
            }
            one
        })
}

fn insert([first, second]: &mut [f64; 2], value: f64) {
    if value < *first {
        *second = std::mem::replace(first, value);
    } else if value < *second {
        *second = value;
    }
}

/// In f64: of differences, for rows that are close are what is looked for.
fn squared_distance(x: &[f32], y: &[f32]) -> f64 {
    const LANES: usize = 8;
    let square = |x: f32, y: f32| {
        let difference = f64::from(x) - f64::from(y);
        difference * difference
    };
    let (x, x_rest) = x.as_chunks::<LANES>();
    let (y, y_rest) = y.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += square(x, y);
        }
    }
    sums.iter().sum::<f64>() + x_rest.iter().zip(y_rest).map(|(&x, &y)| square(x, y)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, concatenate};
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Rows uniform in a cube of `dimension`, turned into `d_in` dimensions.
    fn cube(rows: usize, dimension: usize, d_in: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(dimension as u64);
        let inside = Array2::from_shape_simple_fn((rows, dimension), || rng.random::<f32>());
        let map = Array2::from_shape_simple_fn((dimension, d_in), || rng.random::<f32>() - 0.5);
        inside.dot(&map)
    }

    #[test]
    fn finds_the_dimension_of_flat_pieces() {
        for (dimension, d_in, tolerance) in [(1, 3, 0.05), (2, 10, 0.1), (5, 24, 0.4)] {
            let found = two_nn(cube(4000, dimension, d_in).view(), 0).unwrap();
            let found = found.dimension.unwrap();
            assert!((found - dimension as f64).abs() < tolerance, "{found} instead of {dimension}");
        }
    }

    #[test]
    fn a_circle_has_one_dimension() {
        let mut rows = cube(2000, 1, 1) * 100.0;
        rows = concatenate![ndarray::Axis(1), rows.mapv(f32::cos), rows.mapv(f32::sin)];
        let two = two_nn(rows.view(), 0).unwrap();
        assert!((two.dimension.unwrap() - 1.0).abs() < 0.15, "{two:?}");
    }

    #[test]
    fn rows_that_are_the_same_count_once() {
        let rows = cube(500, 2, 6);
        let twice = concatenate![ndarray::Axis(0), rows, rows];
        let (once, twice) = (two_nn(rows.view(), 0).unwrap(), two_nn(twice.view(), 0).unwrap());
        assert_eq!((once.dimension, twice.duplicates), (twice.dimension, 500));
        let zeros = Array2::from_shape_fn((40, 2), |(k, _)| if k % 2 == 0 { 0.0 } else { -0.0 });
        let (zeros, why) = two_nn(zeros.view(), 0).unwrap_err();
        assert_eq!((zeros.duplicates, why), (39, "there are fewer than 10 rows that differ"));
    }

    #[test]
    fn where_no_slope_is_there_is_a_reason() {
        let even = Array2::from_shape_fn((64, 2), |(k, j)| if j == 0 { k % 8 } else { k / 8 } as f32);
        let (figures, why) = two_nn(even.view(), 3).unwrap_err();
        assert_eq!((figures.dimension, figures.seed), (None, 3));
        assert_eq!(why, "the two nearest neighbours of nearly every row are equally far");
        assert!(two_nn(Array2::zeros((0, 4)).view(), 0).is_err());
    }

    proptest! {
        #[test]
        fn neighbours_are_those_of_a_plain_search(count in 3usize..90, d_in in 1usize..21) {
            let rows = cube(count, 3, d_in);
            let rows: Vec<Vec<f32>> = rows.rows().into_iter().map(|row| row.to_vec()).collect();
            for (i, found) in nearest_two(&rows).into_iter().enumerate() {
                let mut all: Vec<f64> = (0..count).filter(|&j| j != i).map(|j| {
                    rows[i].iter().zip(&rows[j]).map(|(&x, &y)| (f64::from(x) - f64::from(y)).powi(2)).sum()
                }).collect();
                all.sort_unstable_by(f64::total_cmp);
                for (found, plain) in found.into_iter().zip(all) {
                    prop_assert!((found - plain).abs() <= 1e-12 * plain, "{found} {plain}");
                }
            }
        }
    }
}

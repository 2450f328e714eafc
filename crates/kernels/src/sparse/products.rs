//! Sums over the entries of codes, and products at them.

use super::Lists;
use crate::Isa;
use crate::isa::per_isa;
use crate::lanes::Simd;
use crate::window::dots_of;
use rayon::prelude::*;
use std::ops::Range;

/// Rows that are decoded together.
const ROWS: usize = 64;
/// Features and columns of W that are copied to lie at hand where rows of codes have many entries. Changes no bit.
const BLOCK: usize = 64;
const STRIP: usize = 128;
/// Share of entries from which on they are.
const BLOCKS_FROM: f64 = 0.05;

/// out += h W: codes h `[rows, features]`, W `[features][columns]`, out `[rows][columns]`. Each sum goes on from what it is
/// and takes the features in ascending order.
///
/// # Panics
/// If the lengths do not fit, or an entry lies in a feature that W lacks.
pub fn add_decoded(isa: Isa, codes: Lists, weights: &[f32], columns: usize, out: &mut [f32]) {
    let rows = codes.0.len();
    assert_eq!(out.len(), rows * columns, "outputs of all rows");
    if columns == 0 {
        return;
    }
    assert!(weights.len().is_multiple_of(columns), "whole rows of weights");
    let many = codes.1.len() as f64 >= BLOCKS_FROM * (rows * weights.len() / columns) as f64;
    let decode = if many { decode_many } else { decode_few };
    out.par_chunks_mut(ROWS * columns).enumerate().for_each(|(at, out)| {
        decode(isa, codes, at * ROWS, weights, columns, out);
    });
}

/// Where the entries of a row are.
fn range(ends: &[usize], row: usize) -> Range<usize> {
    let start = if row == 0 { 0 } else { ends[row - 1] };
    start..ends[row]
}

per_isa! {
    fn decode_few[simd: S](codes: Lists, first: usize, weights: &[f32], columns: usize, out: &mut [f32]) {
        let (ends, features, values) = codes;
        for (row, out) in out.chunks_exact_mut(columns).enumerate() {
            let here = range(ends, first + row);
            add_rows(simd, &features[here.clone()], &values[here], |feature| &weights[feature as usize * columns..], out);
        }
    }
}

per_isa! {
    fn decode_many[simd: S](codes: Lists, first: usize, weights: &[f32], columns: usize, out: &mut [f32]) {
        let (ends, features, values) = codes;
        let rows = first..first + out.len() / columns;
        let mut at_hand = vec![[0f32; STRIP]; BLOCK];
        let mut here: Vec<Range<usize>> = rows.clone().map(|row| range(ends, row).start..0).collect();
        for (block, weights) in weights.chunks(BLOCK * columns).enumerate() {
            let start = block * BLOCK;
            for (row, here) in rows.clone().zip(&mut here) {
                let rest = &features[here.start..ends[row]];
                here.end = here.start + rest.iter().take_while(|&&feature| (feature as usize) < start + BLOCK).count();
            }
            for strip in (0..columns).step_by(STRIP) {
                let width = STRIP.min(columns - strip);
                for (to, row) in at_hand.iter_mut().zip(weights.chunks_exact(columns)) {
                    to[..width].copy_from_slice(&row[strip..strip + width]);
                }
                for (here, out) in here.iter().zip(out.chunks_exact_mut(columns)) {
                    let row = |feature| &at_hand[feature as usize - start][..];
                    let (features, values) = (&features[here.clone()], &values[here.clone()]);
                    add_rows(simd, features, values, row, &mut out[strip..strip + width]);
                }
            }
            here.iter_mut().for_each(|here| here.start = here.end);
        }
        // an entry that no block took lies beyond the weights
        assert!(rows.zip(here).all(|(row, here)| here.start == ends[row]), "features of the weights");
    }
}

per_isa! {
    /// out[i] = Σ_c matrix[rows[i], c] · w[c]: matrix `[n][width]`, w `[width]`, rows and out of one length. A dot product
    /// is sixteen chains of fused multiply-adds, over c mod 16, added up in halves.
    ///
    /// Panics if the lengths do not fit, or the matrix has no such row.
    pub fn dots[simd: S](rows: &[u32], matrix: &[f32], w: &[f32], out: &mut [f32]) {
        assert_eq!(rows.len(), out.len(), "a row for each product");
        dots_of(simd, rows, matrix, w, |at, dot| out[at] = dot);
    }
}

per_isa! {
    /// out += Σ_i factors[i] · matrix[rows[i], :], one after another: matrix `[n][width]`, out `[width]`.
    ///
    /// Panics if the lengths do not fit, or the matrix has no such row.
    pub fn add_scaled_rows[simd: S](rows: &[u32], factors: &[f32], matrix: &[f32], out: &mut [f32]) {
        assert_eq!(rows.len(), factors.len(), "a factor for each row");
        let width = out.len();
        add_rows(simd, rows, factors, |row| &matrix[row as usize * width..], out);
    }
}

/// out += Σ_i factors[i] · row(indices[i]), as many columns at a time as stay in registers.
#[inline(always)]
fn add_rows<'a, S: Simd>(
    simd: S,
    indices: &[u32],
    factors: &[f32],
    row: impl Fn(u32) -> &'a [f32],
    out: &mut [f32],
) {
    if indices.is_empty() {
        return;
    }
    const VECTORS: usize = 8;
    let mut done = 0;
    while done + VECTORS * S::LANES <= out.len() {
        add_columns::<S, VECTORS>(simd, indices, factors, &row, done, out);
        done += VECTORS * S::LANES;
    }
    while done + S::LANES <= out.len() {
        add_columns::<S, 1>(simd, indices, factors, &row, done, out);
        done += S::LANES;
    }
    for (column, out) in out.iter_mut().enumerate().skip(done) {
        for (&index, &factor) in indices.iter().zip(factors) {
            *out = row(index)[column].mul_add(factor, *out);
        }
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn add_columns<'a, S: Simd, const VECTORS: usize>(
    simd: S,
    indices: &[u32],
    factors: &[f32],
    row: impl Fn(u32) -> &'a [f32],
    first: usize,
    out: &mut [f32],
) {
    let out = &mut out[first..][..VECTORS * S::LANES];
    let mut sums = [simd.splat(0.0); VECTORS];
    for vector in 0..VECTORS {
        sums[vector] = simd.load(&out[vector * S::LANES..]);
    }
    for (&index, &factor) in indices.iter().zip(factors) {
        let row = &row(index)[first..][..VECTORS * S::LANES];
        let factor = simd.splat(factor);
        for vector in 0..VECTORS {
            sums[vector] = simd.mul_add(simd.load(&row[vector * S::LANES..]), factor, sums[vector]);
        }
    }
    for vector in 0..VECTORS {
        simd.store(sums[vector], &mut out[vector * S::LANES..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::tests::codes;
    use crate::sparse::transposed;
    use crate::values;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    fn vector(length: usize, seed: u64) -> Vec<f32> {
        values(1, length, seed).into_raw_vec_and_offset().0
    }

    fn check(rows: usize, features: usize, columns: usize, share: f32, seed: u64) {
        let (h, dense) = codes(rows, features, share, seed);
        let (weights, errors) = (values(features, columns, seed ^ 3), values(rows, columns, seed ^ 7));
        let (bias, w) = (vector(columns, seed ^ 5), vector(columns, seed ^ 11));
        let turned = transposed(&h.ends, &h.indices, [&h.values], features);
        let mut plain = None;
        for isa in Isa::available() {
            let name = isa.name();
            let mut out = bias.repeat(rows);
            add_decoded(isa, h.lists(), weights.as_slice().unwrap(), columns, &mut out);
            for k in 0..rows {
                for c in 0..columns {
                    let on = (0..features).filter(|&j| dense[[k, j]] != 0.0);
                    let chain = on.fold(bias[c], |sum, j| weights[[j, c]].mul_add(dense[[k, j]], sum));
                    assert_eq!(
                        out[k * columns + c],
                        chain,
                        "{name} decode {rows}x{features}x{columns} {k} {c}"
                    );
                }
            }
            let mut all_dots = vec![];
            for j in 0..features.min(20) {
                let here = range(&turned.ends, j);
                let (samples, factors) = (&turned.rows[here.clone()], &turned.values[0][here]);
                let mut gradient = bias.clone();
                add_scaled_rows(isa, samples, factors, errors.as_slice().unwrap(), &mut gradient);
                for c in 0..columns {
                    let terms = samples.iter().zip(factors);
                    let chain = terms.fold(bias[c], |sum, (&k, &f)| errors[[k as usize, c]].mul_add(f, sum));
                    assert_eq!(gradient[c], chain, "{name} scaled rows");
                }
                let mut products = vec![9f32; samples.len()];
                dots(isa, samples, errors.as_slice().unwrap(), &w, &mut products);
                for (&k, &dot) in samples.iter().zip(&products) {
                    let row = errors.row(k as usize);
                    let want: f64 = row.iter().zip(&w).map(|(&e, &w)| f64::from(e) * f64::from(w)).sum();
                    assert!((f64::from(dot) - want).abs() < 1e-6 * (columns as f64 + 4.0), "{dot} {want}");
                }
                all_dots.extend(products);
            }
            let plain = plain.get_or_insert_with(|| all_dots.clone());
            assert_eq!(&all_dots, plain, "{name} dots");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn equal_the_chains_at_block_edges() {
        for size in [1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300] {
            check(7, 70, size, 0.5, 5);
            check(7, size, 33, 0.03, 6);
            check(7, size, 33, 0.4, 6);
            check(size, 70, 20, 0.2, 7);
        }
        check(0, 4, 4, 0.5, 8);
        check(4, 4, 0, 0.5, 10);
    }

    #[test]
    fn the_same_bits_on_any_number_of_threads() {
        let (h, _) = codes(up_to(300), 70, 0.3, 3);
        let weights = values(70, 33, 4);
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0f32; h.rows() * 33];
            let weights = weights.as_slice().unwrap();
            pool.install(|| add_decoded(Isa::best(), h.lists(), weights, 33, &mut out));
            (out, pool.install(|| transposed(&h.ends, &h.indices, [&h.values], 70)))
        };
        assert_eq!(on(1), on(3));
    }

    #[test]
    fn a_feature_that_the_weights_lack_is_refused() {
        for share in [0.01, 0.9] {
            let (h, _) = codes(5, 300, share, 3);
            let mut out = vec![0f32; 5 * 4];
            let short = std::panic::AssertUnwindSafe(|| {
                add_decoded(Isa::PORTABLE, h.lists(), &[0.0; 20 * 4], 4, &mut out)
            });
            assert!(std::panic::catch_unwind(short).is_err(), "{share}");
        }
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn equal_the_chains(
            rows in 0..up_to(80), features in 1..up_to(200), columns in 1..up_to(150), share in 0f32..1.0, seed: u64,
        ) {
            check(rows, features, columns, share, seed);
        }
    }
}

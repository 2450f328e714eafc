//! Products of a bit matrix and an f32 matrix: adding the rows whose bit is set.

use crate::Isa;
use rayon::prelude::*;

/// out[i, :] += Σ rows[j, :] over the set bits j of row i, in ascending j.
///
/// `bits` holds `words_per_row` words for each row of `out`; `rows` and `out` have `columns` values to a row.
/// The sum is the same chain as a product with the 0/1 matrix, so both give the same bits.
///
/// # Panics
/// If a set bit has no row, or lengths are not whole rows.
pub fn add_selected(
    isa: Isa,
    bits: &[u64],
    words_per_row: usize,
    rows: &[f32],
    out: &mut [f32],
    columns: usize,
) {
    if columns == 0 || words_per_row == 0 {
        return;
    }
    assert_eq!(bits.len() / words_per_row, out.len() / columns, "one row of bits for each row of out");
    out.par_chunks_exact_mut(columns).zip(bits.par_chunks_exact(words_per_row)).for_each(|(out, bits)| {
        add_row(isa, bits, rows, out);
    });
}

crate::isa::per_isa! {
    fn add_row(bits: &[u64], rows: &[f32], out: &mut [f32]) {
        let columns = out.len();
        for (at, &word) in bits.iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let row = at * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                for (out, &value) in out.iter_mut().zip(&rows[row * columns..(row + 1) * columns]) {
                    *out += value;
                }
            }
        }
    }
}

/// out[j] += Σ_i rows[i, j], in ascending i.
///
/// # Panics
/// If `rows` is not whole rows of `out`'s length.
pub fn add_columns(isa: Isa, rows: &[f32], out: &mut [f32]) {
    if out.is_empty() {
        return;
    }
    assert_eq!(rows.len() % out.len(), 0, "whole rows");
    let columns = out.len();
    // panels of columns, so that threads share the work and each sum stays one chain
    out.par_chunks_mut(256).enumerate().for_each(|(panel, out)| {
        let first = panel * 256;
        let last = first + out.len();
        rows.chunks_exact(columns).for_each(|row| add_slice(isa, &row[first..last], out));
    });
}

crate::isa::per_isa! {
    fn add_slice(values: &[f32], out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(values) {
            *out += value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn equals_the_plain_sums(rows in 1usize..40, features in 1usize..150, columns in 1usize..40, seed: u64) {
            let mix = |at: usize| (seed ^ at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let words = features.div_ceil(64);
            let on = |row: usize, feature: usize| mix(row * 1009 + feature) >> 62 == 0;
            let mut bits = vec![0u64; rows * words];
            for row in 0..rows {
                for feature in 0..features {
                    bits[row * words + feature / 64] |= u64::from(on(row, feature)) << (feature % 64);
                }
            }
            let weights: Vec<f32> = (0..features * columns).map(|at| (mix(at) >> 40) as f32 * 1e-6 - 8.0).collect();
            let mut want = vec![0.5f32; rows * columns];
            for row in 0..rows {
                for feature in 0..features {
                    for column in 0..columns {
                        let h = f32::from(u8::from(on(row, feature)));
                        let sum = &mut want[row * columns + column];
                        *sum = h.mul_add(weights[feature * columns + column], *sum);
                    }
                }
            }
            for isa in Isa::available() {
                let mut got = vec![0.5f32; rows * columns];
                add_selected(isa, &bits, words, &weights, &mut got, columns);
                prop_assert_eq!(&got, &want);
                let mut sums = vec![0f32; columns];
                add_columns(isa, &weights, &mut sums);
                let plain: Vec<f32> = (0..columns)
                    .map(|column| (0..features).fold(0f32, |sum, row| sum + weights[row * columns + column]))
                    .collect();
                prop_assert_eq!(sums, plain);
            }
        }
    }
}

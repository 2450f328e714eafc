//! Packing the step function's result into bits, and turning bit matrices.

/// Packs rows of `columns` values into rows of `columns.div_ceil(64)` words: bit = value > 0 (so 0, −0 and NaN give 0).
///
/// # Panics
/// If `values` and `words` do not hold the same number of whole rows.
pub fn pack_positive(values: &[f32], columns: usize, words: &mut [u64]) {
    if columns == 0 {
        return;
    }
    assert_eq!(values.len() * columns.div_ceil(64), words.len() * columns, "rows of values and of words");
    let per_row = columns.div_ceil(64);
    for (row, words) in values.chunks_exact(columns).zip(words.chunks_exact_mut(per_row)) {
        pack_row(crate::Isa::best(), row, words);
    }
}

crate::isa::per_isa! {
    /// One row of [`pack_positive`].
    pub fn pack_row[simd: S](row: &[f32], words: &mut [u64]) {
        for (word, values) in words.iter_mut().zip(row.chunks(64)) {
            // bytes of eight comparisons each: a form that compilers turn into a vector comparison and a mask
            let mut bits = 0u64;
            for (eight, values) in values.chunks(8).enumerate() {
                let mut byte = 0u8;
                for (bit, &value) in values.iter().enumerate() {
                    byte |= u8::from(value > 0.0) << bit;
                }
                bits |= u64::from(byte) << (8 * eight);
            }
            *word = bits;
        }
    }
}

/// Turns `rows` rows of `columns` bits (packed by row, 64 to a word) into `columns` rows of `rows` bits.
///
/// Bits beyond the last column must be 0 in `from`; those beyond the last row are 0 in `to`.
///
/// # Panics
/// If the lengths do not fit the shapes.
pub fn transpose(from: &[u64], rows: usize, columns: usize, to: &mut [u64]) {
    let (across, down) = (columns.div_ceil(64), rows.div_ceil(64));
    assert_eq!((from.len(), to.len()), (rows * across, columns * down), "lengths of bit matrices");
    for block_column in 0..across {
        for block_row in 0..down {
            let mut block = [0u64; 64];
            let rows_here = 64.min(rows - block_row * 64);
            for (row, word) in block.iter_mut().take(rows_here).enumerate() {
                *word = from[(block_row * 64 + row) * across + block_column];
            }
            transpose_block(&mut block);
            let columns_here = 64.min(columns - block_column * 64);
            for (column, word) in block.iter().take(columns_here).enumerate() {
                to[(block_column * 64 + column) * down + block_row] = *word;
            }
        }
    }
}

/// Swaps ever smaller off-diagonal squares: 32 × 32, 16 × 16, … 1 × 1 (Hacker's Delight, section 7-3).
fn transpose_block(block: &mut [u64; 64]) {
    let mut half = 32;
    let mut mask = u64::MAX >> 32;
    while half > 0 {
        let mut row = 0;
        while row < 64 {
            let swapped = ((block[row] >> half) ^ block[row + half]) & mask;
            block[row] ^= swapped << half;
            block[row + half] ^= swapped;
            row = (row + half + 1) & !half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_turns() {
        let mut block = [0u64; 64];
        let mut state = 1u64;
        for word in &mut block {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
            *word = state;
        }
        let before = block;
        transpose_block(&mut block);
        for (row, turned) in block.iter().enumerate() {
            for (column, word) in before.iter().enumerate() {
                assert_eq!(turned >> column & 1, word >> row & 1, "{row} {column}");
            }
        }
    }

    #[test]
    fn only_values_above_zero_are_ones_on_every_instruction_set() {
        let edge = [f32::NAN, 0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::INFINITY, f32::NEG_INFINITY];
        for columns in [1usize, 7, 8, 9, 63, 64, 65, 200] {
            let row: Vec<f32> = (0..columns).map(|at| edge[at * 5 % 8]).collect();
            for isa in crate::Isa::available() {
                let mut words = vec![u64::MAX; columns.div_ceil(64)];
                pack_row(isa, &row, &mut words);
                for (at, value) in row.iter().enumerate() {
                    assert_eq!(words[at / 64] >> (at % 64) & 1 == 1, *value > 0.0, "{} {value}", isa.name());
                }
                assert!(columns % 64 == 0 || words[columns / 64] >> (columns % 64) == 0);
            }
        }
    }
}

//! Covariance of binary features in integers: D_ij = n c_ij − s_i s_j, where c counts the samples in which both are on
//! and s those in which one is. Here its absolute sum and its signs; what follows from the signs is in [`crate::signs`].
//!
//! All is counted on the bits that differ from a feature's majority. That turns the sign of D_ij where exactly one of
//! i and j is mostly on, and leaves |D_ij| alone.

use crate::Isa;
use crate::batch::{BatchCodes, transpose_block};
use crate::lanes::Simd;
use crate::signs::{SignRow, Signs, Zero};
use crate::slots::{LANES, Lanes, Slots, TILE};
use rayon::prelude::*;

/// What the covariance of one batch of codes comes to.
pub struct Covariance {
    pub(crate) samples: usize,
    pub(crate) slots: Slots,
    pub(crate) signs: Signs,
    /// Differing bits `[slot][word of samples / 16]`.
    pub(crate) by_slot: Vec<Lanes>,
    /// Differing bits `[sample / 16][tile of slots]`, a lane a sample; samples are padded to whole words.
    pub(crate) by_sample: Vec<Lanes>,
    /// Slots in which each sample differs, padded like `by_sample`.
    pub(crate) active: Vec<u32>,
    absolute_sum: i128,
}

/// Counts all pairs of features and keeps the signs. Features that do not vary cost nothing.
///
/// # Panics
/// If there are 2³¹ samples or more.
pub fn covariance(isa: Isa, codes: &BatchCodes) -> Covariance {
    let varying = Varying::new(codes);
    let rows: Vec<(i128, TileRow)> = (0..varying.slots.tiles())
        .into_par_iter()
        .with_max_len(1)
        .map(|row| {
            let mut kept = TileRow { signs: SignRow::of(varying.slots.tiles() - row), zeros: vec![] };
            (count_row(isa, &varying, row, Some(&mut kept)), kept)
        })
        .collect();
    let absolute_sum = rows.iter().map(|(sum, _)| sum).sum();
    let (signs, zeros): (Vec<_>, Vec<_>) = rows.into_iter().map(|(_, row)| (row.signs, row.zeros)).unzip();
    let signs = Signs::new(signs, &zeros);
    let (by_sample, active) = varying.by_sample(isa);
    let by_slot = varying.slots.rows(codes);
    Covariance {
        samples: varying.samples,
        slots: varying.slots,
        signs,
        by_slot,
        by_sample,
        active,
        absolute_sum,
    }
}

/// Σ_{i ≠ j} |D_ij| alone, over ordered pairs: no memory for pairs.
///
/// # Panics
/// As [`covariance`].
pub fn absolute_sum(isa: Isa, codes: &BatchCodes) -> i128 {
    let varying = Varying::new(codes);
    let rows = (0..varying.slots.tiles()).into_par_iter().with_max_len(1);
    rows.map(|row| count_row(isa, &varying, row, None)).sum()
}

impl Covariance {
    /// Σ_{i ≠ j} |D_ij| over ordered pairs, exactly.
    pub fn absolute_sum(&self) -> i128 {
        self.absolute_sum
    }

    /// The feature of each slot of a panel: 0, 16 or 32 of them, the last ones perhaps [`Slots::PADDING`].
    ///
    /// # Panics
    /// If there is no such panel.
    pub fn lanes_of(&self, panel: usize) -> &[u32] {
        self.slots.of_panel(panel)
    }
}

/// Up to here D fits i32, and 32 of its absolute values fit u32: |D| ≤ n² / 4.
const NARROW: usize = 1 << 14;

/// Differing bits of the features that vary.
struct Varying {
    samples: usize,
    words: usize,
    slots: Slots,
    /// `[slot / 16][word of samples]`.
    bits: Vec<Lanes>,
    /// Samples in which each slot differs, `[slot / 16]`.
    ones: Vec<Lanes>,
}

/// What a row of tiles leaves: its tiles from the diagonal on, and its pairs without a sign.
struct TileRow {
    signs: SignRow,
    zeros: Vec<Zero>,
}

impl Varying {
    fn new(codes: &BatchCodes) -> Self {
        assert!(codes.samples() < 1 << 31, "{} samples", codes.samples());
        let slots = Slots::new(codes);
        let bits = slots.differing(codes);
        let ones = slots.minorities(codes);
        Self { samples: codes.samples(), words: codes.words(), slots, bits, ones }
    }

    #[inline(always)]
    fn lane_panel(&self, panel: usize) -> &[Lanes] {
        &self.bits[panel * self.words..(panel + 1) * self.words]
    }

    #[inline(always)]
    fn ones_of(&self, slot: usize) -> u32 {
        self.ones[slot / LANES].0[slot % LANES]
    }

    /// The same bits with a lane a sample, and how many each sample has.
    fn by_sample(&self, isa: Isa) -> (Vec<Lanes>, Vec<u32>) {
        let tiles = self.slots.tiles();
        let mut by_sample = vec![Lanes::default(); 2 * self.words * tiles];
        let mut active = vec![0; 2 * self.words * LANES];
        let words =
            by_sample.par_chunks_exact_mut((2 * tiles).max(1)).zip(active.par_chunks_exact_mut(2 * LANES));
        words.enumerate().for_each(|(word, (samples, active))| turn_word(isa, self, word, samples, active));
        (by_sample, active)
    }
}

crate::isa::per_isa! {
    /// One word of all slots, for the 32 samples that are its bits.
    fn turn_word[simd: S](varying: &Varying, word: usize, samples: &mut [Lanes], active: &mut [u32]) {
        let (first, second) = samples.split_at_mut(varying.slots.tiles());
        for (tile, (first, second)) in first.iter_mut().zip(second).enumerate() {
            let mut block = [0; TILE];
            block[..LANES].copy_from_slice(&varying.lane_panel(2 * tile)[word].0);
            block[LANES..].copy_from_slice(&varying.lane_panel(2 * tile + 1)[word].0);
            transpose_block(&mut block);
            first.0.copy_from_slice(&block[..LANES]);
            second.0.copy_from_slice(&block[LANES..]);
            active.iter_mut().zip(block).for_each(|(active, bits)| *active += bits.count_ones());
        }
    }
}

crate::isa::per_isa! {
    /// Σ |D_ij| over the ordered pairs of which one is in tile `row` and the other in it or beyond.
    fn count_row[simd: S](varying: &Varying, row: usize, keep: Option<&mut TileRow>) -> i128 {
        let mut keep = keep;
        let mut sum = 0;
        if varying.samples <= NARROW {
            for column in row..varying.slots.tiles() {
                let tile = narrow_tile(simd, varying, row, column);
                sum += tile.finish(varying, row, column, keep.as_deref_mut());
            }
        } else {
            let tiles = varying.slots.tiles();
            for first in (row..tiles).step_by(WIDE_TILES) {
                let columns = first..tiles.min(first + WIDE_TILES);
                for (counts, column) in wide_counts(simd, varying, row, columns.clone()).iter().zip(columns) {
                    let tile = wide_tile(varying, row, column, counts);
                    sum += tile.finish(varying, row, column, keep.as_deref_mut());
                }
            }
        }
        sum
    }
}

/// All pairs of 32 slots with 32 others.
#[derive(Default)]
struct Tile {
    /// Bit j of row i is set where D_ij > 0.
    by_row: [u32; TILE],
    /// Bit i of column j is set there too.
    by_column: [u32; TILE],
    /// Bit j of row i is set where D_ij = 0.
    zeros: [u32; TILE],
    /// Σ |D_ij|, over i and j as if they were different even in a tile on the diagonal.
    sum: i128,
}

impl Tile {
    /// Takes out the diagonal and padding, keeps what is to be kept, and gives the sum over ordered pairs.
    #[inline(always)]
    fn finish(mut self, varying: &Varying, row: usize, column: usize, keep: Option<&mut TileRow>) -> i128 {
        let diagonal = row == column;
        let mut sum = 2 * self.sum;
        if diagonal {
            // D_ii = s_i (n − s_i) is above 0 in every slot that is no padding
            let own = (row * TILE..(row + 1) * TILE).map(|slot| u64::from(varying.ones_of(slot)));
            sum = self.sum - own.map(|ones| i128::from(ones * (varying.samples as u64 - ones))).sum::<i128>();
        }
        let Some(keep) = keep else { return sum };
        if diagonal {
            for at in 0..TILE {
                self.by_row[at] &= !(1 << at);
                self.by_column[at] &= !(1 << at);
                self.zeros[at] |= 1 << at;
            }
        }
        let (live_rows, live_columns) = (varying.slots.live(row), varying.slots.live(column));
        for (at, zeros) in self.zeros.iter_mut().enumerate() {
            *zeros &= if live_rows >> at & 1 == 1 { live_columns } else { 0 };
        }
        if self.zeros.iter().fold(0, |any, zeros| any | zeros) != 0 {
            keep_zeros(&self.zeros, row, column, &mut keep.zeros);
            if !diagonal {
                keep_zeros(&turned(&self.zeros), column, row, &mut keep.zeros);
            }
        }
        keep.signs.push(&self.by_row, &self.by_column);
        sum
    }
}

/// Few bits are set: most often one or two.
#[inline(always)]
fn turned(zeros: &[u32; TILE]) -> [u32; TILE] {
    let mut turned = *zeros;
    if zeros.iter().map(|row| row.count_ones()).sum::<u32>() > TILE as u32 {
        transpose_block(&mut turned);
        return turned;
    }
    turned.fill(0);
    for (at, &row) in zeros.iter().enumerate() {
        let mut rest = row;
        while rest != 0 {
            turned[rest.trailing_zeros() as usize] |= 1 << at;
            rest &= rest - 1;
        }
    }
    turned
}

#[inline(always)]
fn keep_zeros(zeros: &[u32; TILE], row: usize, column: usize, keep: &mut Vec<Zero>) {
    for (at, &lanes) in zeros.iter().enumerate().filter(|(_, lanes)| **lanes != 0) {
        let slot = (row * TILE + at) as u32;
        for (half, lanes) in
            [lanes & 0xFFFF, lanes >> 16].into_iter().enumerate().filter(|(_, lanes)| *lanes != 0)
        {
            keep.push(Zero { panel: (2 * column + half) as u32, slot, lanes });
        }
    }
}

#[inline(always)]
fn narrow_tile<S: Simd>(simd: S, varying: &Varying, row: usize, column: usize) -> Tile {
    let mut tile = Tile::default();
    // as many sums as registers hold beside their operands
    if S::LANES == LANES {
        narrow_part::<S, 8, 2>(simd, varying, row, column, 0, &mut tile);
    } else {
        for first in (0..TILE).step_by(2 * S::LANES) {
            narrow_part::<S, 4, 2>(simd, varying, row, column, first, &mut tile);
        }
    }
    tile
}

/// The V registers of columns from `first` on, R rows at a time.
#[inline(always)]
fn narrow_part<S: Simd, const R: usize, const V: usize>(
    simd: S,
    varying: &Varying,
    row: usize,
    column: usize,
    first: usize,
    tile: &mut Tile,
) {
    let bits = [varying.lane_panel(2 * column), varying.lane_panel(2 * column + 1)];
    let samples = simd.splat_words(varying.samples as u32);
    let none = simd.splat_words(0);
    let mut ones = [none; V];
    for (v, ones) in ones.iter_mut().enumerate() {
        let lane = first + v * S::LANES;
        *ones = simd.load_words(&varying.ones[2 * column + lane / LANES].0[lane % LANES..]);
    }
    let mut absolute = [none; V];
    let mut by_column = [none; V];
    for at in (0..TILE).step_by(R) {
        let rows = varying.lane_panel(2 * row + at / LANES);
        let both = both::<S, R, V>(simd, rows, at % LANES, bits, first);
        for (r, both) in both.into_iter().enumerate() {
            let ones_of_row = simd.splat_words(varying.ones_of(row * TILE + at + r));
            let bit = simd.splat_words(1 << (at + r));
            for v in 0..V {
                let d =
                    simd.sub_words(simd.mul_words(samples, both[v]), simd.mul_words(ones_of_row, ones[v]));
                absolute[v] = simd.add_words(absolute[v], simd.abs_words(d));
                by_column[v] = simd.or(by_column[v], simd.where_positive(d, bit));
                tile.by_row[at + r] |= simd.positive_words(d) << (first + v * S::LANES);
                tile.zeros[at + r] |= simd.zero_words(d) << (first + v * S::LANES);
            }
        }
    }
    for v in 0..V {
        let lane = first + v * S::LANES;
        simd.store_words(by_column[v], &mut tile.by_column[lane..]);
        let mut sums = [0; LANES];
        simd.store_words(absolute[v], &mut sums);
        tile.sum += i128::from(sums.iter().map(|&sum| u64::from(sum)).sum::<u64>());
    }
}

/// Bits that R rows, from lane `row` of their panel on, share with V registers of columns, from lane `first` of theirs
/// on; at most 2³² − 1 of them.
#[inline(always)]
pub(crate) fn both<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[Lanes],
    row: usize,
    columns: [&[Lanes]; 2],
    first: usize,
) -> [[S::Words; V]; R] {
    let mut totals = [[simd.splat_words(0); V]; R];
    let blocks = rows.chunks(S::COUNTS).zip(columns[0].chunks(S::COUNTS)).zip(columns[1].chunks(S::COUNTS));
    for ((rows, first_columns), second_columns) in blocks {
        let mut sums = [[simd.splat_words(0); V]; R];
        for ((rows, first_column), second_column) in rows.iter().zip(first_columns).zip(second_columns) {
            let rows: &[u32; R] = rows.0[row..].first_chunk().expect("rows of one panel");
            let mut words = [simd.splat_words(0); V];
            for (v, words) in words.iter_mut().enumerate() {
                let lane = first + v * S::LANES;
                let column = if lane < LANES { first_column } else { second_column };
                *words = simd.load_words(&column.0[lane % LANES..]);
            }
            for r in 0..R {
                let row = simd.splat_words(rows[r]);
                for v in 0..V {
                    sums[r][v] = simd.count(sums[r][v], simd.and(row, words[v]));
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                totals[r][v] = simd.add_words(totals[r][v], simd.counted(sums[r][v]));
            }
        }
    }
    totals
}

type Counts = [[u32; TILE]; TILE];

/// Tiles whose counts are gathered side by side, so that the words of the row they share stay in the nearest cache.
const WIDE_TILES: usize = 8;

/// Words of samples that are gone through for all these tiles before the next.
const WIDE_WORDS: usize = 128;

/// c_ij of the tiles of a row, a block of samples after the other.
#[inline(always)]
fn wide_counts<S: Simd>(
    simd: S,
    varying: &Varying,
    row: usize,
    columns: std::ops::Range<usize>,
) -> Vec<Counts> {
    let mut counts = vec![[[0; TILE]; TILE]; columns.len()];
    for word in (0..varying.words).step_by(WIDE_WORDS) {
        let words = word..varying.words.min(word + WIDE_WORDS);
        for (counts, column) in counts.iter_mut().zip(columns.clone()) {
            let bits = [2 * column, 2 * column + 1].map(|panel| &varying.lane_panel(panel)[words.clone()]);
            for at in (0..TILE).step_by(4) {
                let rows = &varying.lane_panel(2 * row + at / LANES)[words.clone()];
                for first in (0..TILE).step_by(2 * S::LANES) {
                    let both = both::<S, 4, 2>(simd, rows, at % LANES, bits, first);
                    for (r, both) in both.into_iter().enumerate() {
                        for (v, both) in both.into_iter().enumerate() {
                            let counts = &mut counts[at + r][first + v * S::LANES..];
                            simd.store_words(simd.add_words(simd.load_words(counts), both), counts);
                        }
                    }
                }
            }
        }
    }
    counts
}

#[inline(always)]
fn wide_tile(varying: &Varying, row: usize, column: usize, counts: &Counts) -> Tile {
    let mut tile = Tile::default();
    for (i, counts) in counts.iter().enumerate() {
        let ones = i64::from(varying.ones_of(row * TILE + i));
        for (j, &both) in counts.iter().enumerate() {
            let ones = ones * i64::from(varying.ones_of(column * TILE + j));
            let d = varying.samples as i64 * i64::from(both) - ones;
            tile.sum += i128::from(d.abs());
            tile.by_row[i] |= u32::from(d > 0) << j;
            tile.by_column[j] |= u32::from(d > 0) << i;
            tile.zeros[i] |= u32::from(d == 0) << j;
        }
    }
    tile
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batch::tests::codes;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    /// D_ij of the differing bits, by counting.
    pub(crate) fn plain_d(batch: &BatchCodes, plain: &[Vec<bool>]) -> Vec<Vec<i64>> {
        let differs = |k: usize, j: usize| plain[k][j] != batch.mostly_on(j);
        let lists: Vec<Vec<bool>> =
            (0..batch.features()).map(|j| (0..plain.len()).map(|k| differs(k, j)).collect()).collect();
        let count = |bits: &[bool]| bits.iter().filter(|&&bit| bit).count() as i64;
        let d = |a: &[bool], b: &[bool]| {
            let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count() as i64;
            plain.len() as i64 * both - count(a) * count(b)
        };
        lists.iter().map(|a| lists.iter().map(|b| d(a, b)).collect()).collect()
    }

    fn plain_sum(d: &[Vec<i64>]) -> i128 {
        let off_diagonal = d.iter().enumerate().flat_map(|(i, row)| {
            row.iter().enumerate().filter(move |(j, _)| *j != i).map(|(_, d)| i128::from(d.abs()))
        });
        off_diagonal.sum()
    }

    fn sums_are_plain(samples: usize, features: usize, seed: u64) {
        let (batch, plain) = codes(samples, features, seed);
        let want = plain_sum(&plain_d(&batch, &plain));
        for isa in Isa::available() {
            let name = isa.name();
            assert_eq!(covariance(isa, &batch).absolute_sum(), want, "{name} {samples} × {features}");
            assert_eq!(absolute_sum(isa, &batch), want, "{name} {samples} × {features}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn the_sum_is_that_of_plain_integers_at_every_edge() {
        for samples in [0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 1000] {
            for features in [0, 1, 7, 32, 33, 65, 150] {
                sums_are_plain(samples, features, (samples * features) as u64);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn more_samples_than_fit_32_bits_are_counted_exactly() {
        sums_are_plain(NARROW, 9, 1);
        sums_are_plain(NARROW + 1, 40, 2);
        sums_are_plain(50_000, 9, 3);
    }

    /// Two features that agree in all of 200 000 samples, half of them on: D = n² / 4, beyond 32 bits.
    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn the_greatest_covariance_fits() {
        for samples in [NARROW, 200_000] {
            let words = (0..samples).map(|sample| if sample % 2 == 0 { u32::MAX } else { 0 });
            let batch = BatchCodes::new(samples, 32, words.collect());
            let d = (samples as i128).pow(2) / 4;
            for isa in Isa::available() {
                assert_eq!(covariance(isa, &batch).absolute_sum(), 32 * 31 * d);
                assert_eq!(absolute_sum(isa, &batch), 32 * 31 * d);
            }
        }
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn the_sum_is_that_of_plain_integers(samples in 0..up_to(300), features in 0..up_to(150), seed: u64) {
            sums_are_plain(samples, features, seed);
        }
    }
}

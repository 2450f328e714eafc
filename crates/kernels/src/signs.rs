//! Signs of the covariance, and what they come to for every sample.

use crate::Isa;
use crate::batch::transpose_block;
use crate::isa::Kind;
use crate::lanes::Simd;
use crate::pairs::{Covariance, both};
use crate::planes::{AT_ONCE, Planes};
use crate::slots::{LANES, Lanes, TILE, transpose_lanes};
use rayon::prelude::*;

/// Where D_ij > 0 among the 32 slots i of a tile and all slots j from this tile on; the diagonal is not.
pub(crate) struct SignRow {
    /// For each tile of slots j: bit j of word i, in two lane panels.
    by_row: Vec<[Lanes; 2]>,
    /// Likewise: bit i of word j.
    by_column: Vec<[Lanes; 2]>,
}

impl SignRow {
    /// Room for so many tiles.
    pub(crate) fn of(tiles: usize) -> Self {
        Self { by_row: Vec::with_capacity(tiles), by_column: Vec::with_capacity(tiles) }
    }

    /// The next tile.
    pub(crate) fn push(&mut self, by_row: &[u32; TILE], by_column: &[u32; TILE]) {
        let panels = |words: &[u32; TILE]| {
            let panels = words.as_chunks().0;
            [Lanes(panels[0]), Lanes(panels[1])]
        };
        self.by_row.push(panels(by_row));
        self.by_column.push(panels(by_column));
    }
}

/// Lanes of a lane panel whose D with `slot` is 0, or that are this slot.
#[derive(Clone, Copy, Default)]
pub(crate) struct Zero {
    pub(crate) panel: u32,
    pub(crate) slot: u32,
    /// A bit a lane.
    pub(crate) lanes: u32,
}

/// Signs of D over all pairs of slots. A pair without a sign is rare, so those are listed.
pub(crate) struct Signs {
    rows: Vec<SignRow>,
    /// By lane panel.
    zeros: Vec<Zero>,
    /// Where the zeros of each lane panel start, and the end.
    first_zero: Vec<usize>,
}

impl Signs {
    pub(crate) fn new(rows: Vec<SignRow>, zeros: &[Vec<Zero>]) -> Self {
        let mut first_zero = vec![0; 2 * rows.len() + 1];
        zeros.iter().flatten().for_each(|zero| first_zero[zero.panel as usize + 1] += 1);
        for panel in 1..first_zero.len() {
            first_zero[panel] += first_zero[panel - 1];
        }
        let mut next = first_zero.clone();
        let mut by_panel = vec![Zero::default(); zeros.iter().map(Vec::len).sum()];
        for zero in zeros.iter().flatten() {
            by_panel[next[zero.panel as usize]] = *zero;
            next[zero.panel as usize] += 1;
        }
        Self { rows, zeros: by_panel, first_zero }
    }

    /// Sixteen slots of a lane panel, a lane each: bit i of the word of tile `other` is set where D with slot
    /// 32 · other + i is above 0.
    #[inline(always)]
    fn positive(&self, panel: usize, other: usize) -> &Lanes {
        let (tile, half) = (panel / 2, panel % 2);
        if other >= tile {
            &self.rows[tile].by_row[other - tile][half]
        } else {
            &self.rows[other].by_column[tile - other][half]
        }
    }

    fn zeros(&self, panel: usize) -> &[Zero] {
        &self.zeros[self.first_zero[panel]..self.first_zero[panel + 1]]
    }
}

/// A_kj = Σ_{i ≠ j} d_ki sign(D_ij) for every sample k and slot j, where d are the bits that differ from the majority.
pub struct SignedCounts<'a> {
    covariance: &'a Covariance,
    /// Made beforehand where few slots are active in a sample.
    positive: Option<Positive>,
}

impl Covariance {
    /// Prepares [`SignedCounts::of_panel`]: on the current rayon pool, unlike that.
    pub fn signed_counts(&self, isa: Isa) -> SignedCounts<'_> {
        let active: usize = self.active.iter().map(|&active| active as usize).sum();
        let few = active * 100 < self.samples * self.slots.len() * crossing(isa);
        let worth_it = few && self.samples >= SPARSE_SAMPLES && self.slots.len() <= MOST_SLOTS;
        if worth_it { SignedCounts::sparse(isa, self) } else { SignedCounts::dense(self) }
    }
}

/// Fewer samples do not pay for turning the signs.
const SPARSE_SAMPLES: usize = 64;

/// Counts of the sparse way have 16 bits, and so have the numbers of slots in lists.
const MOST_SLOTS: usize = u16::MAX as usize;

/// Active slots in a hundred below which the sparse way is faster, as measured at 2304 and 8192 slots and 512 samples.
/// They are at most half of all: 100 is always. NEON is a guess.
fn crossing(isa: Isa) -> usize {
    match isa.0 {
        Kind::Portable => 100,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => 40,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Base => 100,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 | Kind::Avx512Bf16 => 25,
        #[cfg(target_arch = "aarch64")]
        Kind::Neon => 40,
    }
}

impl<'a> SignedCounts<'a> {
    /// Counts every slot, word by word, when a panel is asked for.
    fn dense(covariance: &'a Covariance) -> Self {
        Self { covariance, positive: None }
    }

    /// Adds up the signs of active slots alone, for all slots at once.
    fn sparse(isa: Isa, covariance: &'a Covariance) -> Self {
        Self { covariance, positive: Some(Positive::new(isa, covariance)) }
    }

    /// A for the slots of a panel of features, `[slot of the panel / 16][sample]` with a lane a slot (that
    /// [`Covariance::lanes_of`] names; 0 in padding), into `out`, whatever that held. Gives Σ_k A_kj of each slot.
    ///
    /// # Panics
    /// If there is no such panel.
    pub fn of_panel(&self, isa: Isa, panel: usize, out: &mut Vec<[i32; 16]>) -> [i64; 32] {
        let panels = self.covariance.slots.lane_panels(panel);
        out.resize(panels.len() * self.covariance.samples, [0; LANES]);
        count_panels(isa, self, panels, out)
    }
}

crate::isa::per_isa! {
    fn count_panels[simd: S](
        counts: &SignedCounts, panels: std::ops::Range<usize>, out: &mut [[i32; LANES]],
    ) -> [i64; 32] {
        let covariance = counts.covariance;
        match &counts.positive {
            Some(positive) => positive.signed(simd, covariance, panels.clone(), out),
            None => count_positive(simd, covariance, panels.clone(), out),
        }
        let mut sums = [0; 32];
        for (at, counts) in out.chunks_exact_mut(covariance.samples.max(1)).enumerate() {
            add_zeros(simd, covariance, covariance.signs.zeros(panels.start + at), counts);
            sums.as_chunks_mut().0[at] = sum(simd, counts);
        }
        sums
    }
}

/// Over all samples, sixteen at a time in 32 bits: none is greater than the number of slots.
#[inline(always)]
fn sum<S: Simd>(simd: S, counts: &[[i32; LANES]]) -> [i64; LANES] {
    let mut sums = [0; LANES];
    for counts in counts.chunks(16) {
        for first in (0..LANES).step_by(S::LANES) {
            let mut sum = simd.splat_words(0);
            for counts in counts {
                sum = simd.add_words(sum, simd.load_words(&counts.map(|count| count as u32)[first..]));
            }
            let mut lanes = [0; LANES];
            simd.store_words(sum, &mut lanes);
            for lane in 0..S::LANES {
                sums[first + lane] += i64::from(lanes[lane] as i32);
            }
        }
    }
    sums
}

/// Into the first LANES numbers of `to`.
#[inline(always)]
fn store_signed<S: Simd>(simd: S, words: S::Words, to: &mut [i32]) {
    let mut lanes = [0; LANES];
    simd.store_words(words, &mut lanes);
    to[..S::LANES].iter_mut().zip(lanes).for_each(|(to, lane)| *to = lane as i32);
}

impl Covariance {
    /// Sixteen samples, a word for each tile of slots.
    #[inline(always)]
    fn samples_of(&self, panel: usize) -> &[Lanes] {
        let tiles = self.slots.tiles();
        &self.by_sample[panel * tiles..(panel + 1) * tiles]
    }

    /// All ones in the lanes of a lane panel that are no padding.
    fn live(&self, panel: usize) -> Lanes {
        let live = self.slots.live(panel / 2) >> (panel % 2 * LANES);
        Lanes(std::array::from_fn(|lane| (live >> lane & 1).wrapping_neg()))
    }
}

/// Twice the active slots with a positive sign less all active ones: A, if no sign were 0.
#[inline(always)]
fn count_positive<S: Simd>(
    simd: S,
    covariance: &Covariance,
    panels: std::ops::Range<usize>,
    out: &mut [[i32; LANES]],
) {
    let tiles = covariance.slots.tiles();
    let live: Vec<Lanes> = panels.clone().map(|panel| covariance.live(panel)).collect();
    let mut columns: Vec<Vec<Lanes>> = vec![];
    for panel in panels {
        columns.push((0..tiles).map(|other| *covariance.signs.positive(panel, other)).collect());
    }
    match &columns[..] {
        [first, second] if S::LANES == LANES => {
            signed::<S, 8, 2>(simd, covariance, [first, second], 0, &live, out);
        }
        [first] if S::LANES == LANES => signed::<S, 8, 1>(simd, covariance, [first, first], 0, &live, out),
        _ => {
            let outs = out.chunks_exact_mut(covariance.samples.max(1));
            for ((column, live), out) in columns.iter().zip(&live).zip(outs) {
                for first in (0..LANES).step_by(2 * S::LANES) {
                    signed::<S, 4, 2>(simd, covariance, [column, column], first, &[*live], out);
                }
            }
        }
    }
}

#[inline(always)]
fn signed<S: Simd, const R: usize, const V: usize>(
    simd: S,
    covariance: &Covariance,
    columns: [&[Lanes]; 2],
    first: usize,
    live: &[Lanes],
    out: &mut [[i32; LANES]],
) {
    let samples = covariance.samples;
    for sample in (0..samples).step_by(R) {
        let rows = covariance.samples_of(sample / LANES);
        let counts = both::<S, R, V>(simd, rows, sample % LANES, columns, first);
        for (sample, counts) in (sample..samples).zip(counts) {
            let active = simd.splat_words(covariance.active[sample]);
            for (v, count) in counts.into_iter().enumerate() {
                let lane = first + v * S::LANES;
                let live = simd.load_words(&live[lane / LANES].0[lane % LANES..]);
                let twice = simd.add_words(count, count);
                let out = &mut out[lane / LANES * samples + sample][lane % LANES..];
                store_signed(simd, simd.sub_words(twice, simd.and(active, live)), out);
            }
        }
    }
}

/// Adds the active slots whose sign is 0. They are few among all, so their bits are gathered into words of their own.
#[inline(always)]
fn add_zeros<S: Simd>(simd: S, covariance: &Covariance, zeros: &[Zero], out: &mut [[i32; LANES]]) {
    let words = zeros.len().div_ceil(TILE);
    let mut by_sample = vec![Lanes::default(); covariance.active.len() / LANES * words];
    let mut column = vec![Lanes::default(); words];
    for (word, zeros) in zeros.chunks(TILE).enumerate() {
        let mut lanes = [0; TILE];
        lanes.iter_mut().zip(zeros).for_each(|(lanes, zero)| *lanes = zero.lanes);
        transpose_block(&mut lanes);
        column[word].0.copy_from_slice(&lanes[..LANES]);
        gather(simd, covariance, zeros, &mut by_sample[word..], words);
    }
    for sample in (0..out.len()).step_by(4) {
        let rows = &by_sample[sample / LANES * words..(sample / LANES + 1) * words];
        for first in (0..LANES).step_by(S::LANES) {
            let counts = both::<S, 4, 1>(simd, rows, sample % LANES, [&column, &column], first);
            for (out, count) in out[sample..].iter_mut().zip(counts) {
                let before = simd.load_words(&out.map(|count| count as u32)[first..]);
                store_signed(simd, simd.add_words(before, count[0]), &mut out[first..]);
            }
        }
    }
}

/// A word for each sample, of the bits of up to 32 slots: every `stride`th of `by_sample`, which has sixteen samples.
#[inline(always)]
fn gather<S: Simd>(simd: S, covariance: &Covariance, zeros: &[Zero], by_sample: &mut [Lanes], stride: usize) {
    let length = covariance.by_slot.len() / covariance.slots.len();
    for (at, by_sample) in by_sample.chunks_mut(2 * LANES * stride).enumerate() {
        let mut block = [Lanes::default(); TILE];
        for (row, zero) in block.iter_mut().zip(zeros) {
            *row = covariance.by_slot[zero.slot as usize * length + at];
        }
        transpose_lanes(&mut block);
        for (half, lanes) in block.as_chunks::<LANES>().0.iter().enumerate() {
            let mut square = lanes.map(|lanes| lanes.0);
            simd.transpose_words(&mut square);
            let panels = by_sample.chunks_mut(stride).skip(half).step_by(2);
            panels.zip(square).for_each(|(panel, words)| panel[0].0 = words);
        }
    }
}

/// Active slots with a positive sign, for every sample and slot.
struct Positive {
    /// `[slot / 512][sample][slot / 32 % 16]`: lane l counts slot l of the tile below and slot 16 + l above 16 bits.
    counts: Vec<Lanes>,
}

/// Tiles whose words make up a row that is added at once.
const ROW: usize = 16;

/// Samples that one task goes through.
const TASK: usize = 64;

impl Positive {
    fn new(isa: Isa, covariance: &Covariance) -> Self {
        let Covariance { samples, slots, signs, .. } = covariance;
        let lists: Vec<Vec<u16>> =
            (0..*samples).into_par_iter().map(|sample| covariance.active_slots(sample)).collect();
        let mut counts = vec![Lanes::default(); slots.tiles().div_ceil(ROW) * samples * ROW];
        counts.par_chunks_exact_mut((samples * ROW).max(1)).enumerate().for_each(|(block, counts)| {
            let rows = rows_of(isa, signs, block * ROW..slots.tiles().min((block + 1) * ROW));
            counts.par_chunks_mut(TASK * ROW).zip(lists.par_chunks(TASK)).for_each(|(counts, lists)| {
                add_rows(isa, &rows, lists, counts);
            });
        });
        Self { counts }
    }

    /// As [`count_positive`].
    #[inline(always)]
    fn signed<S: Simd>(
        &self,
        simd: S,
        covariance: &Covariance,
        panels: std::ops::Range<usize>,
        out: &mut [[i32; LANES]],
    ) {
        let samples = covariance.samples;
        let low_half = simd.splat_words(0xFFFF);
        for (panel, out) in panels.zip(out.chunks_exact_mut(samples.max(1))) {
            let (tile, high) = (panel / 2, panel % 2 == 1);
            let counts = self.counts[tile / ROW * samples * ROW..].chunks_exact(ROW);
            let live = covariance.live(panel);
            for ((out, counts), &active) in out.iter_mut().zip(counts).zip(&covariance.active) {
                for first in (0..LANES).step_by(S::LANES) {
                    let both = simd.load_words(&counts[tile % ROW].0[first..]);
                    let count = if high { simd.high_half(both) } else { simd.and(both, low_half) };
                    let active = simd.and(simd.splat_words(active), simd.load_words(&live.0[first..]));
                    store_signed(
                        simd,
                        simd.sub_words(simd.add_words(count, count), active),
                        &mut out[first..],
                    );
                }
            }
        }
    }
}

impl Covariance {
    /// The active slots of a sample, filled up to a multiple of [`AT_ONCE`] with one that is beyond all.
    fn active_slots(&self, sample: usize) -> Vec<u16> {
        let mut list = Vec::with_capacity((self.active[sample] as usize).next_multiple_of(AT_ONCE));
        for (tile, lanes) in self.samples_of(sample / LANES).iter().enumerate() {
            let mut bits = lanes.0[sample % LANES];
            while bits != 0 {
                list.push((tile * TILE) as u16 + bits.trailing_zeros() as u16);
                bits &= bits - 1;
            }
        }
        list.resize(list.len().next_multiple_of(AT_ONCE), self.slots.len() as u16);
        list
    }
}

crate::isa::per_isa! {
    /// For each slot the words of up to sixteen tiles: where its D with their slots is above 0. A row of none at the end.
    fn rows_of[simd: S](signs: &Signs, tiles: std::ops::Range<usize>) -> Vec<Lanes> {
        let slots = signs.rows.len() * TILE;
        let mut rows = vec![Lanes::default(); slots + 1];
        for (panel, rows) in rows.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let mut square = [[0; LANES]; ROW];
            for (words, tile) in square.iter_mut().zip(tiles.clone()) {
                *words = signs.positive(panel, tile).0;
            }
            simd.transpose_words(&mut square);
            rows.iter_mut().zip(square).for_each(|(row, words)| row.0 = words);
        }
        rows
    }
}

crate::isa::per_isa! {
    /// Adds the rows of each list, bit by bit: `counts` has sixteen pairs of 16-bit sums for each of sixteen words.
    fn add_rows[simd: S](rows: &[Lanes], lists: &[Vec<u16>], counts: &mut [Lanes]) {
        for (list, counts) in lists.iter().zip(counts.as_chunks_mut::<ROW>().0) {
            let mut planes = Planes::default();
            planes.add_listed(simd, rows, list);
            *counts = planes.sums(simd).map(Lanes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::codes;
    use crate::pairs::{covariance, tests::plain_d};
    use crate::slots::Slots;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    fn counts_are_plain(samples: usize, features: usize, seed: u64) {
        let (batch, plain) = codes(samples, features, seed);
        let d = plain_d(&batch, &plain);
        let differs = |k: usize, j: usize| plain[k][j] != batch.mostly_on(j);
        let want = |k: usize, j: usize| -> i64 {
            (0..features).filter(|&i| i != j && differs(k, i)).map(|i| d[i][j].signum()).sum()
        };
        let want: Vec<Vec<i64>> = (0..samples).map(|k| (0..features).map(|j| want(k, j)).collect()).collect();
        let mut out = vec![[77; LANES]; 3];
        for isa in Isa::available() {
            let covariance = covariance(isa, &batch);
            let ways = [
                SignedCounts::dense(&covariance),
                SignedCounts::sparse(isa, &covariance),
                covariance.signed_counts(isa),
            ];
            for (way, counts) in ways.iter().enumerate() {
                for panel in 0..batch.panels() {
                    let name = format!("{} way {way}, {samples} × {features}, panel {panel}", isa.name());
                    let sums = counts.of_panel(isa, panel, &mut out);
                    let features = covariance.lanes_of(panel);
                    assert_eq!(out.len(), features.len() / LANES * samples, "{name}");
                    for (at, &feature) in features.iter().enumerate() {
                        let want =
                            |k: usize| if feature == Slots::PADDING { 0 } else { want[k][feature as usize] };
                        for k in 0..samples {
                            let got = out[at / LANES * samples + k][at % LANES];
                            assert_eq!(i64::from(got), want(k), "{name}, sample {k}, feature {feature}");
                        }
                        assert_eq!(
                            sums[at],
                            (0..samples).map(want).sum::<i64>(),
                            "{name}, feature {feature}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn signed_counts_are_those_of_plain_integers_at_every_edge() {
        for samples in [0, 1, 2, 15, 16, 17, 31, 33, 64, 100, 1000] {
            for features in [0, 1, 7, 32, 33, 65, 150] {
                counts_are_plain(samples, features, (samples + features) as u64);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn signed_counts_need_more_than_one_row_of_tiles() {
        counts_are_plain(70, 1100, 5);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn more_samples_than_fit_32_bits_have_the_same_signs() {
        counts_are_plain((1 << 14) + 5, 20, 4);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn threads_do_not_show() {
        let (batch, _) = codes(130, 700, 9);
        for isa in Isa::available() {
            let results: Vec<_> = [1, 2, 3, 8]
                .into_iter()
                .map(|threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| {
                        let covariance = covariance(isa, &batch);
                        let counts = SignedCounts::sparse(isa, &covariance);
                        let mut out = vec![];
                        let panels = (0..batch.panels())
                            .map(|panel| (counts.of_panel(isa, panel, &mut out), out.clone()));
                        (covariance.absolute_sum(), panels.collect::<Vec<_>>())
                    })
                })
                .collect();
            assert!(results.windows(2).all(|two| two[0] == two[1]), "{}", isa.name());
        }
    }

    proptest! {
        #![proptest_config(cases(24))]
        #[test]
        fn signed_counts_are_those_of_plain_integers(samples in 0..up_to(200), features in 0..up_to(150), seed: u64) {
            counts_are_plain(samples, features, seed);
        }
    }
}

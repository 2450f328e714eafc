//! The features of a batch that vary, numbered without gaps wider than a register.

use crate::batch::{BatchCodes, PANEL};
use rayon::prelude::*;

/// Features side by side in a lane panel.
pub(crate) const LANES: usize = 16;

/// Slots side by side in a tile: the bits of a word.
pub(crate) const TILE: usize = 32;

/// One word for each of sixteen slots or samples: a cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub [u32; LANES]);

/// A number for each feature that varies. One that is the same in all samples covaries with none and gets no slot.
///
/// Each panel of 32 features takes 0, 16 or 32 slots, in the order of its features: only its last ones may be padding.
/// All slots together are padded to whole tiles of 32.
pub struct Slots {
    /// The first slot of each panel, and the end.
    first: Vec<u32>,
    /// The feature of each slot, or [`Slots::PADDING`].
    feature: Vec<u32>,
    /// For each tile, the slots that are no padding.
    live: Vec<u32>,
}

impl Slots {
    /// Stands for the feature of a slot that has none: its bits are 0.
    pub const PADDING: u32 = u32::MAX;

    /// Of the features that differ from their majority at least once.
    pub fn new(codes: &BatchCodes) -> Self {
        let mut first = vec![0];
        let mut feature = vec![];
        for panel in 0..codes.panels() {
            let of_panel = panel * PANEL..((panel + 1) * PANEL).min(codes.features());
            feature.extend(
                of_panel.filter(|&feature| codes.minority(feature) > 0).map(|feature| feature as u32),
            );
            feature.resize(feature.len().next_multiple_of(LANES), Self::PADDING);
            first.push(feature.len() as u32);
        }
        feature.resize(feature.len().next_multiple_of(TILE), Self::PADDING);
        let live = feature.as_chunks::<TILE>().0.iter().map(live).collect();
        Self { first, feature, live }
    }

    /// Slots, padding included: a multiple of 32.
    pub fn len(&self) -> usize {
        self.feature.len()
    }

    /// Whether no feature varies.
    pub fn is_empty(&self) -> bool {
        self.feature.is_empty()
    }

    /// The features of the slots of a panel: 0, 16 or 32, the last ones perhaps [`Slots::PADDING`].
    ///
    /// # Panics
    /// If there is no such panel.
    pub fn of_panel(&self, panel: usize) -> &[u32] {
        &self.feature[self.first[panel] as usize..self.first[panel + 1] as usize]
    }

    /// The lane panels that hold the slots of a panel of features: at most two.
    pub(crate) fn lane_panels(&self, panel: usize) -> std::ops::Range<usize> {
        self.first[panel] as usize / LANES..self.first[panel + 1] as usize / LANES
    }

    /// Tiles of 32 slots.
    pub(crate) fn tiles(&self) -> usize {
        self.len() / TILE
    }

    /// The slots of a tile that are no padding, as bits.
    #[inline(always)]
    pub(crate) fn live(&self, tile: usize) -> u32 {
        self.live[tile]
    }

    /// Differing bits `[slot / 16][word of samples]`, a lane a slot.
    pub(crate) fn differing(&self, codes: &BatchCodes) -> Vec<Lanes> {
        let words = codes.words();
        let mut panels = vec![Lanes::default(); self.len() / LANES * words];
        let of_panel = self.feature.par_chunks_exact(LANES).zip(panels.par_chunks_exact_mut(words.max(1)));
        of_panel.for_each(|(features, panel)| {
            for (lane, &feature) in
                features.iter().enumerate().filter(|(_, feature)| **feature != Self::PADDING)
            {
                for (lanes, &bits) in panel.iter_mut().zip(codes.differing(feature as usize)) {
                    lanes.0[lane] = bits;
                }
            }
        });
        panels
    }

    /// Differing bits `[slot][word of samples / 16]`, a lane a word.
    pub(crate) fn rows(&self, codes: &BatchCodes) -> Vec<Lanes> {
        let length = codes.words().div_ceil(LANES);
        let mut rows = vec![Lanes::default(); self.len() * length];
        let of_slot = rows.par_chunks_exact_mut(length.max(1)).zip(&self.feature).with_min_len(64);
        of_slot.filter(|(_, feature)| **feature != Self::PADDING).for_each(|(row, &feature)| {
            for (lanes, words) in row.iter_mut().zip(codes.differing(feature as usize).chunks(LANES)) {
                lanes.0[..words.len()].copy_from_slice(words);
            }
        });
        rows
    }

    /// Samples in which each slot differs, `[slot / 16]`, a lane a slot.
    pub(crate) fn minorities(&self, codes: &BatchCodes) -> Vec<Lanes> {
        let minority =
            |&feature: &u32| if feature == Self::PADDING { 0 } else { codes.minority(feature as usize) };
        let panels = self.feature.as_chunks::<LANES>().0.iter();
        panels.map(|features| Lanes(features.each_ref().map(minority))).collect()
    }
}

fn live(features: &[u32; TILE]) -> u32 {
    features.iter().rev().fold(0, |live, &feature| live << 1 | u32::from(feature != Slots::PADDING))
}

/// Transposes sixteen bit matrices at once, one a lane: of 32 × 32, or of 16 × 16 in either half of the words.
#[inline(always)]
pub(crate) fn transpose_lanes<const ROWS: usize>(block: &mut [Lanes; ROWS]) {
    const { assert!(ROWS == 16 || ROWS == 32) };
    let mut half = ROWS / 2;
    let mut mask = if ROWS == 32 { 0x0000_FFFF } else { 0x00FF_00FF };
    while half > 0 {
        for row in (0..ROWS).filter(|row| row & half == 0) {
            for lane in 0..LANES {
                let (upper, lower) = (block[row].0[lane], block[row + half].0[lane]);
                let swapped = ((upper >> half) ^ lower) & mask;
                block[row].0[lane] = upper ^ (swapped << half);
                block[row + half].0[lane] = lower ^ swapped;
            }
        }
        half /= 2;
        mask ^= mask << half;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{tests::codes, transpose_block};
    use crate::{cases, up_to};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(256))]
        #[test]
        fn every_feature_that_varies_has_a_slot_and_its_bits(samples in 0..up_to(70), features in 0..up_to(150), seed: u64) {
            let (batch, _) = codes(samples, features, seed);
            let slots = Slots::new(&batch);
            let bits = slots.differing(&batch);
            prop_assert_eq!(slots.len() % TILE, 0);
            let mut found = vec![];
            for panel in 0..batch.panels() {
                prop_assert_eq!(slots.of_panel(panel).len() % LANES, 0);
                prop_assert_eq!(slots.lane_panels(panel).len() * LANES, slots.of_panel(panel).len());
                found.extend(slots.of_panel(panel).iter().copied().filter(|&feature| feature != Slots::PADDING));
            }
            let varying: Vec<u32> = (0..features as u32).filter(|&j| batch.minority(j as usize) > 0).collect();
            prop_assert_eq!(&found, &varying);
            for (slot, &feature) in slots.feature.iter().enumerate() {
                let live = slots.live(slot / TILE) >> (slot % TILE) & 1 == 1;
                prop_assert_eq!(live, feature != Slots::PADDING);
                for word in 0..batch.words() {
                    let want = if live { batch.differing(feature as usize)[word] } else { 0 };
                    prop_assert_eq!(bits[slot / LANES * batch.words() + word].0[slot % LANES], want);
                }
            }
        }
    }

    #[test]
    fn sixteen_matrices_turn_as_one_does() {
        let word = |row: usize, lane: usize| {
            (row as u32 * 77 + lane as u32 + 3).wrapping_mul(0x9E37_79B9).rotate_left(13)
        };
        let mut block: [Lanes; 32] =
            std::array::from_fn(|row| Lanes(std::array::from_fn(|lane| word(row, lane))));
        let mut halves: [Lanes; 16] = *block.first_chunk().unwrap();
        transpose_lanes(&mut block);
        transpose_lanes(&mut halves);
        for lane in 0..LANES {
            let mut one: [u32; 32] = std::array::from_fn(|row| word(row, lane));
            transpose_block(&mut one);
            assert_eq!(one, block.each_ref().map(|lanes| lanes.0[lane]));
            for (row, got) in halves.iter().enumerate() {
                let turned = (0..16).fold(0, |all, from| {
                    let (low, high) = (word(from, lane) >> row & 1, word(from, lane) >> (16 + row) & 1);
                    all | low << from | high << (16 + from)
                });
                assert_eq!(got.0[lane], turned);
            }
        }
    }
}

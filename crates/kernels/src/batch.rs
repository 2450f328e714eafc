//! Codes of one batch, packed in the ways that a training step reads them.

use rayon::prelude::*;

/// Features in a panel: the bits of a word, and the columns that the product computes at a time.
pub const PANEL: usize = 32;

/// Codes of a batch and how each feature differs from what it is most of the time.
///
/// Features are padded to whole panels by features that are never on.
pub struct BatchCodes {
    samples: usize,
    features: usize,
    by_panel: Vec<u32>,
    ones: Vec<u32>,
    majority: Vec<u32>,
    differing: Vec<u32>,
}

impl BatchCodes {
    /// From the words `[panel][sample]` that [`pack_panel`] makes: bit f of a word is feature 32 · panel + f.
    ///
    /// # Panics
    /// If there are not `features.div_ceil(32)` panels of `samples` words.
    pub fn new(samples: usize, features: usize, by_panel: Vec<u32>) -> Self {
        Self::of(samples, features, by_panel, true)
    }

    /// The same with no feature taken for mostly on: what is made of a sample then depends on nothing but the sample.
    ///
    /// # Panics
    /// As [`BatchCodes::new`].
    pub fn unflipped(samples: usize, features: usize, by_panel: Vec<u32>) -> Self {
        Self::of(samples, features, by_panel, false)
    }

    fn of(samples: usize, features: usize, by_panel: Vec<u32>, flip: bool) -> Self {
        let panels = features.div_ceil(PANEL);
        assert_eq!(by_panel.len(), panels * samples, "words of all panels");
        let words = samples.div_ceil(32);
        let mut ones = vec![0u32; panels * PANEL];
        let mut majority = vec![0u32; panels];
        let mut differing = vec![0u32; panels * PANEL * words];
        if samples > 0 {
            by_panel
                .par_chunks(samples)
                .zip(ones.par_chunks_mut(PANEL))
                .zip(&mut majority)
                .zip(differing.par_chunks_mut(PANEL * words))
                .for_each(|(((panel, ones), majority), differing)| {
                    *majority = turn_panel(panel, ones, differing, flip);
                });
        }
        Self { samples, features, by_panel, ones, majority, differing }
    }

    /// Rows of the batch.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Features, without padding.
    pub fn features(&self) -> usize {
        self.features
    }

    /// Panels of 32 features.
    pub fn panels(&self) -> usize {
        self.majority.len()
    }

    /// 32-bit words for each feature.
    pub fn words(&self) -> usize {
        self.samples.div_ceil(32)
    }

    /// Samples in which each feature is on, `[32 · panels]`.
    pub fn ones(&self) -> &[u32] {
        &self.ones
    }

    /// One word a sample: the codes of the 32 features of a panel.
    pub fn panel(&self, panel: usize) -> &[u32] {
        &self.by_panel[panel * self.samples..(panel + 1) * self.samples]
    }

    /// The features of a panel that are on in more than half of the samples, as bits.
    pub fn majority(&self, panel: usize) -> u32 {
        self.majority[panel]
    }

    /// Whether `feature` is on in more than half of the samples.
    pub fn mostly_on(&self, feature: usize) -> bool {
        self.majority[feature / PANEL] >> (feature % PANEL) & 1 == 1
    }

    /// Bit k of word w: `feature` of sample 32 w + k is not what it is in most samples.
    pub fn differing(&self, feature: usize) -> &[u32] {
        let words = self.words();
        &self.differing[feature * words..(feature + 1) * words]
    }

    /// Samples in which `feature` differs from what it is in most: at most half of them, unless unflipped.
    pub fn minority(&self, feature: usize) -> u32 {
        let ones = self.ones[feature];
        if self.mostly_on(feature) { self.samples as u32 - ones } else { ones }
    }

    /// All differing bits of the batch.
    pub fn differing_bits(&self) -> usize {
        (0..self.features).map(|feature| self.minority(feature) as usize).sum()
    }
}

/// Turns the words of one panel into a row of differing bits for each of its features; gives the majority bits.
fn turn_panel(panel: &[u32], ones: &mut [u32], differing: &mut [u32], flip: bool) -> u32 {
    let words = panel.len().div_ceil(32);
    for (word, samples) in panel.chunks(32).enumerate() {
        let mut block = [0u32; 32];
        block[..samples.len()].copy_from_slice(samples);
        transpose_block(&mut block);
        for (feature, bits) in block.into_iter().enumerate() {
            differing[feature * words + word] = bits;
            ones[feature] += bits.count_ones();
        }
    }
    let mut majority = 0;
    for (feature, bits) in differing.chunks_exact_mut(words).enumerate() {
        if flip && 2 * ones[feature] as usize > panel.len() {
            majority |= 1 << feature;
            bits.iter_mut().for_each(|word| *word = !*word);
            if let rest @ 1.. = panel.len() % 32 {
                bits[words - 1] &= (1 << rest) - 1;
            }
        }
    }
    majority
}

/// Swaps ever smaller off-diagonal squares: 16 × 16, … 1 × 1 (Hacker's Delight, section 7-3).
pub(crate) fn transpose_block(block: &mut [u32; 32]) {
    let mut half = 16;
    let mut mask = u32::MAX >> 16;
    while half > 0 {
        let mut row = 0;
        while row < 32 {
            let swapped = ((block[row] >> half) ^ block[row + half]) & mask;
            block[row] ^= swapped << half;
            block[row + half] ^= swapped;
            row = (row + half + 1) & !half;
        }
        half /= 2;
        mask ^= mask << half;
    }
}

crate::isa::per_isa! {
    /// Packs a panel of pre-activations `[samples][32]` into a word a sample: bit = value > 0 (so 0, −0 and NaN give 0).
    ///
    /// Panics if `values` is not 32 for each of `words`.
    pub fn pack_panel[simd: S](values: &[f32], words: &mut [u32]) {
        assert_eq!(values.len(), words.len() * PANEL, "values of a panel");
        for (row, word) in values.as_chunks::<PANEL>().0.iter().zip(words) {
            *word = 0;
            for first in (0..PANEL).step_by(S::LANES) {
                *word |= simd.above_zero(simd.load(&row[first..])) << first;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Isa, cases, up_to};
    use proptest::prelude::*;

    /// Codes of `samples` × `features` with a density that differs from feature to feature, some constant.
    pub(crate) fn codes(samples: usize, features: usize, seed: u64) -> (BatchCodes, Vec<Vec<bool>>) {
        let on = |sample: usize, feature: usize| {
            let mixed = (seed ^ (sample * 10_007 + feature) as u64)
                .wrapping_mul(0x9E37_79B9_7F4A_7C15)
                .rotate_left(31)
                .wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed >> 40) % 8 < [0, 1, 8, 5, 7, 2, 1][feature % 7]
        };
        let plain: Vec<Vec<bool>> = (0..samples).map(|k| (0..features).map(|j| on(k, j)).collect()).collect();
        let mut by_panel = vec![0u32; features.div_ceil(PANEL) * samples];
        for (k, row) in plain.iter().enumerate() {
            for (j, &on) in row.iter().enumerate() {
                by_panel[j / PANEL * samples + k] |= u32::from(on) << (j % PANEL);
            }
        }
        (BatchCodes::new(samples, features, by_panel), plain)
    }

    proptest! {
        #![proptest_config(cases(256))]
        #[test]
        fn bits_turn_and_the_majority_is_flipped(samples in 0..up_to(100), features in 0..up_to(100), seed: u64) {
            let (batch, plain) = codes(samples, features, seed);
            for j in 0..features {
                let ones = plain.iter().filter(|row| row[j]).count();
                prop_assert_eq!(batch.ones()[j] as usize, ones);
                prop_assert_eq!(batch.mostly_on(j), 2 * ones > samples);
                prop_assert_eq!(batch.minority(j) as usize, ones.min(samples - ones));
                for (k, row) in plain.iter().enumerate() {
                    let differs = batch.differing(j)[k / 32] >> (k % 32) & 1 == 1;
                    prop_assert_eq!(differs, row[j] != batch.mostly_on(j));
                }
                let set: u32 = batch.differing(j).iter().map(|word| word.count_ones()).sum();
                prop_assert_eq!(set, batch.minority(j));
            }
        }
    }

    #[test]
    fn only_values_above_zero_are_ones() {
        let edge = [f32::NAN, 0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, f32::INFINITY, f32::NEG_INFINITY];
        let values: Vec<f32> = (0..5 * PANEL).map(|at| edge[at * 5 % 8]).collect();
        for isa in Isa::available() {
            let mut words = vec![u32::MAX; 5];
            pack_panel(isa, &values, &mut words);
            for (at, value) in values.iter().enumerate() {
                assert_eq!(words[at / 32] >> (at % 32) & 1 == 1, *value > 0.0, "{} {value}", isa.name());
            }
        }
    }
}

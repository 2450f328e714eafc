//! Gradients where few entries of a panel let any through: only those are computed.

use crate::Isa;
use crate::batch::{PANEL, transpose_block};
use crate::isa::per_isa;
use crate::lanes::Simd;

/// Partial sums of a dot product: value i goes to sum i mod 16.
const SUMS: usize = 16;

/// The entries of a panel `[samples][32]` through which a gradient flows, feature by feature.
#[derive(Clone, Default)]
pub struct Open {
    ends: [usize; PANEL],
    samples: Vec<u32>,
    words: Vec<u32>,
}

impl Open {
    /// Finds the entries of z `[samples][32]` with |z| < width, among the first `features` columns, if they are fewer than
    /// `limit`; says whether they are. Memory is used again.
    ///
    /// # Panics
    /// If `z` is not whole rows of 32.
    pub fn find(&mut self, isa: Isa, z: &[f32], width: f32, features: usize, limit: usize) -> bool {
        assert!(z.len().is_multiple_of(PANEL), "rows of a panel");
        let samples = z.len() / PANEL;
        let real = if features < PANEL { (1 << features) - 1 } else { u32::MAX };
        self.words.resize(samples.next_multiple_of(32), 0);
        self.words[samples..].fill(0);
        within(isa, z, width, real, &mut self.words[..samples]);
        if self.words.iter().map(|word| word.count_ones() as usize).sum::<usize>() >= limit {
            return false;
        }
        let (blocks, _) = self.words.as_chunks_mut::<32>();
        blocks.iter_mut().for_each(transpose_block);
        self.samples.clear();
        for feature in 0..PANEL {
            for (at, block) in blocks.iter().enumerate() {
                let mut word = block[feature];
                while word != 0 {
                    self.samples.push(at as u32 * 32 + word.trailing_zeros());
                    word &= word - 1;
                }
            }
            self.ends[feature] = self.samples.len();
        }
        true
    }

    /// Samples whose entry of a feature of the panel is open, ascending.
    pub fn samples(&self, feature: usize) -> &[u32] {
        let start = if feature == 0 { 0 } else { self.ends[feature - 1] };
        &self.samples[start..self.ends[feature]]
    }
}

per_isa! {
    fn within[simd: S](z: &[f32], width: f32, real: u32, words: &mut [u32]) {
        for (word, row) in words.iter_mut().zip(z.as_chunks::<PANEL>().0) {
            let mut open = 0u32;
            for (at, z) in row.iter().enumerate() {
                open |= u32::from(z.abs() < width) << at;
            }
            *word = open & real;
        }
    }
}

per_isa! {
    /// out[k, f] = errors[k, :] · decoder[f, :] at the open entries, 0 elsewhere: errors `[samples][width]`, decoder
    /// `[up to 32][width]`, out `[samples][32]`.
    ///
    /// A dot product is sixteen chains of fused multiply-adds, over i mod 16, added up in halves: not the bits of the
    /// product's single chain, but the same on every instruction set.
    ///
    /// Panics if the lengths do not fit.
    pub fn grad_h[simd: S](open: &Open, errors: &[f32], decoder: &[f32], width: usize, out: &mut [f32]) {
        assert!(decoder.len() <= PANEL * width && errors.len() * PANEL == out.len() * width, "lengths of a panel");
        out.fill(0.0);
        for (feature, row) in decoder.chunks_exact(width.max(1)).enumerate() {
            let samples = open.samples(feature);
            dots_of(simd, samples, errors, row, |at, dot| out[samples[at] as usize * PANEL + feature] = dot);
        }
    }
}

/// The products of `row` with these rows of `matrix` `[n][width of the row]`, each given to `take` with its place.
#[inline(always)]
pub(crate) fn dots_of<S: Simd>(
    simd: S,
    rows: &[u32],
    matrix: &[f32],
    row: &[f32],
    mut take: impl FnMut(usize, f32),
) {
    for (at, four) in rows.chunks(4).enumerate() {
        // a missing one is computed in vain
        let other = |at: usize| four[at.min(four.len() - 1)] as usize * row.len();
        let others = [0, 1, 2, 3].map(|at| &matrix[other(at)..][..row.len()]);
        let dots = match S::LANES {
            16 => four_dots::<S, 1>(simd, row, others),
            8 => four_dots::<S, 2>(simd, row, others),
            _ => four_dots::<S, 4>(simd, row, others),
        };
        dots.into_iter().take(four.len()).enumerate().for_each(|(within, dot)| take(4 * at + within, dot));
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn four_dots<S: Simd, const VECTORS: usize>(simd: S, row: &[f32], others: [&[f32]; 4]) -> [f32; 4] {
    let mut sums = [[simd.splat(0.0); VECTORS]; 4];
    let whole = row.len() - row.len() % SUMS;
    for start in (0..whole).step_by(SUMS) {
        for vector in 0..VECTORS {
            let first = start + vector * S::LANES;
            let value = simd.load(&row[first..]);
            for at in 0..4 {
                sums[at][vector] = simd.mul_add(simd.load(&others[at][first..]), value, sums[at][vector]);
            }
        }
    }
    let mut dots = [0f32; 4];
    for at in 0..4 {
        let mut lanes = [0f32; SUMS];
        for vector in 0..VECTORS {
            simd.store(sums[at][vector], &mut lanes[vector * S::LANES..]);
        }
        for i in whole..row.len() {
            lanes[i - whole] = others[at][i].mul_add(row[i], lanes[i - whole]);
        }
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        dots[at] = lanes[0];
    }
    dots
}

per_isa! {
    /// out[f, :] = Σ_k grad_z[k, f] x[k, :] over the open entries, one chain in ascending k: x `[samples][width]`, grad_z
    /// `[samples][32]`, out `[32][width]`. The same bits as the whole product where all other entries are 0.
    ///
    /// Panics if the lengths do not fit.
    pub fn grad_encoder[simd: S](open: &Open, x: &[f32], grad_z: &[f32], width: usize, out: &mut [f32]) {
        assert!(out.len() == PANEL * width && x.len() * PANEL == grad_z.len() * width, "lengths of a panel");
        out.fill(0.0);
        for (feature, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
            for &sample in open.samples(feature) {
                let sample = sample as usize;
                let factor = grad_z[sample * PANEL + feature];
                let row = &x[sample * width..][..width];
                for (out, &x) in out.iter_mut().zip(row) {
                    *out = x.mul_add(factor, *out);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    fn values(length: usize, seed: u64) -> Vec<f32> {
        crate::values(1, length, seed).into_raw_vec_and_offset().0
    }

    fn check(samples: usize, features: usize, width: usize, seed: u64) {
        let z = values(samples * PANEL, seed);
        let (errors, decoder) = (values(samples * width, seed ^ 3), values(features * width, seed ^ 5));
        let limit = 0.3f32;
        let is_open = |k: usize, f: usize| f < features && z[k * PANEL + f].abs() < limit;
        let mut plain: Option<(Vec<f32>, Vec<f32>)> = None;
        for isa in Isa::available() {
            let mut open = Open::default();
            assert!(open.find(isa, &values(70 * PANEL, 1), 2.0, 32, usize::MAX));
            assert!(!open.find(isa, &values(70 * PANEL, 1), 2.0, 32, 70 * PANEL));
            assert!(open.find(isa, &z, limit, features, usize::MAX));
            for f in 0..PANEL {
                let want: Vec<u32> = (0..samples as u32).filter(|&k| is_open(k as usize, f)).collect();
                assert_eq!(open.samples(f), want);
            }
            let (mut by_codes, mut by_encoder) = (vec![9f32; samples * PANEL], vec![9f32; width * PANEL]);
            grad_h(isa, &open, &errors, &decoder, width, &mut by_codes);
            let mut grad_z = by_codes.clone();
            grad_z.iter_mut().enumerate().for_each(|(at, g)| *g *= 1.0 + at as f32);
            grad_encoder(isa, &open, &errors, &grad_z, width, &mut by_encoder);
            for k in 0..samples {
                for f in 0..PANEL {
                    let dot = |i: usize| f64::from(errors[k * width + i]) * f64::from(decoder[f * width + i]);
                    let want = if is_open(k, f) { (0..width).map(dot).sum() } else { 0.0 };
                    assert!((f64::from(by_codes[k * PANEL + f]) - want).abs() < 1e-6 * (width as f64 + 4.0));
                }
            }
            for f in 0..PANEL {
                for i in 0..width {
                    let chain =
                        |sum: f32, k: usize| errors[k * width + i].mul_add(grad_z[k * PANEL + f], sum);
                    assert_eq!(by_encoder[f * width + i], (0..samples).fold(0f32, chain), "{}", isa.name());
                }
            }
            let plain = plain.get_or_insert_with(|| (by_codes.clone(), by_encoder.clone()));
            assert_eq!((&by_codes, &by_encoder), (&plain.0, &plain.1), "{}", isa.name());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn only_open_entries_at_odd_shapes() {
        for size in [1, 15, 16, 17, 31, 33, 64] {
            check(size, 32, 33, 5);
            check(33, 7, size, 7);
        }
        check(1000, 32, 3, 9);
        check(0, 4, 4, 10);
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn only_open_entries(samples in 0..up_to(90), features in 1..up_to(33), width in 1..up_to(140), seed: u64) {
            check(samples, features, width, seed);
        }
    }
}

//! Covariance of binary features in integers: D_ij = n c_ij − s_i s_j, its absolute sum, its signs, its gradient.

use crate::Isa;
use rayon::prelude::*;

/// What the covariance of one batch of codes comes to.
pub struct Covariance {
    /// Σ_{i ≠ j} |D_ij| over ordered pairs, exactly.
    pub absolute_sum: i128,
    /// For each feature j, `words` words with bit i set where D_ij > 0; the diagonal is not.
    pub positive: Vec<u64>,
    /// The same for D_ij < 0.
    pub negative: Vec<u64>,
    /// Words for each feature: features.div_ceil(64).
    pub words: usize,
    /// Features that vary over the samples, ascending: all others have no signs.
    live: Vec<usize>,
}

/// Codes of a batch, feature by feature.
#[derive(Clone, Copy)]
pub struct Features<'a> {
    /// `per_feature` words for each feature, one bit a sample.
    pub words: &'a [u64],
    /// Words for each feature.
    pub per_feature: usize,
    /// Samples in which each feature is on.
    pub ones: &'a [u32],
    /// Samples, at most 2³¹ − 1.
    pub samples: usize,
}

/// Counts all pairs of features. Those that are constant over the samples vary with none and cost nothing.
///
/// # Panics
/// If the lengths do not fit, or there are too many samples.
pub fn covariance(isa: Isa, features: Features) -> Covariance {
    let live = features.live();
    let words = features.ones.len().div_ceil(64);
    let mut positive = vec![0u64; features.ones.len() * words];
    let mut negative = vec![0u64; features.ones.len() * words];
    let absolute_sum = positive
        .par_chunks_mut(words.max(1))
        .zip(negative.par_chunks_mut(words.max(1)))
        .enumerate()
        .filter(|(j, _)| live.binary_search(j).is_ok())
        .map(|(j, (positive, negative))| i128::from(pairs_of(isa, features, &live, j, positive, negative)))
        .sum();
    Covariance { absolute_sum, positive, negative, words, live }
}

/// Σ_{i ≠ j} |D_ij| alone, without the signs: no memory for pairs.
///
/// # Panics
/// As [`covariance`].
pub fn absolute_sum(isa: Isa, features: Features) -> i128 {
    let live = features.live();
    let below = |at: usize| i128::from(sum_of(isa, features, &live[..at], live[at]));
    2 * (0..live.len()).into_par_iter().map(below).sum::<i128>()
}

impl Features<'_> {
    /// Features that are neither on nor off in all samples.
    fn live(&self) -> Vec<usize> {
        assert_eq!(self.words.len(), self.ones.len() * self.per_feature, "words of all features");
        assert!(self.samples < 1 << 31, "{} samples", self.samples);
        (0..self.ones.len()).filter(|&j| self.ones[j] > 0 && (self.ones[j] as usize) < self.samples).collect()
    }

    #[inline(always)]
    fn of(&self, j: usize) -> &[u64] {
        &self.words[j * self.per_feature..(j + 1) * self.per_feature]
    }

    /// D_ij for i ≠ j.
    #[inline(always)]
    fn d(&self, i: usize, j: usize) -> i64 {
        let both = self.samples as i64 * both(self.of(i), self.of(j));
        both - i64::from(self.ones[i]) * i64::from(self.ones[j])
    }
}

/// Bits set in both.
#[inline(always)]
fn both(a: &[u64], b: &[u64]) -> i64 {
    i64::from(a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum::<u32>())
}

crate::isa::per_isa! {
    fn sum_of(features: Features, others: &[usize], j: usize) -> i64 {
        others.iter().map(|&i| features.d(i, j).abs()).sum()
    }
}

crate::isa::per_isa! {
    fn pairs_of(
        features: Features, live: &[usize], j: usize, positive: &mut [u64], negative: &mut [u64],
    ) -> i64 {
        let mut sum = 0;
        for &i in live {
            let d = if i == j { 0 } else { features.d(i, j) };
            sum += d.abs();
            positive[i / 64] |= u64::from(d > 0) << (i % 64);
            negative[i / 64] |= u64::from(d < 0) << (i % 64);
        }
        sum
    }
}

/// A_kj = Σ_i h_ki sign(D_ij) for sample k (its packed code `code`), for all features j into `out`.
///
/// # Panics
/// If `code` has another number of words than the planes, or `out` another length than there are features.
pub fn signed_counts(isa: Isa, covariance: &Covariance, code: &[u64], out: &mut [i32]) {
    assert_eq!(code.len(), covariance.words, "words of a code");
    assert_eq!(out.len() * code.len(), covariance.positive.len(), "features");
    out.fill(0);
    counts_of(isa, covariance, code, out);
}

crate::isa::per_isa! {
    fn counts_of(covariance: &Covariance, code: &[u64], out: &mut [i32]) {
        let words = code.len();
        for &j in &covariance.live {
            let positive = &covariance.positive[j * words..(j + 1) * words];
            let negative = &covariance.negative[j * words..(j + 1) * words];
            out[j] = both(code, positive) as i32 - both(code, negative) as i32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn equals_the_plain_integers(samples in 1usize..140, features in 1usize..80, seed: u64) {
            let on = |k: usize, j: usize| {
                let p = (j % 5) as u64; // some features never on, some always
                (seed ^ (k * 1009 + j) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(31) % 4 < p
            };
            let per_feature = samples.div_ceil(64);
            let mut by_feature = vec![0u64; features * per_feature];
            let mut ones = vec![0u32; features];
            for k in 0..samples {
                for j in 0..features {
                    by_feature[j * per_feature + k / 64] |= u64::from(on(k, j)) << (k % 64);
                    ones[j] += u32::from(on(k, j));
                }
            }
            let d = |i: usize, j: usize| -> i64 {
                let both = (0..samples).filter(|&k| on(k, i) && on(k, j)).count() as i64;
                if i == j { 0 } else { samples as i64 * both - i64::from(ones[i]) * i64::from(ones[j]) }
            };
            let sum: i64 = (0..features).flat_map(|i| (0..features).map(move |j| (i, j))).map(|(i, j)| d(i, j).abs()).sum();
            for isa in Isa::available() {
                let all = Features { words: &by_feature, per_feature, ones: &ones, samples };
                let got = covariance(isa, all);
                prop_assert_eq!(got.absolute_sum, i128::from(sum));
                prop_assert_eq!(absolute_sum(isa, all), i128::from(sum));
                for k in [0, samples - 1] {
                    let mut code = vec![0u64; features.div_ceil(64)];
                    (0..features).for_each(|j| code[j / 64] |= u64::from(on(k, j)) << (j % 64));
                    let mut counts = vec![0i32; features];
                    signed_counts(isa, &got, &code, &mut counts);
                    for (j, &count) in counts.iter().enumerate() {
                        let want: i64 = (0..features).filter(|&i| on(k, i)).map(|i| d(i, j).signum()).sum();
                        prop_assert_eq!(i64::from(count), want);
                    }
                }
            }
        }
    }
}

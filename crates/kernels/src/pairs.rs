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

/// Counts all pairs of the `ones.len()` features, given as rows of `words_per_feature` words over the samples.
///
/// Features that are constant over the samples vary with none and cost nothing.
///
/// # Panics
/// If the lengths do not fit, or there are more than 2³¹ − 1 samples.
pub fn covariance(
    isa: Isa,
    by_feature: &[u64],
    words_per_feature: usize,
    ones: &[u32],
    samples: usize,
) -> Covariance {
    let features = ones.len();
    let live = live(by_feature, words_per_feature, ones, samples);
    let words = features.div_ceil(64);
    let mut positive = vec![0u64; features * words];
    let mut negative = vec![0u64; features * words];
    let absolute_sum = positive
        .par_chunks_mut(words.max(1))
        .zip(negative.par_chunks_mut(words.max(1)))
        .enumerate()
        .filter(|(j, _)| live.binary_search(j).is_ok())
        .map(|(j, (positive, negative))| {
            let planes = Planes { positive, negative };
            pairs_of(isa, by_feature, words_per_feature, ones, &live, samples as i64, j, planes)
        })
        .map(i128::from)
        .sum();
    Covariance { absolute_sum, positive, negative, words, live }
}

/// Σ_{i ≠ j} |D_ij| alone, without the signs: no memory for pairs. Arguments as for [`covariance`].
///
/// # Panics
/// As [`covariance`].
pub fn absolute_sum(
    isa: Isa,
    by_feature: &[u64],
    words_per_feature: usize,
    ones: &[u32],
    samples: usize,
) -> i128 {
    let live = live(by_feature, words_per_feature, ones, samples);
    let below = |at: usize| {
        i128::from(sum_below(isa, by_feature, words_per_feature, ones, &live[..at], samples as i64, live[at]))
    };
    2 * (0..live.len()).into_par_iter().map(below).sum::<i128>()
}

/// Features that are neither on nor off in all samples.
fn live(by_feature: &[u64], words_per_feature: usize, ones: &[u32], samples: usize) -> Vec<usize> {
    assert_eq!(by_feature.len(), ones.len() * words_per_feature, "words of all features");
    assert!(samples < 1 << 31, "{samples} samples");
    (0..ones.len()).filter(|&j| ones[j] > 0 && (ones[j] as usize) < samples).collect()
}

/// Samples in which both of two features are on.
#[inline(always)]
fn both(a: &[u64], b: &[u64]) -> i64 {
    i64::from(a.iter().zip(b).map(|(a, b)| (a & b).count_ones()).sum::<u32>())
}

crate::isa::per_isa! {
    fn sum_below(
        by_feature: &[u64], per_feature: usize, ones: &[u32], others: &[usize], n: i64, j: usize,
    ) -> i64 {
        let of = |i: usize| &by_feature[i * per_feature..(i + 1) * per_feature];
        let mine = of(j);
        let d = |i: usize| n * both(mine, of(i)) - i64::from(ones[j]) * i64::from(ones[i]);
        others.iter().map(|&i| d(i).abs()).sum()
    }
}

struct Planes<'a> {
    positive: &'a mut [u64],
    negative: &'a mut [u64],
}

crate::isa::per_isa! {
    fn pairs_of(
        by_feature: &[u64], per_feature: usize, ones: &[u32], live: &[usize], n: i64, j: usize, planes: Planes,
    ) -> i64 {
        let of = |i: usize| &by_feature[i * per_feature..(i + 1) * per_feature];
        let mine = of(j);
        let mut sum = 0;
        for &i in live {
            let d = n * both(mine, of(i)) - i64::from(ones[j]) * i64::from(ones[i]);
            let d = if i == j { 0 } else { d };
            sum += d.abs();
            planes.positive[i / 64] |= u64::from(d > 0) << (i % 64);
            planes.negative[i / 64] |= u64::from(d < 0) << (i % 64);
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
                let got = covariance(isa, &by_feature, per_feature, &ones, samples);
                prop_assert_eq!(got.absolute_sum, i128::from(sum));
                prop_assert_eq!(absolute_sum(isa, &by_feature, per_feature, &ones, samples), i128::from(sum));
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

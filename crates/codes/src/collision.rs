//! A lower bound of the joint entropy from how often two rows have the same code.
//!
//! The probability that two independent rows agree is Σ p², and −log2 of it is the collision entropy H₂, which never
//! exceeds Shannon's (Rényi 1961). Pairs of rows of two different documents, no document in two pairs, are independent
//! trials: their collisions are binomial, and the limit of Clopper and Pearson (1934) holds for any number of them. Pairs
//! that share documents have the same mean, but their collisions come in clumps, and the limit is then too sure.
//!
//! How far it reaches depends on the pairs alone: with none of n pairs alike the 95 % limit is log2(n / 3) bits.

use crate::quantile;

/// Upper limit at `level` (such as .95, one-sided) of the probability of a collision, after `collisions` in `pairs`
/// independent pairs. 1 if there are no pairs, or all of them agree.
pub fn upper_probability(collisions: u64, pairs: u64, level: f64) -> f64 {
    if collisions >= pairs {
        return 1.0;
    }
    quantile::beta(level, collisions as f64 + 1.0, (pairs - collisions) as f64)
}

/// Lower limit at `level` (one-sided) of the joint entropy of a row, in bits: −log2 of [`upper_probability`]. 0 without
/// pairs.
pub fn lower_entropy_bits(collisions: u64, pairs: u64, level: f64) -> f64 {
    // a subtraction, so that no limit is −0
    0.0 - libm::log2(upper_probability(collisions, pairs, level))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges() {
        for pairs in [0, 1, 1000] {
            assert_eq!(upper_probability(pairs, pairs, 0.95), 1.0);
            assert_eq!(lower_entropy_bits(pairs, pairs, 0.95).to_bits(), 0.0f64.to_bits());
        }
        // none of n: 1 − (1 − level)^(1/n)
        for pairs in [1u64, 10, 1000, 1_000_000, 1_000_000_000] {
            let exact = -libm::expm1(libm::log(0.05) / pairs as f64);
            let got = upper_probability(0, pairs, 0.95);
            assert!((got / exact - 1.0).abs() < 1e-6, "{pairs}: {got} {exact}");
        }
        // the rule of three
        assert!((lower_entropy_bits(0, 32_768, 0.95) - (32_768.0f64 / 3.0).log2()).abs() < 0.01);
    }

    /// Over all numbers of collisions that can come: the limit lies below the truth with probability 1 − level at most.
    #[test]
    fn covers_whatever_the_truth() {
        for pairs in [1u64, 2, 5, 20, 60] {
            let limits: Vec<_> = [0.5, 0.8, 0.95, 0.99]
                .iter()
                .map(|&level| {
                    (level, (0..=pairs).map(|c| upper_probability(c, pairs, level)).collect::<Vec<_>>())
                })
                .collect();
            for step in 1..200 {
                let p = f64::from(step) / 200.0;
                let mut probability = vec![(1.0 - p).powi(pairs as i32)];
                for c in 0..pairs {
                    probability
                        .push(probability[c as usize] * (pairs - c) as f64 / (c + 1) as f64 * p / (1.0 - p));
                }
                for (level, limit) in &limits {
                    let covered: f64 = limit
                        .iter()
                        .zip(&probability)
                        .filter(|(limit, _)| **limit >= p)
                        .map(|(_, q)| q)
                        .sum();
                    assert!(covered >= level - 1e-12, "{pairs} pairs, p {p}, level {level}: {covered}");
                }
            }
        }
    }

    #[test]
    fn more_collisions_less_entropy_more_level_less_entropy() {
        for pairs in [10u64, 1000] {
            let bits: Vec<_> = (0..=pairs).map(|c| lower_entropy_bits(c, pairs, 0.95)).collect();
            assert!(bits.windows(2).all(|pair| pair[0] > pair[1]));
            assert!(lower_entropy_bits(1, pairs, 0.99) < bits[1]);
            assert!(bits[(pairs / 10) as usize] < 10.0f64.log2());
        }
    }
}

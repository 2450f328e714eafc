//! What two features have to do with each other, from how often both are on.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::f64::consts::LN_2;

use serde::Serialize;

/// Place of the pair `i` < `j` in a triangle of all pairs: pairs of the features below `j` come first, so that more
/// features only append. `pair_index(m - 1, m) + 1` = `m (m + 1) / 2` pairs for m + 1 features.
pub fn pair_index(i: usize, j: usize) -> usize {
    debug_assert!(i < j);
    j * (j - 1) / 2 + i
}

/// φ, the correlation of two binary features: (n c − sᵢ sⱼ) / √(sᵢ (n − sᵢ) sⱼ (n − sⱼ)), between −1 and 1. 0 if one of
/// them is constant. Exactly 1 for equal features and −1 for opposite ones.
///
/// `both` rows of `rows` have both on, `ones_i` and `ones_j` the one and the other.
pub fn phi(both: u64, ones_i: u64, ones_j: u64, rows: u64) -> f64 {
    phi_from(both, (ones_i, variation(ones_i, rows)), (ones_j, variation(ones_j, rows)), rows)
}

/// Mutual information of two binary features in bits: Σ p(a, b) log2 (p(a, b) / (p(a) p(b))), the plug-in value, which
/// runs high by about 1 / (2 n ln 2). Never below 0, and 0 if one of them is constant.
pub fn mutual_information_bits(both: u64, ones_i: u64, ones_j: u64, rows: u64) -> f64 {
    if [0, rows].contains(&ones_i) || [0, rows].contains(&ones_j) {
        return 0.0;
    }
    let n = rows as f64;
    let term = |both: u64, i: u64, j: u64| {
        let both = both as f64;
        if both > 0.0 { both / n * libm::log2((both * n) / (i as f64 * j as f64)) } else { 0.0 }
    };
    let (off_i, off_j) = (rows - ones_i, rows - ones_j);
    let bits = term(both, ones_i, ones_j)
        + term(ones_i - both, ones_i, off_j)
        + term(ones_j - both, off_i, ones_j)
        + term(off_j + both - ones_i, off_i, off_j);
    bits.max(0.0)
}

/// Two features that depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The two features, the lower one first.
    pub features: [usize; 2],
    /// Their [`phi`].
    pub phi: f64,
    /// Their [`mutual_information_bits`].
    pub mutual_information_bits: f64,
    /// Rows in which both are on.
    pub both: u64,
}

/// The `count` pairs that say most about each other (mutual information), most first, ties by lowest features. Pairs with φ = 0 are
/// left out. By |φ| the first would be features that are on only once, in the same row.
///
/// `ones[j]` of `rows` rows have feature j on, and `both(i, j)` (asked at most once for each i < j, in the order
/// of [`pair_index`]) both. Memory for `count` pairs, whatever the number of features.
pub fn strongest(
    ones: &[u64],
    rows: u64,
    both: impl Fn(usize, usize) -> u64,
    count: usize,
) -> Vec<Dependency> {
    let ones: Vec<_> = ones.iter().map(|&ones| (ones, variation(ones, rows))).collect();
    let mut found = BinaryHeap::with_capacity(count.min(1 << 20) + 1);
    for (j, &second) in ones.iter().enumerate().filter(|(_, ones)| ones.1 > 0.0) {
        for (i, &first) in ones[..j].iter().enumerate().filter(|(_, ones)| ones.1 > 0.0) {
            let both = both(i, j);
            let phi = phi_from(both, first, second, rows);
            if phi == 0.0 {
                continue;
            }
            // information ≤ log2(1 + φ²) ≤ φ² / ln 2: of most pairs that says enough
            let is_below = |Reverse(weakest): &Reverse<Ranked>| phi * phi / LN_2 < weakest.bits;
            if found.len() == count && found.peek().is_none_or(is_below) {
                continue;
            }
            let bits = mutual_information_bits(both, first.0, second.0, rows);
            let ranked = Ranked { bits, phi, features: Reverse([i, j]), both };
            if found.len() < count {
                found.push(Reverse(ranked));
            } else if let Some(mut weakest) = found.peek_mut()
                && weakest.0 < ranked
            {
                *weakest = Reverse(ranked);
            }
        }
    }
    // ascending by Reverse: the strongest first
    let of = |Ranked { bits, phi, features: Reverse(features), both }| Dependency {
        features,
        phi,
        mutual_information_bits: bits,
        both,
    };
    found.into_sorted_vec().into_iter().map(|Reverse(ranked)| of(ranked)).collect()
}

/// Features to draw as a square: those of the strongest pairs, and [`phi`] of all pairs among them.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// At most the number asked for, in an order that puts dependent features side by side.
    pub features: Vec<usize>,
    /// φ between them, `[features, features]`, 1 on the diagonal.
    pub phi: Vec<f64>,
}

/// As many of the strongest pairs as [`block_of`] needs: so many cannot all lie among fewer than `size` features.
pub fn pairs_of_block(size: usize) -> usize {
    size.saturating_sub(1) * size.saturating_sub(2) / 2 + 1
}

/// The block of up to `size` features that take part in the strongest pairs, `pairs`; fewer where no more depend on each other.
///
/// The order is that of single linkage: from the strongest pair down, the two rows of features that a pair joins are laid
/// end to end, with the ends together that depend most. Memory grows as `size`². Counts as for [`strongest`].
pub fn block_of(
    pairs: &[Dependency],
    ones: &[u64],
    rows: u64,
    both: impl Fn(usize, usize) -> u64,
    size: usize,
) -> Block {
    let mut chosen: Vec<usize> = Vec::new();
    for pair in pairs {
        let new: Vec<usize> = pair.features.into_iter().filter(|feature| !chosen.contains(feature)).collect();
        if chosen.len() + new.len() <= size {
            chosen.extend(new);
        }
    }
    let phi = |i: usize, j: usize| match i.cmp(&j) {
        Ordering::Less => self::phi(both(i, j), ones[i], ones[j], rows),
        Ordering::Equal => 1.0,
        Ordering::Greater => self::phi(both(j, i), ones[j], ones[i], rows),
    };
    let features = side_by_side(&chosen, |i, j| phi(i, j).abs());
    let phi = features.iter().flat_map(|&i| features.iter().map(move |&j| (i, j))).map(|(i, j)| phi(i, j));
    Block { phi: phi.collect(), features }
}

/// `features` in the order of single linkage over `likeness`.
fn side_by_side(features: &[usize], likeness: impl Fn(usize, usize) -> f64) -> Vec<usize> {
    let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
    for (at, &j) in features.iter().enumerate() {
        pairs.extend(features[..at].iter().map(|&i| (likeness(i, j), i.min(j), i.max(j))));
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut runs: Vec<Vec<usize>> = features.iter().map(|&feature| vec![feature]).collect();
    for (_, i, j) in pairs {
        let run_of = |feature| runs.iter().position(|run| run.contains(&feature)).expect("each is in one");
        let (one, other) = (run_of(i), run_of(j));
        if one == other {
            continue;
        }
        let mut tail = runs.swap_remove(one.max(other));
        let head = &mut runs[one.min(other)];
        // the four ways to lay them end to end
        let ends = |run: &[usize]| (run[0], run[run.len() - 1]);
        let ((a, b), (c, d)) = (ends(head), ends(&tail));
        let ways = [likeness(b, c), likeness(b, d), likeness(a, c), likeness(a, d)];
        let best = (0..4).rev().max_by(|&x, &y| ways[x].total_cmp(&ways[y])).expect("four ways");
        if best >= 2 {
            head.reverse();
        }
        if best % 2 == 1 {
            tail.reverse();
        }
        head.append(&mut tail);
    }
    runs.into_iter().flatten().collect()
}

/// s (n − s): n² times the variance of a feature that is on in s rows.
fn variation(ones: u64, rows: u64) -> f64 {
    (u128::from(ones) * u128::from(rows - ones)) as f64
}

/// [`phi`] from ones and [`variation`].
fn phi_from(both: u64, i: (u64, f64), j: (u64, f64), rows: u64) -> f64 {
    if i.1 == 0.0 || j.1 == 0.0 {
        return 0.0;
    }
    // exact in integers; the root of a square is exact too, which makes φ of equal features 1
    let covariance = i128::from(rows) * i128::from(both) - i128::from(i.0) * i128::from(j.0);
    (covariance as f64 / libm::sqrt(i.1 * j.1)).clamp(-1.0, 1.0)
}

/// A pair by strength: the larger information is the greater, and of equals the one with the lower features.
#[derive(Clone, Copy)]
struct Ranked {
    bits: f64,
    phi: f64,
    features: Reverse<[usize; 2]>,
    both: u64,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bits.total_cmp(&other.bits).then(self.features.cmp(&other.features))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strongest_block(ones: &[u64], rows: u64, both: impl Fn(usize, usize) -> u64, size: usize) -> Block {
        block_of(&strongest(ones, rows, &both, pairs_of_block(size)), ones, rows, both, size)
    }

    /// Rows of bits, and the counts of them.
    fn both(rows: &[Vec<bool>]) -> impl Fn(usize, usize) -> u64 {
        |i, j| rows.iter().filter(|row| row[i] && row[j]).count() as u64
    }

    fn ones(rows: &[Vec<bool>]) -> Vec<u64> {
        (0..rows[0].len()).map(|j| both(rows)(j, j)).collect()
    }

    fn some_rows(features: usize) -> impl Strategy<Value = Vec<Vec<bool>>> {
        prop::collection::vec(prop::collection::vec(any::<bool>(), features), 1..40)
    }

    #[test]
    fn triangle_has_each_pair_once_and_grows_at_its_end() {
        let places: Vec<usize> = (1..50).flat_map(|j| (0..j).map(move |i| pair_index(i, j))).collect();
        assert_eq!(places, (0..50 * 49 / 2).collect::<Vec<_>>());
    }

    #[test]
    fn by_hand() {
        // equal, opposite, independent, constant
        assert_eq!((phi(3, 3, 3, 10), phi(0, 3, 7, 10), phi(2, 4, 5, 10)), (1.0, -1.0, 0.0));
        assert_eq!((phi(0, 0, 5, 10), phi(5, 10, 5, 10), phi(0, 0, 0, 0)), (0.0, 0.0, 0.0));
        assert_eq!((mutual_information_bits(5, 5, 5, 10), mutual_information_bits(0, 5, 5, 10)), (1.0, 1.0));
        assert_eq!((mutual_information_bits(2, 4, 5, 10), mutual_information_bits(3, 10, 3, 10)), (0.0, 0.0));
        // 2×2 table 4 1 / 1 4 of 10: φ = .6, 1 − H(.2) bits
        assert!((phi(4, 5, 5, 10) - 0.6).abs() < 1e-15);
        assert!((mutual_information_bits(4, 5, 5, 10) - 0.278_071_905_112_637_7).abs() < 1e-15);
        // counts beyond 32 bits
        let big = 1u64 << 40;
        assert_eq!((phi(big / 3, big / 3, big / 3, big), phi(0, big / 4, big - big / 4, big)), (1.0, -1.0));
        assert!((mutual_information_bits(big / 2, big / 2, big / 2, big) - 1.0).abs() < 1e-15);
    }

    /// Features 0, 3 and 5 are copies, 1 and 4 nearly opposite, 2 is constant, 6 weakly alike 0.
    fn example() -> Vec<Vec<bool>> {
        (0..16)
            .map(|row| {
                let (a, b) = (row % 2 == 0, row % 4 < 2);
                vec![a, b, true, a, !b || row == 0, a, a && row < 14]
            })
            .collect()
    }

    #[test]
    fn strongest_first_ties_by_lowest_features() {
        let rows = example();
        let found = strongest(&ones(&rows), 16, both(&rows), 5);
        let pairs: Vec<_> = found.iter().map(|pair| pair.features).collect();
        assert_eq!(pairs[..3], [[0, 3], [0, 5], [3, 5]]);
        assert_eq!((found[0].phi, found[0].mutual_information_bits, found[0].both), (1.0, 1.0, 8));
        // 7 of 8 on, 0 of 8 off: φ = 7 · 16 − 7 · 8 over √(7 · 9 · 8 · 8) for [0, 6], [3, 6], [5, 6]; [1, 4] likewise
        assert_eq!(pairs[3..], [[0, 6], [1, 4]]);
        assert!(found[3].phi > 0.0 && found[3].phi == -found[4].phi);
        assert!(strongest(&ones(&rows), 16, both(&rows), 0).is_empty());
        assert!(strongest(&[], 0, |_, _| 0, 3).is_empty() && strongest(&[4], 9, |_, _| 0, 3).is_empty());
    }

    #[test]
    fn block_puts_dependent_features_side_by_side() {
        let rows = example();
        let block = strongest_block(&ones(&rows), 16, both(&rows), 6);
        let place = |feature| block.features.iter().position(|&other| other == feature).unwrap();
        assert_eq!(block.features.len(), 6);
        assert_eq!(place(1).abs_diff(place(4)), 1);
        let mut alike = [place(0), place(3), place(5), place(6)];
        alike.sort_unstable();
        assert_eq!(alike[3] - alike[0], 3);
        for (i, &a) in block.features.iter().enumerate() {
            for (j, &b) in block.features.iter().enumerate() {
                let counts = ones(&rows);
                let exact = if a == b { 1.0 } else { phi(both(&rows)(a, b), counts[a], counts[b], 16) };
                assert_eq!(block.phi[i * 6 + j], exact);
            }
        }
        // the constant feature depends on none
        assert_eq!(strongest_block(&ones(&rows), 16, both(&rows), 100).features.len(), 6);
        assert_eq!(strongest_block(&[3], 9, |_, _| 0, 4), Block { features: vec![], phi: vec![] });
        assert!(strongest_block(&ones(&rows), 16, both(&rows), 1).features.is_empty());
    }

    /// A chain 0 − 1 − 2 − … comes out as the chain, whatever its features are called.
    #[test]
    fn chain_stays_a_chain() {
        let names = [5, 2, 7, 0, 3, 6, 1, 4];
        let at = |feature| names.iter().position(|&name| name == feature).unwrap() as f64;
        let order = side_by_side(&[0, 1, 2, 3, 4, 5, 6, 7], |i, j| 0.9f64.powf((at(i) - at(j)).abs()));
        assert!(order == names || order.iter().rev().eq(names.iter()), "{order:?}");
    }

    proptest! {
        #[test]
        fn strongest_is_the_sorted_list(rows in some_rows(9), count in 0usize..40) {
            let (all, ones) = (both(&rows), ones(&rows));
            let n = rows.len() as u64;
            let mut list: Vec<([usize; 2], f64)> = (1..9)
                .flat_map(|j| (0..j).map(move |i| [i, j]))
                .filter(|&[i, j]| phi(all(i, j), ones[i], ones[j], n) != 0.0)
                .map(|[i, j]| ([i, j], mutual_information_bits(all(i, j), ones[i], ones[j], n)))
                .collect();
            list.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            list.truncate(count);
            let found: Vec<_> =
                strongest(&ones, n, &all, count).iter().map(|d| (d.features, d.mutual_information_bits)).collect();
            prop_assert_eq!(found, list);
        }

        #[test]
        fn both_measures_agree_with_their_definitions(rows in some_rows(2)) {
            let (c, n) = (both(&rows), rows.len() as f64);
            let (i, j, total) = (c(0, 0), c(1, 1), rows.len() as u64);
            let p = |a: bool, b: bool| rows.iter().filter(|row| row[0] == a && row[1] == b).count() as f64 / n;
            let mut bits = 0.0;
            for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
                let (pa, pb) = (p(a, false) + p(a, true), p(false, b) + p(true, b));
                if p(a, b) > 0.0 { bits += p(a, b) * (p(a, b) / (pa * pb)).log2() }
            }
            prop_assert!((mutual_information_bits(c(0, 1), i, j, total) - bits).abs() < 1e-13);
            let (pi, pj) = (i as f64 / n, j as f64 / n);
            let deviation = (pi * (1.0 - pi) * pj * (1.0 - pj)).sqrt();
            let exact = if deviation > 0.0 { (p(true, true) - pi * pj) / deviation } else { 0.0 };
            prop_assert!((phi(c(0, 1), i, j, total) - exact).abs() < 1e-12);
            prop_assert_eq!(phi(c(0, 1), i, j, total), phi(c(0, 1), j, i, total));
        }
    }
}

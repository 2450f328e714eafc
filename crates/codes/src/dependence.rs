//! How two features depend on each other, from counts.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;
use serde::Serialize;

use crate::pair_index;

/// Rows in which two features are on, together and each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Rows.
    pub rows: u64,
    /// Rows in which the first is on.
    pub first: u64,
    /// Rows in which the second is on.
    pub second: u64,
    /// Rows in which both are on.
    pub both: u64,
}

impl Table {
    /// Rows in which neither is on, only the first, only the second, both.
    pub fn cells(self) -> [u64; 4] {
        let (first, second) = (self.first - self.both, self.second - self.both);
        [self.rows - first - second - self.both, first, second, self.both]
    }

    /// The φ coefficient, that is Pearson's correlation of the two bits (Yule 1912); 0 if one of them is constant.
    pub fn phi(self) -> f64 {
        let [rows, first, second, both] = [self.rows, self.first, self.second, self.both].map(i128::from);
        let variances = |ones: i128| (ones * (rows - ones)) as f64;
        let product = variances(first) * variances(second);
        if product == 0.0 { 0.0 } else { (rows * both - first * second) as f64 / libm::sqrt(product) }
    }

    /// Mutual information in these rows (plug-in), in bits: Σ p_ab log₂ (p_ab / (p_a p_b)) ≥ 0.
    pub fn mutual_information_bits(self) -> f64 {
        let n = self.rows as f64;
        let [neither, first, second, both] = self.cells();
        let (off_first, off_second) = (self.rows - self.first, self.rows - self.second);
        let term = |count: u64, a: u64, b: u64| {
            if count == 0 {
                return 0.0;
            }
            let count = count as f64;
            count / n * libm::log2(count * n / (a as f64 * b as f64))
        };
        let bits = term(neither, off_first, off_second)
            + term(first, self.first, off_second)
            + term(second, off_first, self.second)
            + term(both, self.first, self.second);
        bits.max(0.0)
    }
}

/// Two features and how they depend on each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The features, ascending.
    pub features: [usize; 2],
    /// Correlation of the two bits.
    pub phi: f64,
    /// Plug-in.
    pub mutual_information_bits: f64,
    /// Rows in which both are on.
    pub both: u64,
}

/// φ of some features with each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Block {
    /// The features; dependent ones are neighbours.
    pub features: Vec<usize>,
    /// φ of each two of them, `[features, features]`.
    pub phi: Vec<Vec<f64>>,
}

/// A pair that waits to be among the strongest: the greatest is the weakest.
struct Candidate {
    strength: f64,
    pair: (usize, usize),
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        other.strength.total_cmp(&self.strength).then(self.pair.cmp(&other.pair))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

/// The `count` pairs that say most about each other (mutual information), strongest first; of equal ones those of lower
/// features. Pairs without any dependence are left out. (By |φ| the first would be features that are on once, in the same row.)
///
/// `both(pair_index(i, j))` gives the rows in which both are on.
pub fn strongest(
    rows: u64,
    ones: &[u64],
    both: impl Fn(usize) -> u64 + Sync,
    count: usize,
) -> Vec<Dependency> {
    let table =
        |i: usize, j: usize| Table { rows, first: ones[i], second: ones[j], both: both(pair_index(i, j)) };
    let is_constant = |feature: usize| ones[feature] == 0 || ones[feature] == rows;
    let keep = |mut heap: BinaryHeap<Candidate>, candidate: Candidate| {
        if heap.len() < count {
            heap.push(candidate);
        } else if heap.peek().is_some_and(|weakest| candidate < *weakest) {
            heap.pop();
            heap.push(candidate);
        }
        heap
    };
    let found = (0..ones.len())
        .into_par_iter()
        .filter(|&j| !is_constant(j))
        .fold(BinaryHeap::new, |heap, j| {
            let candidates = (0..j)
                .filter(|&i| !is_constant(i))
                .map(|i| Candidate { strength: table(i, j).mutual_information_bits(), pair: (i, j) });
            candidates.filter(|candidate| candidate.strength > 0.0).fold(heap, keep)
        })
        .reduce(BinaryHeap::new, |a, b| b.into_iter().fold(a, keep));
    let dependency = |Candidate { pair: (i, j), .. }: Candidate| Dependency {
        features: [i, j],
        phi: table(i, j).phi(),
        mutual_information_bits: table(i, j).mutual_information_bits(),
        both: table(i, j).both,
    };
    found.into_sorted_vec().into_iter().map(dependency).collect()
}

/// At most `size` features of the strongest pairs, each beside one that it depends on, and φ of all of them.
pub fn strongest_block(rows: u64, ones: &[u64], both: impl Fn(usize) -> u64 + Sync, size: usize) -> Block {
    let mut features: Vec<usize> = vec![];
    for Dependency { features: [i, j], .. } in strongest(rows, ones, &both, size * size) {
        let known = |feature: &usize| features.contains(feature);
        let new: Vec<usize> = [i, j].into_iter().filter(|feature| !known(feature)).collect();
        if features.len() + new.len() > size {
            continue;
        }
        // a newcomer stands beside its partner, if that is there already
        let beside = features.iter().position(|&feature| feature == i || feature == j);
        let at = beside.map_or(features.len(), |at| at + 1);
        features.splice(at..at, new);
        if features.len() == size {
            break;
        }
    }
    let phi = |a: usize, b: usize| {
        let (i, j) = (a.min(b), a.max(b));
        if i == j {
            return 1.0;
        }
        Table { rows, first: ones[i], second: ones[j], both: both(pair_index(i, j)) }.phi()
    };
    let phi = features.iter().map(|&a| features.iter().map(|&b| phi(a, b)).collect()).collect();
    Block { features, phi }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_tables() {
        let equal = Table { rows: 8, first: 4, second: 4, both: 4 };
        assert_eq!((equal.phi(), equal.mutual_information_bits()), (1.0, 1.0));
        let opposite = Table { rows: 8, first: 4, second: 4, both: 0 };
        assert_eq!((opposite.phi(), opposite.mutual_information_bits()), (-1.0, 1.0));
        let independent = Table { rows: 8, first: 4, second: 2, both: 1 };
        assert_eq!((independent.phi(), independent.mutual_information_bits()), (0.0, 0.0));
        let constant = Table { rows: 8, first: 8, second: 2, both: 2 };
        assert_eq!((constant.phi(), constant.mutual_information_bits()), (0.0, 0.0));
        let large = 3_000_000_000;
        let table = Table { rows: large, first: large / 2, second: large / 3, both: large / 3 };
        assert!((table.phi() - 0.5f64.sqrt()).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn as_defined(cells in prop::array::uniform4(0u64..50)) {
            let rows: u64 = cells.iter().sum();
            prop_assume!(rows > 0);
            let [_, first, second, both] = cells;
            let table = Table { rows, first: first + both, second: second + both, both };
            prop_assert_eq!(table.cells(), cells);
            let entropy = |counts: &[u64]| -> f64 {
                counts.iter().filter(|&&c| c > 0).map(|&c| c as f64 / rows as f64).map(|p| -p * p.log2()).sum()
            };
            let (a, b) = (table.first, table.second);
            let expected = entropy(&[a, rows - a]) + entropy(&[b, rows - b]) - entropy(&cells);
            prop_assert!((table.mutual_information_bits() - expected).abs() < 1e-12);
            let [p, q, r] = [a, b, both].map(|count| count as f64 / rows as f64);
            let variance = p * (1.0 - p) * q * (1.0 - q);
            let expected = if variance > 0.0 { (r - p * q) / variance.sqrt() } else { 0.0 };
            prop_assert!((table.phi() - expected).abs() < 1e-9);
        }

        #[test]
        fn the_strongest_are_those_of_a_full_sort(rows in 1usize..40, features in 1usize..12, seed: u64, count in 0usize..20) {
            let on = |row: usize, feature: usize| {
                xxhash_rust::xxh3::xxh3_64_with_seed(&[row as u8, feature as u8], seed) % 3 == 0
            };
            let ones: Vec<u64> =
                (0..features).map(|j| (0..rows).filter(|&row| on(row, j)).count() as u64).collect();
            let mut both = vec![];
            for j in 0..features {
                for i in 0..j {
                    both.push((0..rows).filter(|&row| on(row, i) && on(row, j)).count() as u64);
                }
            }
            let rows = rows as u64;
            let mut all = vec![];
            for j in 0..features {
                for i in 0..j {
                    let table = Table { rows, first: ones[i], second: ones[j], both: both[pair_index(i, j)] };
                    if table.mutual_information_bits() > 0.0 {
                        all.push((table.mutual_information_bits(), [i, j]));
                    }
                }
            }
            all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            all.truncate(count);
            let found = strongest(rows, &ones, |at| both[at], count);
            prop_assert_eq!(found.iter().map(|found| (found.mutual_information_bits, found.features)).collect::<Vec<_>>(), all);
            let block = strongest_block(rows, &ones, |at| both[at], 5);
            prop_assert!(block.features.len() <= 5 && block.phi.len() == block.features.len());
        }
    }
}

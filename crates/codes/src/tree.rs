//! How many bits codes take if each feature may look at one other: an upper bound of their joint entropy.

use rayon::prelude::*;

use crate::dependence::Table;

/// Counts of one part of the rows, by which trees are learned or measured.
pub trait PairTable: Sync {
    /// Rows.
    fn rows(&self) -> u64;

    /// Rows in which a feature is on.
    fn ones(&self, feature: usize) -> u64;

    /// Rows in which both of two different features are on.
    fn both(&self, i: usize, j: usize) -> u64;

    /// The counts of two features.
    fn table(&self, first: usize, second: usize) -> Table {
        let both = self.both(first, second);
        Table { rows: self.rows(), first: self.ones(first), second: self.ones(second), both }
    }
}

/// For each feature the one that it looks at, if that pays; features come after the one that they look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// `(feature, parent)`, each feature once.
    edges: Vec<(usize, Option<usize>)>,
}

impl Tree {
    /// The forest of greatest total mutual information (Chow & Liu 1968), of which the edges are left out that do not pay: an edge
    /// shortens the code of the rows it is learned from by n · MI bits, and to say which it is and what it does takes log₂ m + ½ log₂ n
    /// (Rissanen 1978). Without that, a tree learned from few rows is full of chance.
    ///
    /// Takes time m² and memory m. Of equal edges that of the lower feature is taken.
    pub fn learn(counts: &impl PairTable, features: usize) -> Self {
        let n = counts.rows() as f64;
        let price = libm::log2(features.max(2) as f64) + 0.5 * libm::log2(n.max(1.0));
        let gain = |i: usize, j: usize| n * counts.table(i, j).mutual_information_bits() - price;
        let is_live = |&feature: &usize| counts.ones(feature) > 0 && counts.ones(feature) < counts.rows();
        let (mut waiting, constant): (Vec<usize>, Vec<usize>) = (0..features).partition(is_live);
        let mut edges: Vec<_> = constant.into_iter().map(|feature| (feature, None)).collect();
        if waiting.is_empty() {
            return Self { edges };
        }
        // Prim's algorithm, dense
        let mut last = waiting.remove(0);
        edges.push((last, None));
        let mut best: Vec<(f64, usize)> = vec![(f64::NEG_INFINITY, 0); waiting.len()];
        while !waiting.is_empty() {
            best.par_iter_mut().zip(&waiting).with_min_len(64).for_each(|(best, &feature)| {
                let through = gain(last, feature);
                if through > best.0 {
                    *best = (through, last);
                }
            });
            let mut at = 0;
            for other in 1..best.len() {
                if best[other].0 > best[at].0 {
                    at = other;
                }
            }
            let (gain, parent) = best.remove(at);
            last = waiting.remove(at);
            edges.push((last, (gain > 0.0).then_some(parent)));
        }
        Self { edges }
    }

    /// `(feature, parent)`, each feature once, after its parent.
    pub fn edges(&self) -> &[(usize, Option<usize>)] {
        &self.edges
    }

    /// Mean length in bits a row of the rows `of`, coded with this tree and the probabilities (count + ½) / (rows + 1) that `counts` gives
    /// (Krichevsky & Trofimov 1981), of each feature given the bit of the one it looks at.
    ///
    /// For rows that had no part in tree and `counts`, its expectation is no less than the entropy of codes (Cover & Thomas, theorem 5.4.3). 0 without rows.
    pub fn code_length_bits(&self, counts: &impl PairTable, of: &impl PairTable) -> f64 {
        if of.rows() == 0 {
            return 0.0;
        }
        let bit = |ones: u64, rows: u64, measured_ones: u64, measured_rows: u64| {
            let on = (ones as f64 + 0.5) / (rows as f64 + 1.0);
            let off = ((rows - ones) as f64 + 0.5) / (rows as f64 + 1.0);
            let term = |times: u64, p: f64| if times == 0 { 0.0 } else { -(times as f64) * libm::log2(p) };
            term(measured_ones, on) + term(measured_rows - measured_ones, off)
        };
        let length = |&(feature, parent): &(usize, Option<usize>)| match parent {
            None => bit(counts.ones(feature), counts.rows(), of.ones(feature), of.rows()),
            Some(parent) => {
                let [learned, measured] = [counts.table(parent, feature), of.table(parent, feature)];
                bit(learned.both, learned.first, measured.both, measured.first)
                    + bit(
                        learned.second - learned.both,
                        learned.rows - learned.first,
                        measured.second - measured.both,
                        measured.rows - measured.first,
                    )
            }
        };
        self.edges.iter().map(length).sum::<f64>() / of.rows() as f64
    }

    /// Mean length in bits a row of the very rows that the tree and its probabilities were learned from, without the ½: Σ H(p_j) less the mutual
    /// information along the edges. Runs below the entropy when rows are few; the entropy of the best tree when they are all there are.
    pub fn in_sample_bits(&self, counts: &impl PairTable) -> f64 {
        let length = |&(feature, parent): &(usize, Option<usize>)| {
            let shared = parent.map_or(0.0, |parent| counts.table(parent, feature).mutual_information_bits());
            crate::entropy::marginal(counts.ones(feature), counts.rows()) - shared
        };
        self.edges.iter().map(length).sum()
    }
}

/// Code lengths of parts of the rows, each with the tree that the other parts give.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldOut {
    /// Rows and mean length in bits of each part that has rows.
    pub folds: Vec<(u64, f64)>,
}

impl HeldOut {
    /// Mean over all rows, in bits a row.
    pub fn bits(&self) -> f64 {
        let rows: u64 = self.folds.iter().map(|fold| fold.0).sum();
        self.folds.iter().map(|&(rows, bits)| rows as f64 * bits).sum::<f64>() / rows as f64
    }

    /// Standard error of [`HeldOut::bits`] by the spread of the parts (random groups: Wolter 2007, section 2.4); `None` with one part.
    pub fn standard_error(&self) -> Option<f64> {
        let parts = self.folds.len() as f64;
        let rows: u64 = self.folds.iter().map(|fold| fold.0).sum();
        let bits = self.bits();
        let squares = self.folds.iter().map(|fold| (fold.0 as f64 * (fold.1 - bits)).powi(2)).sum::<f64>();
        (parts > 1.0).then(|| libm::sqrt(parts / (parts - 1.0) * squares) / rows as f64)
    }
}

/// Codes each part with the tree that the others give; `None` if all rows are in one part.
pub fn held_out(parts: &[impl PairTable], features: usize) -> Option<HeldOut> {
    let with_rows: Vec<_> = parts.iter().filter(|part| part.rows() > 0).collect();
    if with_rows.len() < 2 {
        return None;
    }
    let folds = (0..with_rows.len()).map(|held| {
        let others = Others { parts: &with_rows, held };
        let bits = Tree::learn(&others, features).code_length_bits(&others, with_rows[held]);
        (with_rows[held].rows(), bits)
    });
    Some(HeldOut { folds: folds.collect() })
}

/// All parts but one.
struct Others<'a, T> {
    parts: &'a [&'a T],
    held: usize,
}

impl<T: PairTable> Others<'_, T> {
    fn sum(&self, count: impl Fn(&T) -> u64) -> u64 {
        self.parts.iter().enumerate().filter(|&(at, _)| at != self.held).map(|(_, part)| count(part)).sum()
    }
}

impl<T: PairTable> PairTable for Others<'_, T> {
    fn rows(&self) -> u64 {
        self.sum(|part| part.rows())
    }

    fn ones(&self, feature: usize) -> u64 {
        self.sum(|part| part.ones(feature))
    }

    fn both(&self, i: usize, j: usize) -> u64 {
        self.sum(|part| part.both(i, j))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BitMatrix, entropy};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Counts by looking.
    struct Rows(BitMatrix);

    impl PairTable for Rows {
        fn rows(&self) -> u64 {
            self.0.rows() as u64
        }
        fn ones(&self, feature: usize) -> u64 {
            (0..self.0.rows()).filter(|&row| self.0.get(row, feature)).count() as u64
        }
        fn both(&self, i: usize, j: usize) -> u64 {
            (0..self.0.rows()).filter(|&row| self.0.get(row, i) && self.0.get(row, j)).count() as u64
        }
    }

    fn rows(count: usize, features: usize, mut row: impl FnMut(usize) -> Vec<bool>) -> Rows {
        let mut codes = BitMatrix::zeros(count, features);
        for at in 0..count {
            for (feature, on) in row(at).into_iter().enumerate() {
                codes.set(at, feature, on);
            }
        }
        Rows(codes)
    }

    /// A population: each pattern of bits as often as it is likely.
    struct Population(Vec<(usize, u64)>);

    impl PairTable for Population {
        fn rows(&self) -> u64 {
            self.0.iter().map(|pattern| pattern.1).sum()
        }
        fn ones(&self, feature: usize) -> u64 {
            self.both(feature, feature)
        }
        fn both(&self, i: usize, j: usize) -> u64 {
            self.0
                .iter()
                .filter(|(pattern, _)| pattern >> i & pattern >> j & 1 == 1)
                .map(|pattern| pattern.1)
                .sum()
        }
    }

    /// Joint entropy, entropy of the best tree and sum of the marginal entropies are those expected.
    fn is(features: usize, times: impl Fn(usize) -> u64, expected: [f64; 3]) {
        let population = Population((0..1 << features).map(|pattern| (pattern, times(pattern))).collect());
        let n = population.rows() as f64;
        let likely = population.0.iter().filter(|pattern| pattern.1 > 0).map(|pattern| pattern.1 as f64 / n);
        let joint: f64 = likely.map(|p| -p * p.log2()).sum();
        let tree = Tree::learn(&population, features);
        // of a population the code with its own probabilities is as long as the entropy of the tree
        let coded = tree.code_length_bits(&population, &population);
        assert!((coded - tree.in_sample_bits(&population)).abs() < 1e-3);
        let sum =
            (0..features).map(|j| entropy::marginal(population.ones(j), population.rows())).sum::<f64>();
        for (found, expected) in [joint, tree.in_sample_bits(&population), sum].iter().zip(expected) {
            assert!((found - expected).abs() < 5e-6, "{found} {expected}");
        }
    }

    #[test]
    fn populations_whose_entropies_are_known() {
        let bit = |pattern: usize, feature: usize| pattern >> feature & 1;
        let times = |is: bool| if is { 1_000_000 } else { 0 };
        // an exclusive or is invisible to pairs
        is(3, |pattern| times(bit(pattern, 0) ^ bit(pattern, 1) == bit(pattern, 2)), [2.0, 3.0, 3.0]);
        is(4, |pattern| times(pattern & 3 == pattern >> 2), [2.0, 2.0, 4.0]);
        // a bit differs from the one before it once in ten times
        let flips = |pattern: usize| ((pattern ^ pattern >> 1) & 127).count_ones();
        is(8, |pattern| 9u64.pow(7 - flips(pattern)), [4.28297, 4.28297, 8.0]);
        // a bit differs from a hidden fair one once in ten times
        let times = |ones: u32| 9u64.pow(ones) + 9u64.pow(8 - ones);
        is(8, |pattern| times(pattern.count_ones()), [4.74386, 5.76054, 8.0]);
    }

    #[test]
    fn samples_come_to_the_population_from_above() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let flip = |random: &mut ChaCha8Rng| random.random_range(0..10u32) == 0;
        let chain = |random: &mut ChaCha8Rng| {
            let mut bit = random.random::<bool>();
            (0..8)
                .map(|_| {
                    let now = bit;
                    bit ^= flip(random);
                    now
                })
                .collect::<Vec<_>>()
        };
        let cause = |random: &mut ChaCha8Rng| {
            let bit = random.random::<bool>();
            (0..8).map(|_| bit ^ flip(random)).collect::<Vec<_>>()
        };
        for (kind, bound) in [(&chain as &dyn Fn(&mut ChaCha8Rng) -> Vec<bool>, 4.28297), (&cause, 5.76054)] {
            let parts: Vec<Rows> = (0..4).map(|_| rows(20_000, 8, |_| kind(&mut random))).collect();
            let held_out = held_out(&parts, 8).unwrap();
            let error = held_out.standard_error().unwrap();
            // 15 free probabilities from 60,000 rows cost 1e-4 bits
            assert!((held_out.bits() - bound).abs() < 5.0 * error + 1e-3, "{held_out:?} {bound}");
        }
    }

    #[test]
    fn fair_bits_are_not_taken_for_less() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut draw = || vec![(); 200].iter().map(|()| random.random::<bool>()).collect::<Vec<_>>();
        let all = rows(500, 200, |_| draw());
        // a spanning tree of the rows themselves breaks the bound
        let mut spanning = 0.0;
        let mut joined = vec![0];
        while joined.len() < 200 {
            let best = (0..200)
                .filter(|j| !joined.contains(j))
                .flat_map(|j| joined.iter().map(move |&i| (i, j)))
                .map(|(i, j)| (all.table(i, j).mutual_information_bits(), j))
                .max_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap();
            spanning += best.0;
            joined.push(best.1);
        }
        let sum: f64 = (0..200).map(|j| entropy::marginal(all.ones(j), 500)).sum();
        assert!((sum - spanning - 197.4).abs() < 0.3, "{}", sum - spanning);
        let parts: Vec<Rows> = (0..4).map(|_| rows(125, 200, |_| draw())).collect();
        let held_out = held_out(&parts, 200).unwrap();
        assert!(held_out.bits() > 200.0 && held_out.bits() < 203.0, "{}", held_out.bits());
    }

    #[test]
    fn few_rows() {
        let none = rows(0, 3, |_| vec![]);
        let one = rows(1, 3, |_| vec![true, false, true]);
        assert!(held_out(&[none, one], 3).is_none());
        let parts = [rows(1, 3, |_| vec![true; 3]), rows(1, 3, |_| vec![true, false, true])];
        let found = held_out(&parts, 3).unwrap();
        assert!(found.bits().is_finite() && found.standard_error().unwrap() == 0.0, "{found:?}");
    }
}

//! An upper bound of the joint entropy: the length of a code that was made from other rows.
//!
//! Whatever code is fixed before the rows are seen spends at least their joint entropy on average (Gibbs' inequality).
//! The code here is a tree of features, each one given its parent (Chow and Liu 1968): of all trees the one with the
//! largest sum of mutual information describes the rows it was learned from best, so on those it may well fall below the
//! entropy. Each fold is therefore coded with the tree of the other folds, with the conditional probabilities of
//! Krichevsky and Trofimov (1981), (count + ½) / (total + 1). Links that do not pay for their own description are left
//! out: what is learned from few rows would else be full of chance, and the bound the higher for it.
//!
//! What it costs: the mutual information of each pair once a fold, O(features) memory beyond the counts.

use std::f64::consts::LN_2;

use rayon::prelude::*;

use crate::{entropy, interval, quantile};

/// Counts in folds of rows that have no document in common.
pub trait FoldCounts: Sync {
    /// Bits in a code.
    fn features(&self) -> usize;
    /// Number of folds.
    fn folds(&self) -> usize;
    /// Rows of a fold.
    fn rows(&self, fold: usize) -> u64;
    /// Rows of a fold in which a feature is on.
    fn ones(&self, fold: usize, feature: usize) -> u64;
    /// Rows of a fold in which both features are on; asked for `i` < `j`.
    fn both(&self, fold: usize, i: usize, j: usize) -> u64;
}

/// Lengths of held-out rows; see the head of this file.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeBound {
    /// Bits in a code.
    pub features: usize,
    /// Rows of each fold.
    pub fold_rows: Vec<u64>,
    /// Mean code length of a row of each fold, in bits; 0 for a fold without rows.
    pub fold_bits: Vec<f64>,
    /// Mean code length over all rows, in bits: on average over data sets no lower than the joint entropy.
    pub bits: f64,
    /// Standard error of `bits` from the spread over folds; NaN if fewer than two hold rows.
    pub standard_error: f64,
    /// Degrees of freedom of the standard error; 0 if it is NaN.
    pub degrees_of_freedom: usize,
}

impl TreeBound {
    /// Upper limit at `level` (such as .95, one-sided) of the joint entropy of a row, in bits: `bits` + t ·
    /// `standard_error`, and never more than 1 bit a feature.
    ///
    /// Four folds leave three degrees of freedom, and t = 2.35 instead of 1.64 pays for that. It is honest all the same:
    /// a fold's length is a mean over many documents, and that each fold also teaches the codes of the others moves their
    /// lengths only at second order. (Where many trees are equally good, the choice among them ties the folds together,
    /// and the limit holds the tree's own entropy in 93 % of simulations instead of 95; the joint entropy lies below that
    /// or, with independent features, below what the needless edges cost.) No better is to be had from pair counts: the
    /// variance of a row's length needs four features at a time, and what pairs allow, the sum of the edges' deviations,
    /// is larger by far. In practice the tree's excess over the entropy, always upwards, is more than the error.
    pub fn upper_bits(&self, level: f64) -> f64 {
        let most = self.features as f64;
        if self.degrees_of_freedom == 0 {
            // one fold, coded without any knowledge, or no rows
            return most;
        }
        let t = quantile::student_t(level, self.degrees_of_freedom as f64);
        most.min(self.bits + t * self.standard_error)
    }
}

/// Codes each fold with the tree of the other folds. A fold whose others hold no rows costs 1 bit a feature, and so do no
/// rows at all. Folds are worked on in parallel; the result does not depend on the number of threads.
pub fn held_out_bits(counts: &impl FoldCounts) -> TreeBound {
    let folds = 0..counts.folds();
    let fold_rows: Vec<u64> = folds.clone().map(|fold| counts.rows(fold)).collect();
    let totals: Vec<f64> = folds.into_par_iter().map(|fold| total_bits(counts, fold)).collect();
    let rows: u64 = fold_rows.iter().sum();
    let mean = |total: f64, rows: u64| if rows > 0 { total / rows as f64 } else { 0.0 };
    let bits = if rows > 0 { mean(totals.iter().sum(), rows) } else { counts.features() as f64 };
    let deviations: Vec<(u64, f64)> = fold_rows
        .iter()
        .zip(&totals)
        .filter(|(own, _)| **own > 0)
        .map(|(&own, total)| (own, (total - own as f64 * bits) / rows as f64))
        .collect();
    let (standard_error, degrees_of_freedom) =
        if deviations.len() < 2 { (f64::NAN, 0) } else { interval::spread(&deviations) };
    TreeBound {
        features: counts.features(),
        fold_bits: totals.iter().zip(&fold_rows).map(|(&total, &rows)| mean(total, rows)).collect(),
        fold_rows,
        bits,
        standard_error,
        degrees_of_freedom,
    }
}

/// Entropy in bits of the best tree for a known distribution: Σ H(pⱼ) less the mutual information of the tree's edges.
/// `both(i, j)` is the probability that both are on, with `both(j, j)` = pⱼ.
pub fn population_bits(features: usize, both: impl Fn(usize, usize) -> f64) -> f64 {
    let own: Vec<f64> = (0..features).map(|j| plogp(both(j, j)) + plogp(1.0 - both(j, j))).collect();
    let information = |i: usize, j: usize, _: f64| {
        let (p, pi, pj) = (both(i, j), both(i, i), both(j, j));
        plogp(p) + plogp(pi - p) + plogp(pj - p) + plogp(1.0 - pi - pj + p) - own[i] - own[j]
    };
    let limits: Vec<f64> = own.iter().map(|bits| -bits).collect();
    let saved: f64 = spanning_tree(&limits, 0.0, information).iter().map(|link| link.weight).sum();
    limits.iter().sum::<f64>() - saved
}

/// Bits that all rows of `fold` take with the tree of the others.
fn total_bits(counts: &impl FoldCounts, fold: usize) -> f64 {
    let features = counts.features();
    let others = || (0..counts.folds()).filter(move |&other| other != fold);
    let rows: u64 = others().map(|other| counts.rows(other)).sum();
    let ones: Vec<u64> = (0..features).map(|j| others().map(|other| counts.ones(other, j)).sum()).collect();
    let both = |i: usize, j: usize| {
        let (i, j) = (i.min(j), i.max(j));
        others().map(|other| counts.both(other, i, j)).sum::<u64>()
    };

    // rows × entropy of each feature, and rows × mutual information of a pair
    let own: Vec<f64> = ones.iter().map(|&ones| plogp(ones as f64) + plogp((rows - ones) as f64)).collect();
    let together = plogp(rows as f64);
    let limits: Vec<f64> = ones.iter().map(|&ones| rows as f64 * entropy::marginal(ones, rows)).collect();
    let scales: Vec<f64> = ones.iter().map(|&ones| 1.0 / (ones as f64 * (rows - ones) as f64)).collect();
    let information = |i: usize, j: usize, than: f64| {
        let c = both(i, j);
        // of most pairs φ² says enough: information ≤ log2(1 + φ²) ≤ φ² / ln 2, as the χ² of a table bounds its divergence
        let covariance = rows as f64 * c as f64 - ones[i] as f64 * ones[j] as f64;
        let most = rows as f64 * (covariance * covariance * (scales[i] * scales[j])) / LN_2;
        if most <= than {
            return most;
        }
        let cells = [c, ones[i] - c, ones[j] - c, rows + c - ones[i] - ones[j]];
        cells.iter().map(|&cell| plogp(cell as f64)).sum::<f64>() - own[i] - own[j] + together
    };

    let (held_rows, held) = (counts.rows(fold), |j: usize| counts.ones(fold, j));
    // to say which link it is, and how the two depend, takes so many bits (Rissanen 1978); links that do not save them are chance
    let price = libm::log2(features as f64) + 0.5 * libm::log2(rows.max(1) as f64);
    spanning_tree(&limits, price, information)
        .iter()
        .map(|&Link { parent, child, .. }| {
            let (on, held_on) = (ones[child], held(child));
            let Some(parent) = parent else {
                return coded(on, rows, held_on, held_rows);
            };
            let given = both(parent, child);
            let held_given = counts.both(fold, parent.min(child), parent.max(child));
            coded(given, ones[parent], held_given, held(parent))
                + coded(on - given, rows - ones[parent], held_on - held_given, held_rows - held(parent))
        })
        .sum()
}

/// Bits of `held` rows, `held_on` of them on, by the Krichevsky–Trofimov probabilities of `on` in `rows`.
fn coded(on: u64, rows: u64, held_on: u64, held: u64) -> f64 {
    let bits = |count: u64| libm::log2((rows as f64 + 1.0) / (count as f64 + 0.5));
    held_on as f64 * bits(on) + (held - held_on) as f64 * bits(rows - on)
}

/// A feature of the tree and the one that it is coded with; none for a root.
#[derive(Clone, Copy, Debug)]
struct Link {
    parent: Option<usize>,
    child: usize,
    weight: f64,
}

/// The spanning tree of largest total `weight`, parents before their children (Prim 1957): each pair is weighed once,
/// when the first of the two joins. `limits[j]` is an upper limit of the weights of feature j, and pairs that cannot
/// better a link by it are not weighed; `weight(i, j, than)` may give any number up to `than` for a pair that weighs no
/// more. A feature without a weight above `least` is a root of its own. Ties go to what joined first and to the lowest
/// feature.
fn spanning_tree(limits: &[f64], least: f64, weight: impl Fn(usize, usize, f64) -> f64) -> Vec<Link> {
    let mut waiting: Vec<Link> =
        (0..limits.len()).map(|child| Link { parent: None, child, weight: least }).collect();
    let mut tree = Vec::with_capacity(waiting.len());
    let mut next = 0;
    while !waiting.is_empty() {
        // in the order of the features, so that the counts are read in the order of memory
        let joined = waiting.remove(next);
        tree.push(joined);
        next = 0;
        let mut most = f64::NEG_INFINITY;
        for (at, link) in waiting.iter_mut().enumerate() {
            if limits[joined.child].min(limits[link.child]) > link.weight {
                let weight = weight(joined.child, link.child, link.weight);
                if weight > link.weight {
                    (link.parent, link.weight) = (Some(joined.child), weight);
                }
            }
            if link.weight > most {
                (next, most) = (at, link.weight);
            }
        }
    }
    tree
}

/// x log2 x, and 0 where rounding has left less than nothing.
fn plogp(x: f64) -> f64 {
    if x > 0.0 { x * (libm::log(x) / LN_2) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Plain rows, and the fold of each.
    #[derive(Debug)]
    struct Rows {
        features: usize,
        folds: usize,
        rows: Vec<(usize, Vec<bool>)>,
    }

    impl FoldCounts for Rows {
        fn features(&self) -> usize {
            self.features
        }
        fn folds(&self) -> usize {
            self.folds
        }
        fn rows(&self, fold: usize) -> u64 {
            self.rows.iter().filter(|row| row.0 == fold).count() as u64
        }
        fn ones(&self, fold: usize, feature: usize) -> u64 {
            self.rows.iter().filter(|row| row.0 == fold && row.1[feature]).count() as u64
        }
        fn both(&self, fold: usize, i: usize, j: usize) -> u64 {
            assert!(i < j);
            self.rows.iter().filter(|row| row.0 == fold && row.1[i] && row.1[j]).count() as u64
        }
    }

    /// The same as counts, for many rows.
    struct Counts {
        features: usize,
        rows: Vec<u64>,
        pairs: Vec<Vec<u32>>, // [folds][features × features]
    }

    impl Counts {
        fn of(features: usize, folds: usize, rows: impl Iterator<Item = (usize, Vec<bool>)>) -> Self {
            let mut counts =
                Self { features, rows: vec![0; folds], pairs: vec![vec![0; features * features]; folds] };
            for (fold, row) in rows {
                counts.rows[fold] += 1;
                for (j, _) in row.iter().enumerate().filter(|(_, on)| **on) {
                    for (i, _) in row[..=j].iter().enumerate().filter(|(_, on)| **on) {
                        counts.pairs[fold][i * features + j] += 1;
                    }
                }
            }
            counts
        }
    }

    impl FoldCounts for Counts {
        fn features(&self) -> usize {
            self.features
        }
        fn folds(&self) -> usize {
            self.rows.len()
        }
        fn rows(&self, fold: usize) -> u64 {
            self.rows[fold]
        }
        fn ones(&self, fold: usize, feature: usize) -> u64 {
            self.pairs[fold][feature * self.features + feature].into()
        }
        fn both(&self, fold: usize, i: usize, j: usize) -> u64 {
            self.pairs[fold][i * self.features + j].into()
        }
    }

    /// Sources whose entropy is known: what draws a row, and (H joint, tree, ΣH) in bits.
    type Source = (&'static str, fn(&mut ChaCha8Rng) -> Vec<bool>, [f64; 3]);

    const SOURCES: [Source; 5] = [
        // 8 H(.3)
        ("8 independent bits", independent, [7.050_327, 7.050_327, 7.050_327]),
        ("two bits and their XOR", xor, [2.0, 3.0, 3.0]),
        ("two bits twice", twice, [2.0, 2.0, 4.0]),
        ("chain of 8, flip .1", chain, [4.282_97, 4.282_97, 8.0]),
        ("common cause of 8, flip .1", cause, [4.743_86, 5.760_54, 8.0]),
    ];

    fn independent(random: &mut ChaCha8Rng) -> Vec<bool> {
        (0..8).map(|_| random.random_bool(0.3)).collect()
    }

    fn xor(random: &mut ChaCha8Rng) -> Vec<bool> {
        let [a, b]: [bool; 2] = random.random();
        vec![a, b, a ^ b]
    }

    fn twice(random: &mut ChaCha8Rng) -> Vec<bool> {
        let [a, b]: [bool; 2] = random.random();
        vec![a, b, a, b]
    }

    fn chain(random: &mut ChaCha8Rng) -> Vec<bool> {
        let mut bit = random.random::<bool>();
        let mut row = vec![bit];
        row.extend((1..8).map(|_| {
            bit ^= random.random_bool(0.1);
            bit
        }));
        row
    }

    fn cause(random: &mut ChaCha8Rng) -> Vec<bool> {
        let cause = random.random::<bool>();
        (0..8).map(|_| cause ^ random.random_bool(0.1)).collect()
    }

    /// `rows` rows of a source in four folds.
    fn sample(draw: fn(&mut ChaCha8Rng) -> Vec<bool>, rows: usize, seed: u64) -> Counts {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let features = draw(&mut random).len();
        Counts::of(features, 4, (0..rows).map(|row| (row % 4, draw(&mut random))))
    }

    #[test]
    fn population_values() {
        // two features agree with probability a: both on with probability a / 2
        let fair = |agree: fn(usize, usize) -> f64| move |i, j| 0.5 * agree(i, j);
        let same = |i: usize, j: usize| if i == j { 1.0 } else { 0.5 };
        let bits = [
            population_bits(8, |i, j| if i == j { 0.3 } else { 0.09 }),
            population_bits(3, fair(same)),
            population_bits(4, fair(|i, j| if i % 2 == j % 2 { 1.0 } else { 0.5 })),
            population_bits(8, fair(|i, j| 0.5 + 0.5 * 0.8f64.powi(i.abs_diff(j) as i32))),
            population_bits(8, fair(|i, j| if i == j { 1.0 } else { 0.5 + 0.5 * 0.64 })),
        ];
        for ((name, _, [_, tree, _]), bits) in SOURCES.iter().zip(bits) {
            assert!((bits - tree).abs() < 1e-5, "{name}: {bits}");
        }
        assert_eq!(population_bits(0, |_, _| 0.0), 0.0);
        assert_eq!(population_bits(3, |_, _| 1.0), 0.0);
    }

    /// The excess over the tree's entropy is what learning 2 m − 1 numbers from ¾ n rows costs: (2 m − 1) / (2 · ¾ n ln 2).
    #[test]
    fn converges_to_the_population_value() {
        for (name, draw, [joint, tree, sum]) in SOURCES {
            let mut excess = 0.0;
            for seed in 0..20 {
                let found = held_out_bits(&sample(draw, 2000, seed));
                assert!((found.bits - tree).abs() < 0.3, "{name}: {found:?}");
                assert!(found.upper_bits(0.999) >= joint && found.bits < sum + 0.3, "{name}: {found:?}");
                excess += (found.bits - tree) / 20.0;
            }
            let numbers = 2.0 * draw(&mut ChaCha8Rng::seed_from_u64(0)).len() as f64 - 1.0;
            let cost = numbers / (2.0 * 1500.0 * LN_2);
            // ± 4 standard errors: a row's length varies by less than 2 bits, 40,000 rows
            assert!(excess > -0.04 && excess < cost + 0.04, "{name}: {excess} {cost}");
        }
    }

    /// 200 fair bits, 500 rows: on its own rows a tree seems to need less than the entropy, on others it cannot.
    #[test]
    fn trees_break_the_bound_on_their_own_rows_only() {
        let counts = sample(|random| (0..200).map(|_| random.random()).collect(), 500, 1);
        let p = |i: usize, j: usize| {
            (0..4).map(|fold| counts.both(fold, i.min(j), i.max(j))).sum::<u64>() as f64 / 500.0
        };
        let own = population_bits(200, p);
        assert!((own - 197.4).abs() < 0.3, "{own}");
        let found = held_out_bits(&counts);
        // 202.7 and more with all links; those that pay are few
        assert!(found.bits > 200.0 && found.bits < 201.0, "{found:?}");
        assert_eq!(found.upper_bits(0.95), 200.0);
    }

    /// The limit must hold the joint entropy in at least 95 % of data sets (930 of 1,000 allow for chance), also where the
    /// tree is exact and only the noise is left.
    #[test]
    fn upper_limit_covers() {
        for (name, draw, [joint, tree, _]) in SOURCES {
            for rows in [100, 1000] {
                let found =
                    (0..1000).map(|seed| held_out_bits(&sample(draw, rows, 1000 + seed)).upper_bits(0.95));
                let found: Vec<f64> = found.collect();
                let covers = |bits: f64| found.iter().filter(|&&upper| upper >= bits - 1e-9).count();
                assert!(covers(joint) >= 930, "{name}, {rows} rows: {}", covers(joint));
                assert!(joint == tree || covers(joint) >= 990, "{name}, {rows} rows: {}", covers(joint));
            }
        }
    }

    #[test]
    fn nothing_to_learn_from() {
        let row = |fold| (fold, vec![true, false, true]);
        let of = |rows| held_out_bits(&Rows { features: 3, folds: 4, rows });
        // no rows, and rows in one fold: nothing is known, 1 bit a feature
        for found in [of(vec![]), of(vec![row(2), row(2)])] {
            assert_eq!((found.bits, found.upper_bits(0.95), found.degrees_of_freedom), (3.0, 3.0, 0));
            assert!(found.standard_error.is_nan());
        }
        // the same row twice: each is coded from one, (1 + ½) / (1 + 1) three times
        let found = of(vec![row(0), row(3)]);
        assert!((found.bits - 3.0 * (4.0f64 / 3.0).log2()).abs() < 1e-15);
        assert_eq!((found.standard_error, found.degrees_of_freedom), (0.0, 1));
        assert_eq!(found.fold_rows, [1, 0, 0, 1]);
        let none = held_out_bits(&Rows { features: 0, folds: 4, rows: vec![(0, vec![]), (1, vec![])] });
        assert_eq!((none.bits, none.upper_bits(0.95)), (0.0, 0.0));
    }

    #[test]
    fn any_number_of_threads_gives_the_same() {
        let counts =
            sample(|random| (0..40).map(|i| random.random_bool(1.0 / f64::from(i + 1))).collect(), 300, 3);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| held_out_bits(&counts))
        };
        assert_eq!(with(1), with(3));
    }

    /// Information in the edges of the best tree for the rows outside `fold`, by Kruskal's way.
    fn plain(rows: &Rows, fold: usize) -> f64 {
        let n = |on: &dyn Fn(&[bool]) -> bool, held: bool| {
            rows.rows.iter().filter(|row| (row.0 == fold) == held && on(&row.1)).count() as f64
        };
        let total = n(&|_| true, false);
        let mut pairs = Vec::new();
        for j in 0..rows.features {
            for i in 0..j {
                let mut bits = 0.0;
                for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
                    let both = n(&|row| row[i] == a && row[j] == b, false);
                    let (one, other) = (n(&|row| row[i] == a, false), n(&|row| row[j] == b, false));
                    if both > 0.0 {
                        bits += both * (both * total / (one * other)).log2();
                    }
                }
                pairs.push((bits, i, j));
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut group: Vec<usize> = (0..rows.features).collect();
        let weight: f64 = pairs
            .iter()
            .map(|&(bits, i, j)| {
                let (one, other) = (group[i], group[j]);
                group.iter_mut().filter(|group| **group == other).for_each(|group| *group = one);
                if one == other { 0.0 } else { bits }
            })
            .sum();
        weight
    }

    fn some_rows() -> impl Strategy<Value = Rows> {
        (1usize..8, 1usize..5).prop_flat_map(|(features, folds)| {
            let row = (0..folds, prop::collection::vec(any::<bool>(), features));
            prop::collection::vec(row, 0..40).prop_map(move |rows| Rows { features, folds, rows })
        })
    }

    proptest! {
        /// Of all trees the one with the most information (Kruskal finds the same total), parents first.
        #[test]
        fn tree_is_the_maximum_spanning_tree(rows in some_rows()) {
            let all: u64 = (1..rows.folds).map(|fold| rows.rows(fold)).sum();
            let ones: Vec<f64> = (0..rows.features)
                .map(|j| (1..rows.folds).map(|fold| rows.ones(fold, j)).sum::<u64>() as f64).collect();
            let information = |i: usize, j: usize, _: f64| {
                let c = (1..rows.folds).map(|fold| rows.both(fold, i.min(j), i.max(j))).sum::<u64>();
                let [i, j] = [ones[i] as u64, ones[j] as u64];
                all as f64 * crate::dependence::mutual_information_bits(c, i, j, all)
            };
            let limits: Vec<f64> =
                ones.iter().map(|&ones| all as f64 * entropy::marginal(ones as u64, all)).collect();
            let tree = spanning_tree(&limits, 0.0, information);
            let found: f64 = tree.iter().map(|link| link.weight).sum();
            let exact = plain(&rows, 0);
            prop_assert!((found - exact).abs() < 1e-9, "{found} {exact}");
            let mut seen = vec![false; rows.features];
            for link in &tree {
                prop_assert!(link.parent.is_none_or(|parent| seen[parent]) && !seen[link.child]);
                seen[link.child] = true;
            }
            prop_assert!(seen.iter().all(|&seen| seen));
        }

        /// The lengths from counts are those of the rows, coded one by one along the same tree; and they are those of a
        /// code: over all rows that there could be, Σ 2^−length is 1.
        #[test]
        fn lengths_are_those_of_a_code(rows in some_rows(), fold in 0usize..5) {
            let fold = fold % rows.folds;
            let of = |row: &[bool]| {
                let held = rows.rows.iter().filter(|row| row.0 != fold).cloned();
                let rows = held.chain([(fold, row.to_vec())]).collect();
                total_bits(&Rows { features: row.len(), folds: 5, rows }, fold)
            };
            let all: f64 = (0..1u32 << rows.features)
                .map(|row| (0..rows.features).map(|j| row >> j & 1 == 1).collect::<Vec<_>>())
                .map(|row| (-of(&row)).exp2())
                .sum();
            prop_assert!((all - 1.0).abs() < 1e-9, "{all}");
            let one_by_one: f64 = rows.rows.iter().filter(|row| row.0 == fold).map(|row| of(&row.1)).sum();
            prop_assert!((one_by_one - total_bits(&rows, fold)).abs() < 1e-9);
        }
    }
}

//! How sure Σ_j H(p_j) is: the jackknife over buckets of whole documents, and the interval around it.
//!
//! Rows of one document are alike, so n rows say less than n independent ones. Documents, not rows, are therefore dealt
//! into buckets (by a hash), and what is counted is the ones of each feature in each bucket. Leaving one bucket out at a
//! time gives both figures: how the entropy falls with less data (the bias) and how it varies (the standard error),
//! whatever the rows of a document, or the features of a row, have to do with each other.
//!
//! With Ĥ the plug-in sum over all rows, Ĥ₍g₎ the one without bucket g, and n_g of n rows in it:
//!
//! - U_g = (1 − n_g/n) (Ĥ − Ĥ₍g₎): for a mean this is the bucket's share of the deviation, Σ_{rows of g} (x − x̄) / n;
//! - estimate = Ĥ + Σ_g U_g, the jackknife for buckets of unequal size (Busing, Meijer and van der Leeden 1999): a bias
//!   that falls as 1/n is gone, also the larger one that alike rows cause, which no estimator from p̂ alone sees;
//! - SE² = K / (K − 1) · Σ_g (U_g − (n_g/n) Σ U)², with K = n² / Σ n_g² buckets in effect: where a bucket's variance goes
//!   with its rows, the sum falls short by 1 − Σ n_g²/n² = (K − 1) / K on average, which the factor makes good; for G
//!   equal buckets it is the G / (G − 1) of random groups (Wolter 2007, chapter 2);
//! - Student's t with K − 1 degrees of freedom (rounded down).
//!
//! What simulations show (the tests hold some): 95 % intervals cover in 93–97 % where features are on in at least one row
//! on average or, where rows come in documents, in at least two documents (five to ten if large groups of features come
//! and go together). Below, the estimate runs low: with 400 features of a quarter of an expected row each, fewer than nine of ten
//! cover. Near p = ½ for all features they are too wide, by up to √2.

use crate::{Buckets, entropy, quantile};

/// Estimate of Σ_j H(p_j) in bits a row, with its standard error; see the head of this file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jackknife {
    /// Σ_j H(p_j) in bits, corrected for bias. Not clamped.
    pub bits: f64,
    /// Its standard error in bits; NaN if fewer than two buckets hold rows, or if there are two rows: one row by itself never varies.
    pub standard_error: f64,
    /// Degrees of freedom of the standard error; 0 if it is NaN.
    pub degrees_of_freedom: usize,
}

/// The jackknife over buckets of codes with `features` bits. Buckets without rows do not count. Without a standard error, `bits` is the plug-in
/// value.
///
/// # Panics
/// If the codes have another number of bits.
pub fn jackknife(counts: &Buckets, features: usize) -> Jackknife {
    let bucket_rows = counts.rows();
    let buckets = || (0..bucket_rows.len()).filter(|&bucket| bucket_rows[bucket] > 0);
    let ones_of = |bucket: usize| &counts.ones_of(bucket)[..features];

    let rows: u64 = bucket_rows.iter().sum();
    let mut ones = vec![0u64; features];
    for bucket in buckets() {
        ones.iter_mut().zip(ones_of(bucket)).for_each(|(all, &here)| *all += u64::from(here));
    }
    let all: f64 = ones.iter().map(|&ones| entropy::marginal(ones, rows)).sum();

    let deviations: Vec<(u64, f64)> = buckets()
        .map(|bucket| {
            let rest = rows - bucket_rows[bucket];
            let without: f64 = ones
                .iter()
                .zip(ones_of(bucket))
                .map(|(&ones, &here)| entropy::marginal(ones - u64::from(here), rest))
                .sum();
            (bucket_rows[bucket], rest as f64 / rows as f64 * (all - without))
        })
        .collect();
    // of two rows either leaves the same when it is left out, no entropy: that is not to be sure
    if deviations.len() < 2 || rows == 2 {
        return Jackknife { bits: all, standard_error: f64::NAN, degrees_of_freedom: 0 };
    }
    let (standard_error, degrees_of_freedom) = spread(&deviations);
    Jackknife {
        bits: all + deviations.iter().map(|(_, deviation)| deviation).sum::<f64>(),
        standard_error,
        degrees_of_freedom,
    }
}

/// Two-sided interval that holds the truth with probability `level` (such as .95): estimate ± t · `standard_error`.
/// Not clamped; NaN without degrees of freedom.
pub fn interval(estimate: f64, standard_error: f64, degrees_of_freedom: usize, level: f64) -> (f64, f64) {
    if degrees_of_freedom == 0 {
        return (f64::NAN, f64::NAN);
    }
    let reach = quantile::student_t(0.5 + 0.5 * level, degrees_of_freedom as f64) * standard_error;
    (estimate - reach, estimate + reach)
}

/// Standard error and degrees of freedom of a mean over all rows, from each group's rows and what it adds to the mean's
/// deviation. Two groups at least.
pub(crate) fn spread(groups: &[(u64, f64)]) -> (f64, usize) {
    let rows: f64 = groups.iter().map(|&(rows, _)| rows as f64).sum();
    let total: f64 = groups.iter().map(|(_, deviation)| deviation).sum();
    let squares = groups.iter().map(|&(rows, _)| rows as f64 * rows as f64).sum::<f64>() / (rows * rows);
    let variance: f64 = groups
        .iter()
        .map(|&(own, deviation)| {
            let apart = deviation - own as f64 / rows * total;
            apart * apart
        })
        .sum();
    // equal groups must not lose a degree of freedom to rounding
    let degrees = libm::floor(1.0 / squares - 1.0 + 1e-9).max(1.0);
    (libm::sqrt(variance / (1.0 - squares)), degrees as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::BUCKETS;
    use crate::marginal::{self, Estimator};

    fn truth(p: f64) -> f64 {
        -p * p.log2() - (1.0 - p) * (1.0 - p).log2()
    }

    /// Of the first of all buckets; the others are empty.
    fn jackknife(rows: &[u64], ones: &[u32], features: usize) -> Jackknife {
        let (mut rows, mut ones) = (rows.to_vec(), ones.to_vec());
        rows.resize(BUCKETS, 0);
        ones.resize(BUCKETS * features, 0);
        super::jackknife(&Buckets::from_counts(rows, &ones, features), features)
    }

    /// Counts of one simulated data set.
    struct Counts {
        rows: Vec<u64>,
        ones: Vec<u32>,
        features: usize,
    }

    impl Counts {
        fn new(features: usize) -> Self {
            Self { rows: vec![0; BUCKETS], ones: vec![0; BUCKETS * features], features }
        }

        /// A row in `bucket` whose features are on with the rates given.
        fn add(&mut self, bucket: usize, rates: &[f64], random: &mut ChaCha8Rng) {
            self.rows[bucket] += 1;
            let ones = &mut self.ones[bucket * self.features..][..self.features];
            for (ones, &rate) in ones.iter_mut().zip(rates).filter(|(_, rate)| **rate > 0.0) {
                *ones += u32::from(f64::from(random.random::<u32>()) < rate * 4_294_967_296.0);
            }
        }

        fn jackknife(&self) -> Jackknife {
            jackknife(&self.rows, &self.ones, self.features)
        }
    }

    /// Share of `simulations` whose 95 % interval holds `truth`.
    fn coverage(simulations: u64, truth: f64, simulate: impl Fn(&mut ChaCha8Rng) -> Jackknife) -> f64 {
        let covered = (0..simulations).filter(|&seed| {
            let found = simulate(&mut ChaCha8Rng::seed_from_u64(seed));
            let (lower, upper) = interval(found.bits, found.standard_error, found.degrees_of_freedom, 0.95);
            lower <= truth && truth <= upper
        });
        covered.count() as f64 / simulations as f64
    }

    fn independent(rows: usize, rates: &[f64]) -> f64 {
        coverage(1000, rates.iter().map(|&p| truth(p)).sum(), |random| {
            let mut counts = Counts::new(rates.len());
            (0..rows).for_each(|_| counts.add(random.random_range(0..BUCKETS), rates, random));
            counts.jackknife()
        })
    }

    #[test]
    fn covers_with_independent_rows() {
        for (rows, rates) in [
            (500, vec![0.2; 20]),
            (100, vec![0.1; 100]),
            (300, (0..100).map(|i| 0.5 * (1.0 / 150.0f64).powf(f64::from(i) / 99.0)).collect()), // 1 … 150 rows
            (300, vec![2.0 / 300.0; 100]),
            (300, vec![1.0 / 300.0; 100]),
        ] {
            let covered = independent(rows, &rates);
            assert!((0.93..=0.97).contains(&covered), "{rows} rows, {} …: {covered}", rates[0]);
        }
    }

    /// The limits that the head of the file names.
    #[test]
    fn where_coverage_ends() {
        // most features are on in no row: the estimate runs low
        let rare = independent(200, &[0.25 / 200.0; 400]);
        assert!(rare < 0.9, "{rare}");
        // all features at ½: the error is of second order, and the interval too wide
        let fair = independent(200, &[0.5; 20]);
        assert!(fair > 0.97, "{fair}");
    }

    /// Documents of 5 to 40 rows. In each, a feature's rate is `high` with probability `share` and `low` otherwise: one
    /// draw for the first `together` features, one of its own for each of the others. So p is known exactly.
    struct Documents {
        documents: usize,
        features: usize,
        together: usize,
        low: f64,
        high: f64,
        share: f64,
    }

    impl Documents {
        fn truth(&self) -> f64 {
            self.features as f64 * truth(self.low + self.share * (self.high - self.low))
        }

        /// Counts with each document in one bucket or, as if rows were independent, each row.
        fn simulate(&self, random: &mut ChaCha8Rng, whole: bool) -> Counts {
            let mut counts = Counts::new(self.features);
            for _ in 0..self.documents {
                let bucket = random.random_range(0..BUCKETS);
                let common = random.random_bool(self.share);
                let rates: Vec<f64> = (0..self.features)
                    .map(
                        |feature| {
                            if feature < self.together { common } else { random.random_bool(self.share) }
                        },
                    )
                    .map(|high| if high { self.high } else { self.low })
                    .collect();
                for _ in 0..random.random_range(5..=40) {
                    let bucket = if whole { bucket } else { random.random_range(0..BUCKETS) };
                    counts.add(bucket, &rates, random);
                }
            }
            counts
        }

        fn coverage(&self, whole: bool) -> f64 {
            coverage(1000, self.truth(), |random| self.simulate(random, whole).jackknife())
        }
    }

    #[test]
    fn covers_with_documents_and_would_not_without_them() {
        let of = Documents { documents: 150, features: 20, together: 10, low: 0.05, high: 0.3, share: 0.5 };
        let (documents, rows) = (of.coverage(true), of.coverage(false));
        assert!((0.93..=0.97).contains(&documents), "documents: {documents}");
        assert!(rows < 0.6, "rows as if independent: {rows}");
    }

    /// Features of a few documents each: what is rare is not the row but the document that has the feature.
    #[test]
    fn covers_topics_that_few_documents_have() {
        let covered = |in_documents: f64, together| {
            let share = in_documents / 100.0;
            Documents { documents: 100, features: 40, together, low: 0.0, high: 0.5, share }.coverage(true)
        };
        for (in_documents, together) in [(2.0, 0), (5.0, 5), (30.0, 20)] {
            let covered = covered(in_documents, together);
            assert!((0.93..=0.97).contains(&covered), "{together} together in {in_documents}: {covered}");
        }
        let rare = covered(0.5, 0);
        assert!(rare < 0.93, "{rare}");
    }

    /// The larger bias that alike rows cause is not seen by leaving out single rows.
    #[test]
    fn jackknife_over_rows_is_too_low_with_documents() {
        let of = Documents { documents: 100, features: 80, together: 0, low: 0.0, high: 0.9, share: 0.2 };
        let truth = of.truth();
        let over_rows = coverage(1000, truth, |random| {
            let counts = of.simulate(random, true);
            let rows = counts.rows.iter().sum();
            let ones = |j| (0..BUCKETS).map(|bucket| u64::from(counts.ones[bucket * of.features + j])).sum();
            let bits = (0..of.features).map(|j| marginal::entropy(Estimator::Jackknife, ones(j), rows)).sum();
            Jackknife { bits, ..counts.jackknife() }
        });
        let over_buckets = of.coverage(true);
        assert!(over_rows < 0.9 && (0.93..=0.97).contains(&over_buckets), "{over_rows} {over_buckets}");
    }

    #[test]
    fn by_hand() {
        // two buckets of 4 rows: 1 and 3 of 4 on. H(1/2) = 1, without either H(3/4) = .811278…; U = (1 − .811278…) / 2
        let found = jackknife(&[4, 0, 4], &[1, 0, 3], 1);
        assert!((found.bits - (2.0 - truth(0.25))).abs() < 1e-15);
        assert_eq!((found.standard_error, found.degrees_of_freedom), (0.0, 1));
        // a second feature, on in all of the first bucket and one of the second: H(5/8), without them H(1/4) and 0
        let found = jackknife(&[4, 4], &[1, 4, 3, 1], 2);
        let (first, second) = (truth(0.625) - truth(0.25), truth(0.625) - 0.0);
        assert!((found.bits - (2.0 - truth(0.25) + truth(0.625) + 0.5 * (first + second))).abs() < 1e-15);
        // U differs by truth(.25) / 2 between them: SE² = 2 · 2 · (truth(.25) / 4)²
        assert!((found.standard_error - 0.5 * truth(0.25)).abs() < 1e-15);
        let (lower, upper) = interval(found.bits, found.standard_error, 1, 0.5);
        // the quartiles of t with one degree are ±1
        assert!(
            (upper - found.bits - found.standard_error).abs() < 1e-12 && (lower + upper) / 2.0 == found.bits
        );
    }

    #[test]
    fn nothing_to_compare() {
        for (rows, ones) in
            [(vec![], vec![]), (vec![0, 0], vec![0, 0]), (vec![0, 4], vec![0, 1]), (vec![1, 1], vec![0, 1])]
        {
            let found = jackknife(&rows, &ones, 1);
            assert_eq!(
                found.bits,
                entropy::marginal(ones.iter().map(|&o| u64::from(o)).sum(), rows.iter().sum())
            );
            assert!(found.standard_error.is_nan() && found.degrees_of_freedom == 0);
            assert!(interval(found.bits, found.standard_error, 0, 0.95).0.is_nan());
        }
        let constant = jackknife(&[3, 5], &[0, 3, 0, 5], 2);
        assert_eq!((constant.bits, constant.standard_error), (0.0, 0.0));
        assert_eq!(jackknife(&[3, 5], &[], 0).bits, 0.0);
    }

    proptest! {
        /// With each row its own bucket it is the jackknife over rows.
        #[test]
        fn of_single_rows_is_the_closed_form(on in prop::collection::vec(any::<[bool; 3]>(), 3..60)) {
            let ones: Vec<u32> = on.iter().flatten().map(|&on| u32::from(on)).collect();
            let found = jackknife(&vec![1; on.len()], &ones, 3);
            let rows = on.len() as u64;
            let of = |j: usize| on.iter().filter(|row| row[j]).count() as u64;
            let closed: f64 = (0..3).map(|j| marginal::entropy(Estimator::Jackknife, of(j), rows)).sum();
            prop_assert!((found.bits - closed).abs() < 1e-10, "{} {closed}", found.bits);
            prop_assert_eq!(found.degrees_of_freedom, on.len() - 1);
        }

        /// Empty buckets, the order of the buckets and which value is called on change nothing.
        #[test]
        fn what_cannot_matter(buckets in prop::collection::vec((0u32..50, 0.0f64..=1.0), 1..20)) {
            let rows: Vec<u64> = buckets.iter().map(|&(rows, _)| u64::from(rows)).collect();
            let ones: Vec<u32> = buckets.iter().map(|&(rows, share)| (f64::from(rows) * share) as u32).collect();
            let off: Vec<u32> = buckets.iter().zip(&ones).map(|(&(rows, _), ones)| rows - ones).collect();
            let found = jackknife(&rows, &ones, 1);
            let back = |mut list: Vec<u32>| { list.reverse(); list };
            let turned: Vec<u64> = rows.iter().rev().copied().collect();
            for other in [jackknife(&rows, &off, 1), jackknife(&turned, &back(ones), 1)] {
                prop_assert!((found.bits - other.bits).abs() < 1e-12);
                prop_assert_eq!(found.degrees_of_freedom, other.degrees_of_freedom);
                let (a, b) = (found.standard_error, other.standard_error);
                prop_assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-12, "{a} {b}");
            }
        }
    }
}

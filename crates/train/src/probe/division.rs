//! Which rows probes are trained on, and which they are tested on.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Share of the rows to test on.
pub(super) const TEST_FRACTION: f64 = 0.2;

/// Rows to train on and rows to test on, both ascending.
pub(super) struct Division {
    pub(super) train: Vec<usize>,
    pub(super) test: Vec<usize>,
}

impl Division {
    /// Divides `rows`, whose sequence `sequence` gives: whole sequences, and of those that begin with one class about
    /// [`TEST_FRACTION`] of the rows, or the shortest sequence where none is that short; a single one is trained on.
    pub(super) fn draw(
        rows: &[usize],
        class: impl Fn(usize) -> usize,
        sequence: impl Fn(usize) -> i64,
        random: &mut ChaCha8Rng,
    ) -> Self {
        let mut sequences: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        rows.iter().for_each(|&row| sequences.entry(sequence(row)).or_default().push(row));
        let mut strata: BTreeMap<usize, Vec<Vec<usize>>> = BTreeMap::new();
        for rows in sequences.into_values() {
            strata.entry(class(rows[0])).or_default().push(rows);
        }
        let (mut train, mut test) = (vec![], vec![]);
        for mut stratum in strata.into_values() {
            stratum.shuffle(random);
            let count: usize = stratum.iter().map(Vec::len).sum();
            let wanted = (count as f64 * TEST_FRACTION).round() as usize;
            let mut taken = 0;
            let (mut tested, mut trained): (Vec<_>, Vec<_>) = stratum.into_iter().partition(|rows| {
                let fits = taken + rows.len() <= wanted;
                taken += if fits { rows.len() } else { 0 };
                fits
            });
            if tested.is_empty() && trained.len() > 1 {
                let shortest = (0..trained.len()).min_by_key(|&at| trained[at].len()).expect("two or more");
                tested.push(trained.swap_remove(shortest));
            }
            test.extend(tested.into_iter().flatten());
            train.extend(trained.into_iter().flatten());
        }
        train.sort_unstable();
        test.sort_unstable();
        Self { train, test }
    }
}

/// `count` of `of`, ascending, each set of them as likely as any other (Knuth, TAOCP 3.4.2, algorithm S).
pub(super) fn sample(of: &[usize], count: usize, random: &mut ChaCha8Rng) -> Vec<usize> {
    let (mut left, mut wanted) = (of.len() as u64, count as u64);
    let mut chosen = Vec::with_capacity(count.min(of.len()));
    for &each in of {
        if random.random_range(0..left) < wanted {
            chosen.push(each);
            wanted -= 1;
        }
        left -= 1;
    }
    chosen
}

use super::Codes;
use bae_codes::Statistics;
use ndarray::ArrayView2;
use std::collections::BTreeMap;

/// Share of the squared error that rounding values to steps may add: as little as can be told apart from nothing.
pub const ADDED_ERROR: f64 = 0.01;

/// Counts of values, over all features, at most (about 256 MiB): steps are doubled before there are more.
const MOST_COUNTS: usize = 1 << 22;

/// Step that values are rounded to, in units of the reconstruction: h · |decoder row|.
///
/// Rounding evenly to steps Δ adds Δ²/12 for each value that is not 0, where errors do not depend on each other; so Δ² = 12 · 1 % ·
/// E|x − x̂|² / L0. It is never finer than what 32-bit numbers resolve. 0 where nothing is on.
pub(super) fn step(squared_error: f64, squared_size: f64, l0: f64) -> f64 {
    let resolved = f64::from(f32::EPSILON) * f64::from(f32::EPSILON) * squared_size;
    if l0 > 0.0 { (12.0 * ADDED_ERROR * squared_error.max(resolved) / l0).sqrt() } else { 0.0 }
}

/// Counts the values of codes, rounded to steps: the rate follows, in bits a row, each feature coded for itself.
pub(super) struct Rate {
    step: f64,
    /// Of the decoder's rows, `[d_sae]`.
    norms: Vec<f64>,
    rows: u64,
    /// For each feature how often each value came, those of 0 left out.
    counts: Vec<BTreeMap<i64, u64>>,
    held: usize,
}

impl Rate {
    /// No rows yet, of codes whose features count with these lengths.
    pub fn new(step: f64, norms: Vec<f64>) -> Self {
        let counts = vec![BTreeMap::new(); norms.len()];
        Self { step, norms, rows: 0, counts, held: 0 }
    }

    /// The step in use: doubled, perhaps more than once, where there were too many values to count.
    pub fn step(&self) -> f64 {
        self.step
    }

    /// The rate of codes, whose features were counted: where they are bits nothing else is.
    pub fn of(&mut self, codes: &Codes, statistics: &Statistics) -> f64 {
        match codes {
            Codes::Bits(_) => statistics.entropy_bits(),
            Codes::Values(_) => {
                self.add(codes);
                self.bits()
            }
        }
    }

    /// Counts codes.
    pub fn add(&mut self, codes: &Codes) {
        match codes {
            Codes::Bits(bits) => {
                for row in 0..bits.rows() {
                    (0..bits.features())
                        .filter(|&feature| bits.get(row, feature))
                        .for_each(|j| self.count(j, 1.0));
                }
                self.rows += bits.rows() as u64;
            }
            Codes::Values(values) => {
                for row in 0..values.rows() {
                    let (features, values) = values.row(row);
                    features.iter().zip(values).for_each(|(&j, &h)| self.count(j as usize, h));
                }
                self.rows += values.rows() as u64;
            }
        }
    }

    /// Counts codes `[n, d_sae]`, 0 like any other value.
    pub fn add_dense(&mut self, codes: ArrayView2<f32>) {
        for row in codes.rows() {
            row.iter().enumerate().for_each(|(j, &h)| self.count(j, h));
        }
        self.rows += codes.nrows() as u64;
    }

    fn count(&mut self, feature: usize, value: f32) {
        let steps = f64::from(value) * self.norms[feature] / self.step;
        let steps = if steps.is_finite() { steps.floor() as i64 } else { 0 };
        let count = self.counts[feature].entry(steps).or_insert_with(|| {
            self.held += 1;
            0
        });
        *count += 1;
        while self.held > MOST_COUNTS.max(self.counts.len()) {
            self.double();
        }
    }

    fn double(&mut self) {
        self.step *= 2.0;
        self.held = 0;
        for counts in &mut self.counts {
            let mut halved = BTreeMap::new();
            for (steps, count) in std::mem::take(counts) {
                *halved.entry(steps.div_euclid(2)).or_insert(0) += count;
            }
            self.held += halved.len();
            *counts = halved;
        }
    }

    /// Σ_j H(active_j) + p_j H(value_j | active_j): the entropy of each feature's values, 0 among them, summed over features.
    pub fn bits(&self) -> f64 {
        let n = self.rows.max(1) as f64;
        let part = |count: u64| {
            let p = count as f64 / n;
            if count == 0 { 0.0 } else { -p * libm::log2(p) }
        };
        let of = |counts: &BTreeMap<i64, u64>| {
            let on: u64 = counts.values().sum();
            part(self.rows - on) + counts.values().map(|&count| part(count)).sum::<f64>()
        };
        self.counts.iter().map(of).sum::<f64>().max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bae_codes::ValueMatrix;
    use proptest::prelude::*;

    fn values(d_sae: usize, rows: &[Vec<(u32, f32)>]) -> Codes {
        let (mut ends, mut features, mut held) = (vec![], vec![], vec![]);
        for row in rows {
            for &(feature, value) in row {
                features.push(feature);
                held.push(value);
            }
            ends.push(features.len());
        }
        Codes::Values(ValueMatrix::new(d_sae, ends, features, held))
    }

    #[test]
    fn levels_by_hand() {
        // feature 0: −1, 0, 1, 1; feature 1 always 2; feature 2 never on
        let codes = values(
            3,
            &[vec![(0, -1.0), (1, 2.0)], vec![(1, 2.0)], vec![(0, 1.0), (1, 2.0)], vec![(0, 1.0), (1, 2.0)]],
        );
        let mut rate = Rate::new(0.25, vec![1.0; 3]);
        rate.add(&codes);
        assert_eq!(rate.bits(), 1.5);
    }

    #[test]
    fn a_value_costs_what_it_tells() {
        // on in every second row, with eight equally likely values: 1 + ½ · 3
        let rows: Vec<Vec<(u32, f32)>> = (0..64u16)
            .map(|k| if k % 2 == 0 { vec![] } else { vec![(0, f32::from(k / 2 % 8) + 0.5)] })
            .collect();
        let mut rate = Rate::new(1.0, vec![1.0]);
        rate.add(&values(1, &rows));
        assert!((rate.bits() - 2.5).abs() < 1e-12);
        // steps twice as large tell four of them apart
        rate.double();
        assert!((rate.bits() - 2.0).abs() < 1e-12);
        assert_eq!(rate.step(), 2.0);
    }

    #[test]
    fn counts_stay_bounded() {
        let mut rate = Rate::new(1e-9, vec![1.0]);
        let rows: Vec<Vec<(u32, f32)>> =
            (0..MOST_COUNTS as u32 + 10).map(|k| vec![(0, (k + 1) as f32)]).collect();
        rate.add(&values(1, &rows));
        assert!(rate.held <= MOST_COUNTS && rate.held == rate.counts[0].len());
        assert!(rate.step() > 0.5 && rate.bits() > 20.0, "{} {}", rate.step(), rate.bits());
    }

    #[test]
    fn steps_add_the_error_that_they_may() {
        // 200,000 values along 20 directions at right angles, the error of one row being 3
        let l0 = 20.0;
        let step = step(3.0, 100.0, l0);
        let added: f64 = (0..10_000)
            .map(|k| {
                let value = f64::from(k) * 0.618_033_988_75 % 1.0;
                let middle = ((value / step).floor() + 0.5) * step;
                (value - middle) * (value - middle)
            })
            .sum::<f64>()
            / 10_000.0;
        assert!((added * l0 / (ADDED_ERROR * 3.0) - 1.0).abs() < 0.05, "{added}");
        assert_eq!(super::step(1.0, 1.0, 0.0), 0.0);
    }

    proptest! {
        #[test]
        fn bits_cost_their_marginal_entropies(rows in 1usize..70, d_sae in 1usize..9, seed in 0usize..99, length in 0.001f64..9.0) {
            let on = |k: usize, j: usize| (k * 7 + j * j * 3 + seed).is_multiple_of(j + 2);
            let mut bits = bae_codes::BitMatrix::zeros(rows, d_sae);
            for k in 0..rows { for j in 0..d_sae { bits.set(k, j, on(k, j)); } }
            let mut statistics = Statistics::new(d_sae);
            statistics.add(&bits).unwrap();
            for codes in [Codes::Values(ValueMatrix::from(&bits)), Codes::Bits(bits)] {
                let mut rate = Rate::new(0.3, vec![length; d_sae]);
                rate.add(&codes);
                prop_assert!((rate.bits() - statistics.entropy_bits()).abs() < 1e-9);
            }
        }
    }
}

//! Hidden states whose entropy is known: what estimators and recipes are measured against.

use crate::{DataError, Purpose, generator};
use bae_codes::BitMatrix;
use nalgebra::DMatrix;
use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// How likely a bit of [`SyntheticKind::Sparse`] is on.
pub const SPARSE_RATE: f64 = 0.05;
/// How likely a bit that follows another is not what that one is.
pub const FLIP: f64 = 0.1;

/// How the bits that switch the directions depend on one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyntheticKind {
    /// Fair, and independent.
    #[default]
    Independent,
    /// Fair; bit 2k + 1 is bit 2k, flipped with probability [`FLIP`]. The last one of an odd number is alone.
    Pairs,
    /// Independent, on with probability [`SPARSE_RATE`].
    Sparse,
    /// Each is one hidden fair bit, flipped with probability [`FLIP`], each flip for itself.
    CommonCause,
    /// A chain: the first is fair, each other is the one before it, flipped with probability [`FLIP`].
    Markov,
}

impl SyntheticKind {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Independent, Self::Pairs, Self::Sparse, Self::CommonCause, Self::Markov];

    /// Joint entropy of `rank` bits, in bits a row, in closed form.
    ///
    /// With h the binary entropy: independent r, sparse r h(.05), pairs 1 + h(.1) each, Markov 1 + (r − 1) h(.1). Of a common
    /// cause c, H(b) = H(c) + H(b | c) − H(c | b) = 1 + r h(.1) − Σ_k P(k ones) h(P(c = 1 | k ones)).
    pub fn joint_bits(self, rank: usize) -> f64 {
        let r = rank as f64;
        match self {
            _ if rank == 0 => 0.0,
            Self::Independent => r,
            Self::Sparse => r * binary(SPARSE_RATE),
            Self::Pairs => rank.div_ceil(2) as f64 + (rank / 2) as f64 * binary(FLIP),
            Self::Markov => 1.0 + (r - 1.0) * binary(FLIP),
            Self::CommonCause => 1.0 + r * binary(FLIP) - cause_given_bits(rank),
        }
    }

    /// Σ_j H of `rank` bits, each by itself, in bits a row: what a code with one feature for one bit has.
    pub fn marginal_bits(self, rank: usize) -> f64 {
        let each = if self == Self::Sparse { binary(SPARSE_RATE) } else { 1.0 };
        rank as f64 * each
    }

    /// One row of bits.
    fn draw(self, bits: &mut [bool], random: &mut ChaCha8Rng) {
        let mut coin = |p: f64| random.random::<f64>() < p;
        let cause = coin(0.5);
        for at in 0..bits.len() {
            bits[at] = match self {
                Self::Independent => coin(0.5),
                Self::Sparse => coin(SPARSE_RATE),
                Self::CommonCause => cause ^ coin(FLIP),
                Self::Pairs if at % 2 == 1 => bits[at - 1] ^ coin(FLIP),
                Self::Markov if at > 0 => bits[at - 1] ^ coin(FLIP),
                Self::Pairs | Self::Markov => coin(0.5),
            };
        }
    }
}

/// Hidden states that are sums of random directions, switched by bits, with noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthetic {
    /// How the bits depend on one another.
    pub kind: SyntheticKind,
    /// Directions, and bits of a row; at least 1.
    pub rank: usize,
    /// Width of a hidden state.
    pub d_in: usize,
    /// Hidden states.
    pub rows: usize,
    /// Standard deviation of the Gaussian noise on each value. Directions have length 1.
    pub noise: f64,
    /// Whether the directions are orthogonal, or random on the sphere.
    pub orthogonal: bool,
    /// Decides directions, bits and noise, each by itself.
    pub seed: u64,
}

/// What [`Synthetic::draw`] gives: states = bits · directions + noise.
pub struct SyntheticStates {
    /// `[rows, d_in]`.
    pub states: Array2<f32>,
    /// `[rows, rank]`.
    pub bits: BitMatrix,
    /// `[rank, d_in]`, each of length 1.
    pub directions: Array2<f32>,
}

impl Synthetic {
    /// Draws the hidden states. The first rows are the same however many follow.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there is nothing to draw, the noise is no standard deviation, or there are more orthogonal directions
    /// than dimensions; `OUT_OF_MEMORY` if the states do not fit.
    pub fn draw(&self) -> Result<SyntheticStates, DataError> {
        self.check()?;
        let &Self { rank, d_in, rows, .. } = self;
        let too_large = || {
            DataError::out_of_memory(format!(
                "{rows} hidden states of width {d_in} with {rank} directions do not fit into this system's memory; ask for less"
            ))
        };
        let (mut values, mut room) = (Vec::<f32>::new(), Vec::<f64>::new());
        values.try_reserve_exact(rows.saturating_mul(d_in)).map_err(|_| too_large())?;
        let mut bits = BitMatrix::with_room(rows, rank).ok_or_else(too_large)?;
        // as drawn, factored, and as they are handed out
        room.try_reserve_exact(rank.saturating_mul(d_in).saturating_mul(4)).map_err(|_| too_large())?;
        drop(room);
        let directions = self.directions();
        let (mut coins, mut noise) = (self.random(1), self.random(2));
        let mut row = vec![false; rank];
        let mut sum = vec![0.0; d_in];
        for _ in 0..rows {
            self.kind.draw(&mut row, &mut coins);
            let switched: Vec<f32> = row.iter().map(|&on| f32::from(u8::from(on))).collect();
            bits.append(&BitMatrix::from_positive(&switched, rank)).expect("one width");
            sum.fill(0.0);
            for (direction, _) in directions.rows().into_iter().zip(&row).filter(|(_, on)| **on) {
                sum.iter_mut().zip(direction).for_each(|(sum, &u)| *sum += u);
            }
            values.extend(sum.iter().map(|&x| {
                let normal: f64 = if self.noise == 0.0 { 0.0 } else { StandardNormal.sample(&mut noise) };
                (x + self.noise * normal) as f32
            }));
        }
        Ok(SyntheticStates {
            states: Array2::from_shape_vec((rows, d_in), values).expect("whole rows"),
            bits,
            directions: directions.mapv(|u| u as f32),
        })
    }

    fn check(&self) -> Result<(), DataError> {
        let &Self { rank, d_in, rows, noise, orthogonal, .. } = self;
        for (name, value) in [("rank", rank), ("dIn", d_in), ("rows", rows)] {
            if value == 0 {
                return Err(DataError::argument(format!("{name} is 0: it must be at least 1")));
            }
        }
        if !(noise >= 0.0 && noise.is_finite()) {
            return Err(DataError::argument(format!("noise is {noise}: it must be 0 or more")));
        }
        if orthogonal && rank > d_in {
            return Err(DataError::argument(format!(
                "{rank} directions cannot be orthogonal in {d_in} dimensions: lower rank, raise dIn, or let directions be random"
            )));
        }
        Ok(())
    }

    /// Random directions `[rank, d_in]` of length 1; where they are to be orthogonal, the Q of their QR decomposition.
    fn directions(&self) -> Array2<f64> {
        let mut random = self.random(0);
        let drawn = DMatrix::from_fn(self.d_in, self.rank, |_, _| StandardNormal.sample(&mut random));
        let columns = if self.orthogonal {
            drawn.qr().q()
        } else {
            let mut columns: DMatrix<f64> = drawn;
            columns.column_iter_mut().for_each(|mut column| _ = column.normalize_mut());
            columns
        };
        Array2::from_shape_fn((self.rank, self.d_in), |(bit, j)| columns[(j, bit)])
    }

    fn random(&self, number: u64) -> ChaCha8Rng {
        generator(self.seed, Purpose::Synthetic, number)
    }
}

/// Entropy of a bit that is on with probability `p`, in bits.
fn binary(p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 { 0.0 } else { -p * libm::log2(p) - (1.0 - p) * libm::log2(1.0 - p) }
}

/// H(c | b) of a common cause, in bits: given k ones of r, the odds of c are ((1 − f) / f)^(2k − r).
fn cause_given_bits(rank: usize) -> f64 {
    let r = rank as f64;
    let [flipped, kept] = [FLIP, 1.0 - FLIP].map(libm::log);
    let ways = |k: f64| libm::lgamma(r + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(r - k + 1.0);
    // given c = 1; by symmetry c = 0 says the same
    (0..=rank)
        .map(|ones| {
            let k = ones as f64;
            let likely = libm::exp(ways(k) + k * kept + (r - k) * flipped);
            let odds = (2.0 * k - r) * (kept - flipped);
            likely * binary(1.0 / (1.0 + libm::exp(-odds)))
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bae_codes::{Statistics, joint};

    /// Probability of one pattern of bits, by definition.
    fn probability(kind: SyntheticKind, pattern: usize, rank: usize) -> f64 {
        let bit = |j: usize| pattern >> j & 1;
        let of = |on: bool, p: f64| if on { p } else { 1.0 - p };
        let step = |j: usize| of(bit(j) != bit(j - 1), FLIP);
        match kind {
            SyntheticKind::Independent => 0.5f64.powi(rank as i32),
            SyntheticKind::Sparse => (0..rank).map(|j| of(bit(j) == 1, SPARSE_RATE)).product(),
            SyntheticKind::Pairs => (0..rank).map(|j| if j % 2 == 1 { step(j) } else { 0.5 }).product(),
            SyntheticKind::Markov => (0..rank).map(|j| if j > 0 { step(j) } else { 0.5 }).product(),
            SyntheticKind::CommonCause => {
                let given = |c: usize| (0..rank).map(|j| of(bit(j) != c, FLIP)).product::<f64>();
                0.5 * given(0) + 0.5 * given(1)
            }
        }
    }

    #[test]
    fn entropies_are_those_of_all_patterns() {
        for kind in SyntheticKind::ALL {
            for rank in 1..=10 {
                let patterns = (0..1usize << rank).map(|pattern| probability(kind, pattern, rank));
                let joint: f64 = patterns.map(|p| -p * p.log2()).sum();
                assert!((kind.joint_bits(rank) - joint).abs() < 1e-12 * (1.0 + joint), "{kind:?} {rank}");
                let rate = |j: usize| -> f64 {
                    (0..1usize << rank)
                        .filter(|pattern| pattern >> j & 1 == 1)
                        .map(|p| probability(kind, p, rank))
                        .sum()
                };
                let marginal: f64 = (0..rank).map(|j| binary(rate(j))).sum();
                assert!((kind.marginal_bits(rank) - marginal).abs() < 1e-9, "{kind:?} {rank}");
            }
            assert_eq!(kind.joint_bits(0), 0.0);
            assert!(kind.joint_bits(2000).is_finite());
        }
        assert!((SyntheticKind::Markov.joint_bits(8) - 4.282_97).abs() < 5e-6);
        assert!((SyntheticKind::CommonCause.joint_bits(8) - 4.743_86).abs() < 5e-6);
        // the manifest of the published fixtures
        assert!((SyntheticKind::Pairs.joint_bits(8) - 5.875_982_374_357_124).abs() < 1e-12);
        assert!((SyntheticKind::Sparse.joint_bits(16) - 4.582_351_313_855_3).abs() < 1e-12);
    }

    #[test]
    fn samples_have_the_entropy_that_is_promised() {
        for kind in SyntheticKind::ALL {
            let drawn = Synthetic { kind, rank: 6, rows: 40_000, ..plain() }.draw().unwrap();
            let joint = joint::plug_in(&drawn.bits.occurrences());
            assert!((joint - kind.joint_bits(6)).abs() < 0.02, "{kind:?} {joint} {}", kind.joint_bits(6));
            let mut statistics = Statistics::new(6);
            statistics.add(&drawn.bits).unwrap();
            assert!((statistics.entropy_bits() - kind.marginal_bits(6)).abs() < 0.03, "{kind:?}");
        }
    }

    fn plain() -> Synthetic {
        Synthetic {
            kind: SyntheticKind::Independent,
            rank: 3,
            d_in: 9,
            rows: 50,
            noise: 0.0,
            orthogonal: true,
            seed: 1,
        }
    }

    #[test]
    fn states_are_sums_of_the_directions_that_are_on() {
        for orthogonal in [true, false] {
            let drawn = Synthetic { orthogonal, ..plain() }.draw().unwrap();
            let bits = Array2::from_shape_fn((50, 3), |(k, j)| f32::from(u8::from(drawn.bits.get(k, j))));
            assert!((bits.dot(&drawn.directions) - &drawn.states).iter().all(|e| e.abs() < 1e-6));
            let gram = drawn.directions.dot(&drawn.directions.t());
            let apart = (gram - Array2::<f32>::eye(3)).iter().fold(0f32, |most, e| most.max(e.abs()));
            assert_eq!(apart < 1e-6, orthogonal, "{apart}");
        }
    }

    #[test]
    fn parts_do_not_move_one_another() {
        let short = plain().draw().unwrap();
        let long = Synthetic { rows: 80, noise: 0.5, ..plain() }.draw().unwrap();
        assert_eq!(short.directions, long.directions);
        assert!((0..50).all(|row| short.bits.row(row) == long.bits.row(row)));
        let bits = Array2::from_shape_fn((80, 3), |(k, j)| f32::from(u8::from(long.bits.get(k, j))));
        let noise = bits.dot(&long.directions) - &long.states;
        let spread = noise.iter().map(|e| e * e).sum::<f32>() / noise.len() as f32;
        assert!((spread.sqrt() - 0.5).abs() < 0.05, "{spread}");
    }

    #[test]
    fn what_cannot_be_drawn_is_named() {
        for (wrong, named) in [
            (Synthetic { rank: 0, ..plain() }, "rank is 0"),
            (Synthetic { rows: 0, ..plain() }, "rows is 0"),
            (Synthetic { d_in: 0, ..plain() }, "dIn is 0"),
            (Synthetic { noise: f64::NAN, ..plain() }, "noise is NaN"),
            (Synthetic { noise: -1.0, ..plain() }, "noise is -1"),
            (Synthetic { rank: 10, ..plain() }, "10 directions cannot be orthogonal in 9 dimensions"),
        ] {
            let message = wrong.draw().err().unwrap().to_string();
            assert!(message.contains(named), "{message}");
        }
        assert!(Synthetic { rank: 10, orthogonal: false, ..plain() }.draw().is_ok());
    }
}

use super::components::rms;
use crate::ModelError;
use bae_kernels::{Isa, product};
use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Directions along which rows take two values only: the bits that a sum of switched directions was made of.
///
/// Where bits switch linearly independent directions and all their patterns occur, whatever depends on what, each bit is an affine
/// function of the row, and every other affine function takes more than two values. So what is looked for is w such that w · x
/// lies in two tight heaps. One feature says in which, and nothing else needs to be said about that direction; principal
/// directions smear the same bit over many marks.
///
/// A search in the whitened principal space alternates: split the projections into two heaps (2-means on a line, exactly), then
/// turn w to where the heaps are furthest apart, E[z h]. No turn brings the heaps together, as in discriminant analysis with k-means
/// (Ding & Li 2007). For fair bits its fixed points are those of independent component analysis with the contrast E|w · z|.
pub(super) struct TwoValued {
    /// Encoders, in columns: along each, the heaps' medians are 1 apart. `[d_in, bits]`.
    pub encode: Array2<f32>,
    /// What [`TwoValued::encode`] gives halfway between the heaps. `[bits]`.
    pub middle: Array1<f32>,
    /// What each bit adds to the row: the least-squares fit of all together. `[bits, d_in]`.
    pub decode: Array2<f32>,
    /// Share of the rows in which each is on, at most half. `[bits]`.
    pub rates: Vec<f64>,
}

/// Rows looked at, at most: one half to search in, the other to check what was found.
const ROWS: usize = 8192;
/// Dimensions of the space that is searched, at most.
const DIMENSIONS: usize = 256;
/// Rows searched for each of them, at least: fewer fall into two heaps along some direction by chance.
const LEAST_ROWS: usize = 4;
/// Searches begun at once, of each kind.
const STARTS: usize = 64;
/// Rounds of searches, at most ...
const ROUNDS: usize = 8;
/// ... of which so many in a row may find nothing new. The first one may not.
const PATIENCE: usize = 2;
/// Turns of a search, at most.
const TURNS: usize = 30;
/// A search has arrived when a turn changes the squared cosine by less than this.
const ARRIVED: f64 = 1e-7;
/// A row is astray if it is further from its heap than this share of the distance of the heaps ...
const ASTRAY: f64 = 1.0 / 3.0;
/// ... and no more than this share of the rows may be.
const MOST_ASTRAY: f64 = 0.005;
/// Which heap a row is in explains at least this share of the variance along the direction. Nothing else says the rest.
const LEAST_EXPLAINED: f64 = 0.8;
/// The smaller heap holds at least this share of the rows, and two of them.
const LEAST_SHARE: f64 = 0.002;
/// A direction is new if this share of its square is outside of the span of those found ...
const NEW: f64 = 0.02;
/// ... and its bits agree with those of none of them to this φ.
const SAME: f64 = 0.98;

/// A direction found.
struct Found {
    /// In the whitened space, of length 1.
    direction: Vec<f32>,
    /// Root mean square distance of the rows from their heaps, in distances of the heaps, on the rows that were not searched.
    spread: f64,
    /// The bits of those rows.
    bits: Vec<bool>,
}

impl TwoValued {
    /// Looks for them in `rows [n, d_in]`, an ordinary one of root mean square `typical`, in the space of the leading `directions [d_in, count]`,
    /// strongest first. The best ones come first; there may be none. Runs on the current rayon pool; the same on any number of threads.
    ///
    /// # Errors
    /// [`ModelError::Cancelled`] soon after `cancel` is raised.
    pub fn find(
        rows: ArrayView2<f32>,
        directions: &Array2<f32>,
        typical: f32,
        random: &mut ChaCha8Rng,
        cancel: &AtomicBool,
    ) -> Result<Self, ModelError> {
        // a bit that is on in the least share of the rows makes them so much longer, if there is nothing else
        let limit = typical / (LEAST_SHARE as f32).sqrt();
        let ordinary: Vec<usize> =
            (0..rows.nrows()).filter(|&row| rms(rows.row(row)) <= limit).take(ROWS).collect();
        let rows = rows.select(Axis(0), &ordinary);
        let none = Self {
            encode: Array2::zeros((rows.ncols(), 0)),
            middle: Array1::zeros(0),
            decode: Array2::zeros((0, rows.ncols())),
            rates: vec![],
        };
        let Some((map, white)) = whitened(rows.view(), directions) else { return Ok(none) };
        let found = search(&white, random, cancel)?;
        if found.is_empty() {
            return Ok(none);
        }
        let w = Array2::from_shape_fn((white.ncols(), found.len()), |(k, j)| found[j].direction[k]);
        let w = regressed(&white, &w);
        Ok(Self::fitted(rows.view(), &multiplied(map.view(), w.view())))
    }

    /// Number of bits.
    pub fn count(&self) -> usize {
        self.rates.len()
    }

    /// Only those that `keep` says, by their place.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        let kept: Vec<usize> = (0..self.count()).filter(|&bit| keep(bit)).collect();
        self.encode = self.encode.select(Axis(1), &kept);
        self.middle = self.middle.select(Axis(0), &kept);
        self.decode = self.decode.select(Axis(0), &kept);
        self.rates = kept.iter().map(|&bit| self.rates[bit]).collect();
    }

    /// What is left of the rows once the bits, read as numbers, are taken off: linear in the row.
    pub fn rest(&self, rows: ArrayView2<f32>) -> Array2<f32> {
        let read = multiplied(rows, self.encode.view());
        let minus = read.mapv(|y| -y);
        let mut rest = rows.to_owned();
        product::add_product(Isa::best(), minus.view(), self.decode.view(), rest.view_mut());
        rest
    }

    /// The encoder on rows that reads `direction` from [`TwoValued::rest`].
    pub fn of_rest(&self, direction: ArrayView1<f32>) -> Array1<f32> {
        let along: Array1<f32> = self.decode.dot(&direction);
        &direction - &self.encode.dot(&along)
    }

    /// Encoders in the units of their heaps, and the decoders that fit.
    fn fitted(rows: ArrayView2<f32>, encoders: &Array2<f32>) -> Self {
        let (n, d_in) = rows.dim();
        let count = encoders.ncols();
        let mut along = multiplied(encoders.t(), rows.t());
        let mut encode = encoders.clone();
        let mut middle = Array1::zeros(count);
        let mut bits = Array2::<f32>::zeros((count, n));
        let mut rates = vec![0.0; count];
        for bit in 0..count {
            let mut line = along.row_mut(bit);
            let threshold = split(line.as_slice().expect("row-major")).threshold;
            let on = line.iter().filter(|&&y| f64::from(y) > threshold).count();
            let side = if 2 * on > n { -1.0 } else { 1.0 };
            line.mapv_inplace(|y| y * side as f32);
            let threshold = threshold * side;
            let [low, high] = medians(line.as_slice().expect("row-major"), threshold);
            let scale = side / (high - low);
            encode.column_mut(bit).mapv_inplace(|w| (f64::from(w) * scale) as f32);
            middle[bit] = (0.5 * (low + high) / (high - low)) as f32;
            let middle = 0.5 * (low + high);
            bits.row_mut(bit)
                .zip_mut_with(&line, |bit, &y| *bit = f32::from(u8::from(f64::from(y) > middle)));
            rates[bit] = f64::from(bits.row(bit).sum()) / n as f64;
        }
        // normal equations of rows on centred bits
        let centred = Array2::from_shape_fn((count, n), |(bit, row)| bits[[bit, row]] - rates[bit] as f32);
        let gram = multiplied(centred.view(), centred.t());
        let cross = multiplied(centred.view(), rows);
        let ridge = 1e-6 * n as f64;
        let gram = DMatrix::from_fn(count, count, |i, j| {
            f64::from(gram[[i, j]]) + if i == j { ridge * rates[i] } else { 0.0 }
        });
        let cross = DMatrix::from_fn(count, d_in, |i, j| f64::from(cross[[i, j]]));
        let solved = gram.lu().solve(&cross).unwrap_or_else(|| DMatrix::zeros(count, d_in));
        let decode = Array2::from_shape_fn((count, d_in), |(bit, j)| solved[(bit, j)] as f32);
        Self { encode, middle, decode, rates }
    }
}

/// The map `[d_in, k]` from rows into a space where those of the first half have mean 0 and covariance 1, and all rows there.
/// That half is searched: without noise, a bit is then a fixed point of the search exactly, however few rows there are.
///
/// k is the number of principal directions that stand out of noise: singular values above the optimal hard threshold for
/// noise of unknown size, ω(β) times their median (Gavish & Donoho 2014, equations 4 and 5). `None` if there is nothing.
fn whitened(rows: ArrayView2<f32>, directions: &Array2<f32>) -> Option<(Array2<f32>, Array2<f32>)> {
    let (n, d_in) = rows.dim();
    let half = n / 2;
    let mean = rows.slice(s![..half, ..]).mean_axis(Axis(0))?;
    let centred = &rows - &mean;
    let along = multiplied(centred.view(), directions.view());
    let lengths: Vec<f64> = along
        .columns()
        .into_iter()
        .map(|column| (column.iter().map(|&y| f64::from(y) * f64::from(y)).sum::<f64>() / n as f64).sqrt())
        .collect();
    let beta = (d_in as f64 / n as f64).min(1.0);
    let omega = ((0.56 * beta - 0.95) * beta + 1.82) * beta + 1.43;
    let mut ranked = lengths.clone();
    ranked.sort_unstable_by(|a, b| b.total_cmp(a));
    let median = *ranked.get(d_in / 2).or(ranked.last())?;
    // f32 leaves a rest of its own where there is no noise
    let least = (omega * median).max(1e-3 * ranked[0]);
    let strong: Vec<usize> = (0..lengths.len())
        .filter(|&at| lengths[at] > least)
        .take(DIMENSIONS.min(half / LEAST_ROWS))
        .collect();
    if strong.is_empty() {
        return None;
    }
    let along = along.select(Axis(1), &strong);
    let searched = along.slice(s![..half, ..]);
    let second = multiplied(searched.t(), searched);
    let k = strong.len();
    let covariance = DMatrix::from_fn(k, k, |i, j| f64::from(second[[i, j]]) / half as f64);
    // an iteration on what is not finite has no end
    if !covariance.iter().all(|value| value.is_finite()) {
        return None;
    }
    let SymmetricEigen { eigenvalues, eigenvectors } = covariance.symmetric_eigen();
    let kept: Vec<usize> = (0..k).filter(|&j| eigenvalues[j] > least * least).collect();
    if kept.is_empty() {
        return None;
    }
    let turn = Array2::from_shape_fn((k, kept.len()), |(i, j)| {
        (eigenvectors[(i, kept[j])] / eigenvalues[kept[j]].sqrt()) as f32
    });
    let map = multiplied(directions.select(Axis(1), &strong).view(), turn.view());
    Some((map, multiplied(along.view(), turn.view())))
}

/// Linearly independent directions with two tight heaps, tightest first.
fn search(
    white: &Array2<f32>,
    random: &mut ChaCha8Rng,
    cancel: &AtomicBool,
) -> Result<Vec<Found>, ModelError> {
    let half = white.nrows() / 2;
    let (searched, checked) = (white.slice(s![..half, ..]), white.slice(s![half.., ..]));
    let mut found: Vec<Found> = vec![];
    let mut idle = 0;
    for _ in 0..ROUNDS {
        let span = orthonormal(&found, white.ncols());
        let before = found.len();
        for kind in [Start::Anywhere, Start::Outside, Start::Pointed] {
            if cancel.load(Ordering::Relaxed) {
                return Err(ModelError::Cancelled);
            }
            let begun = begin(kind, searched, &span, random);
            found.extend(arrive(searched, checked, begun, kind.border()));
        }
        found = independent(found);
        idle = if found.len() > before { 0 } else { idle + 1 };
        if found.is_empty() || found.len() == white.ncols() || idle == PATIENCE {
            break;
        }
    }
    Ok(found)
}

/// Where searches begin: optima of many kinds are in the way, and no one kind of start misses them all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// At random.
    Anywhere,
    /// At random, but outside of the span of what was found.
    Outside,
    /// Outside, and led from there to where the kurtosis is furthest from a Gaussian's (FastICA, Hyvärinen 1999, equation 8).
    Pointed,
}

impl Start {
    /// Width of the border between the heaps at first, in standard deviations of the projections; those of a fair bit are 2 apart.
    /// Without noise, few patterns of dependent bits make many sharp optima, which a soft border passes over.
    fn border(self) -> f64 {
        if self == Self::Anywhere { 1.0 } else { 2.0 }
    }
}

/// Directions `[k, STARTS]`, of length 1.
fn begin(kind: Start, rows: ArrayView2<f32>, span: &Array2<f32>, random: &mut ChaCha8Rng) -> Array2<f32> {
    let k = rows.ncols();
    let mut w = Array2::from_shape_simple_fn((k, STARTS), || StandardNormal.sample(random));
    if kind == Start::Anywhere {
        normalise(&mut w);
        return w;
    }
    leave(&mut w, span);
    normalise(&mut w);
    if kind == Start::Pointed {
        for _ in 0..TURNS {
            let cubes = multiplied(w.t(), rows.t()).mapv(|y| y * y * y / rows.nrows() as f32);
            let mut next = multiplied(rows.t(), cubes.t());
            next.zip_mut_with(&w, |next, &w| *next -= 3.0 * w);
            leave(&mut next, span);
            if advance(&mut w, next) {
                break;
            }
        }
    }
    w
}

/// Turns each direction until its heaps are furthest apart, and keeps those whose heaps are tight on rows that had no say in it.
fn arrive(
    searched: ArrayView2<f32>,
    checked: ArrayView2<f32>,
    mut w: Array2<f32>,
    border: f64,
) -> Vec<Found> {
    let mut thresholds = vec![];
    for border in [border, 0.0] {
        for _ in 0..TURNS {
            let (next, splits) = turned(searched, &w, border);
            thresholds = splits;
            if advance(&mut w, next) {
                break;
            }
        }
    }
    let along = multiplied(w.t(), checked.t());
    let of = |at: usize| {
        let line = along.row(at);
        tight(line.as_slice().expect("row-major"), thresholds[at]).map(|(spread, bits)| Found {
            direction: w.column(at).to_vec(),
            spread,
            bits,
        })
    };
    (0..STARTS).into_par_iter().filter_map(of).collect()
}

/// Where the heaps of each direction are furthest apart, and the thresholds between them. Within a border around its threshold a
/// row counts for both heaps, in shares that go over linearly; 0 is a sharp one.
fn turned(rows: ArrayView2<f32>, w: &Array2<f32>, border: f64) -> (Array2<f32>, Vec<f64>) {
    let mut along = multiplied(w.t(), rows.t());
    let thresholds = along
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .map(|mut line| {
            let line = line.as_slice_mut().expect("row-major");
            let Split { threshold, share } = split(line);
            let upper = |y: f64| {
                if border > 0.0 {
                    (0.5 + (y - threshold) / border).clamp(0.0, 1.0)
                } else {
                    f64::from(u8::from(y > threshold))
                }
            };
            line.iter_mut().for_each(|y| *y = (upper(f64::from(*y)) - share) as f32);
            threshold
        })
        .collect();
    (multiplied(rows.t(), along.t()), thresholds)
}

/// [`turned`] on all rows, whose mean and covariance are not quite 0 and 1: the least-squares fit of each direction's bits.
fn regressed(white: &Array2<f32>, w: &Array2<f32>) -> Array2<f32> {
    let Some(mean) = white.mean_axis(Axis(0)) else { return w.clone() };
    let white = white - &mean;
    let (cross, _) = turned(white.view(), w, 0.0);
    let gram = multiplied(white.t(), white.view());
    let k = white.ncols();
    let cross = DMatrix::from_fn(k, w.ncols(), |i, j| f64::from(cross[[i, j]]));
    match DMatrix::from_fn(k, k, |i, j| f64::from(gram[[i, j]])).lu().solve(&cross) {
        Some(solved) => Array2::from_shape_fn(w.dim(), |(i, j)| solved[(i, j)] as f32),
        None => w.clone(),
    }
}

/// The tightest directions, each outside of the span of those before it.
fn independent(mut all: Vec<Found>) -> Vec<Found> {
    all.sort_by(|a, b| a.spread.total_cmp(&b.spread));
    let mut kept: Vec<Found> = vec![];
    let mut span: Vec<Vec<f64>> = vec![];
    for found in all {
        let mut left: Vec<f64> = found.direction.iter().map(|&w| f64::from(w)).collect();
        for axis in &span {
            let along: f64 = left.iter().zip(axis).map(|(a, b)| a * b).sum();
            left.iter_mut().zip(axis).for_each(|(left, axis)| *left -= along * axis);
        }
        let size: f64 = left.iter().map(|w| w * w).sum();
        if size > NEW && kept.iter().all(|other| correlation(&other.bits, &found.bits).abs() < SAME) {
            span.push(left.iter().map(|w| w / size.sqrt()).collect());
            kept.push(found);
        }
    }
    kept
}

/// An orthonormal basis of what was found, in columns `[k, found]`.
fn orthonormal(found: &[Found], k: usize) -> Array2<f32> {
    if found.is_empty() {
        return Array2::zeros((k, 0));
    }
    let q = DMatrix::from_fn(k, found.len(), |i, j| f64::from(found[j].direction[i])).qr().q();
    Array2::from_shape_fn((k, found.len()), |(i, j)| q[(i, j)] as f32)
}

/// Takes off what lies in the span of orthonormal columns.
fn leave(w: &mut Array2<f32>, span: &Array2<f32>) {
    if span.ncols() > 0 {
        let along = multiplied(span.t(), w.view()).mapv(|y| -y);
        product::add_product(Isa::best(), span.view(), along.view(), w.view_mut());
    }
}

fn normalise(w: &mut Array2<f32>) {
    for mut column in w.columns_mut() {
        let length = column.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt();
        if length > 0.0 {
            column.mapv_inplace(|w| (f64::from(w) / length) as f32);
        }
    }
}

/// Puts `next`, normalised, in the place of `w`, and says whether none of them moved.
fn advance(w: &mut Array2<f32>, mut next: Array2<f32>) -> bool {
    normalise(&mut next);
    let moved = w.columns().into_iter().zip(next.columns()).any(|(w, next)| {
        let cosine: f64 = w.iter().zip(next).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        cosine * cosine < 1.0 - ARRIVED
    });
    *w = next;
    !moved
}

/// The best split of numbers into two heaps.
struct Split {
    /// Halfway between the heaps' nearest values.
    threshold: f64,
    /// Share of the values above it.
    share: f64,
}

/// 2-means on a line, exactly: of all splits that leave no heap too small, that with the largest variance between the heaps.
fn split(values: &[f32]) -> Split {
    let n = values.len();
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let total: f64 = sorted.iter().map(|&y| f64::from(y)).sum();
    let least = least_rows(n);
    let (mut below, mut best, mut at) = (0.0, f64::NEG_INFINITY, n / 2);
    for (count, &y) in sorted.iter().enumerate() {
        if count >= least && n - count >= least {
            let [low, high] = [count as f64, (n - count) as f64];
            let apart = below / low - (total - below) / high;
            let between = apart * apart * low * high;
            if between > best {
                (best, at) = (between, count);
            }
        }
        below += f64::from(y);
    }
    let [before, after] = [at.saturating_sub(1), at].map(|at| f64::from(sorted[at]));
    Split { threshold: 0.5 * (before + after), share: (n - at) as f64 / n as f64 }
}

fn least_rows(n: usize) -> usize {
    ((LEAST_SHARE * n as f64).ceil() as usize).max(2)
}

/// Medians of the values up to the threshold and of those above it; both heaps hold a value.
fn medians(values: &[f32], threshold: f64) -> [f64; 2] {
    let of = |above: bool| {
        let mut heap: Vec<f32> =
            values.iter().copied().filter(|&y| (f64::from(y) > threshold) == above).collect();
        if heap.is_empty() {
            return threshold;
        }
        let middle = (heap.len() - 1) / 2;
        f64::from(*heap.select_nth_unstable_by(middle, f32::total_cmp).1)
    };
    [of(false), of(true)]
}

/// How tight the two heaps are, and who is in the upper one; `None` if they are not.
fn tight(values: &[f32], threshold: f64) -> Option<(f64, Vec<bool>)> {
    let n = values.len();
    let bits: Vec<bool> = values.iter().map(|&y| f64::from(y) > threshold).collect();
    let on = bits.iter().filter(|on| **on).count();
    if on.min(n - on) < least_rows(n) {
        return None;
    }
    let [low, high] = medians(values, threshold);
    let apart = high - low;
    if apart <= 0.0 || apart.is_nan() {
        return None;
    }
    let (mut astray, mut squares) = (0, 0.0);
    for (&y, &on) in values.iter().zip(&bits) {
        let off = (f64::from(y) - if on { high } else { low }) / apart;
        astray += usize::from(off.abs() > ASTRAY);
        squares += off * off;
    }
    let rate = on as f64 / n as f64;
    let between = rate * (1.0 - rate);
    let within = squares / n as f64;
    let explained = between / (between + within);
    let is_tight = astray as f64 <= MOST_ASTRAY * n as f64 && explained >= LEAST_EXPLAINED;
    is_tight.then(|| (within.sqrt(), bits))
}

/// φ of two columns of bits.
fn correlation(a: &[bool], b: &[bool]) -> f64 {
    let n = a.len() as f64;
    let count = |of: &dyn Fn((&bool, &bool)) -> bool| a.iter().zip(b).filter(|&pair| of(pair)).count() as f64;
    let (ones_a, ones_b, both) = (count(&|(a, _)| *a), count(&|(_, b)| *b), count(&|(a, b)| *a && *b));
    let size = (ones_a * (n - ones_a) * ones_b * (n - ones_b)).sqrt();
    if size > 0.0 { (n * both - ones_a * ones_b) / size } else { 0.0 }
}

fn multiplied(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Array2<f32> {
    let mut out = Array2::zeros((a.nrows(), b.ncols()));
    product::add_product(Isa::best(), a, b, out.view_mut());
    out
}

#[cfg(test)]
mod tests {
    use super::super::components::principal_directions;
    use super::*;
    use rand::{RngExt, SeedableRng};

    /// Bits, each with its chance, switching random directions of length 1, centred, with noise.
    fn switched(
        n: usize,
        d_in: usize,
        chances: &[f64],
        noise: f32,
        seed: u64,
    ) -> (Array2<f32>, Array2<bool>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = move || -> f32 { StandardNormal.sample(&mut random) };
        let mut directions = Array2::from_shape_simple_fn((d_in, chances.len()), &mut normal);
        normalise(&mut directions);
        let mut coins = ChaCha8Rng::seed_from_u64(seed + 1);
        let bits = Array2::from_shape_fn((n, chances.len()), |(_, j)| coins.random::<f64>() < chances[j]);
        let mut rows = bits.mapv(|on| f32::from(u8::from(on))).dot(&directions.t());
        rows.mapv_inplace(|x| x + noise * normal());
        let mean = rows.mean_axis(Axis(0)).unwrap();
        (rows - mean, bits)
    }

    fn find(rows: &Array2<f32>) -> TwoValued {
        let typical = (rows.mapv(|x| x * x).mean().unwrap_or(0.0)).sqrt().max(1e-6);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let going = AtomicBool::new(false);
        let directions =
            principal_directions(rows.view(), rows.ncols(), 3.0 * typical, &mut random, &going).unwrap();
        TwoValued::find(rows.view(), &directions, typical, &mut random, &going).unwrap()
    }

    /// For each bit that was found, the one that it is in all rows but a share of `most`, and whether all are different.
    fn named(found: &TwoValued, rows: &Array2<f32>, bits: &Array2<bool>, most: f64) -> Vec<usize> {
        let read = rows.dot(&found.encode);
        let mut names: Vec<usize> = (0..found.count())
            .map(|bit| {
                let wrong = |name: usize| {
                    let differ = (0..rows.nrows())
                        .filter(|&k| (read[[k, bit]] > found.middle[bit]) != bits[[k, name]])
                        .count();
                    differ.min(rows.nrows() - differ)
                };
                let name = (0..bits.ncols()).min_by_key(|&name| wrong(name)).unwrap();
                assert!(wrong(name) as f64 <= most * rows.nrows() as f64, "{} rows differ", wrong(name));
                name
            })
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn finds_every_bit_of_any_rate_at_any_angle() {
        for (n, d_in, chances, noise) in [
            (2000, 20, vec![0.5; 6], 0.0),
            (1000, 40, vec![0.5; 12], 0.02),
            (4000, 24, vec![0.5, 0.05, 0.2, 0.9, 0.05, 0.5], 0.02),
            (3000, 3, vec![0.3], 0.0),
            (5000, 60, vec![0.05; 16], 0.0),
            (400, 10, vec![0.5, 0.5], 0.05),
        ] {
            let (rows, bits) = switched(n, d_in, &chances, noise, 3);
            let found = find(&rows);
            let names = named(&found, &rows, &bits, 0.0);
            assert_eq!(names, (0..chances.len()).collect::<Vec<_>>(), "{n} {d_in} {chances:?} {noise}");
            assert!(found.rates.iter().all(|&rate| 0.0 < rate && rate <= 0.5));
            // the bits say all but the noise
            let rest = found.rest(rows.view());
            let left = rest.mapv(|x| x * x).sum() / rows.mapv(|x| x * x).sum();
            assert!(left <= 1e-6 || noise > 0.0 && left < 0.1, "{left}");
        }
    }

    #[test]
    fn a_chain_of_bits_is_no_hindrance() {
        let (_, mut bits) = switched(4000, 10, &[0.5; 10], 0.0, 8);
        let flips = switched(4000, 10, &[0.1; 10], 0.0, 9).1;
        for (k, j) in (0..4000).flat_map(|k| (1..10).map(move |j| (k, j))) {
            bits[[k, j]] = bits[[k, j - 1]] ^ flips[[k, j]];
        }
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut directions = Array2::from_shape_simple_fn((32, 10), || StandardNormal.sample(&mut random));
        normalise(&mut directions);
        let rows = bits.mapv(|on| f32::from(u8::from(on))).dot(&directions.t());
        let rows = &rows - &rows.mean_axis(Axis(0)).unwrap();
        let names = named(&find(&rows), &rows, &bits, 0.0);
        assert_eq!(names, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_no_sum_of_bits_has_none() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for n in [0, 1, 2, 15, 16, 40, 700, 3000] {
            let gaussian = Array2::from_shape_fn((n, 30), |(_, j)| {
                let normal: f32 = StandardNormal.sample(&mut random);
                normal / (1.0 + j as f32)
            });
            let uniform = Array2::from_shape_simple_fn((n, 30), || random.random::<f32>() - 0.5);
            for rows in [gaussian.clone(), gaussian.mapv(|x| x * x * x), uniform, Array2::zeros((n, 30))] {
                assert_eq!(find(&rows).count(), 0, "{n}");
            }
        }
    }

    #[test]
    fn a_split_is_the_best_of_all() {
        let values = [3.0f32, -1.0, 0.5, 9.0, 8.5, -1.5, 0.0, 10.0];
        let Split { threshold, share } = split(&values);
        assert_eq!((threshold, share), (5.75, 0.375));
        // no heap of one
        assert_eq!(split(&[0.0, 0.0, 0.0, 0.1, 50.0]).share, 0.4);
    }

    #[test]
    fn bits_and_rest_are_read_from_the_row_itself() {
        let (rows, _) = switched(1500, 12, &[0.5, 0.2, 0.4], 0.05, 4);
        let found = find(&rows);
        assert_eq!(found.count(), 3);
        let direction = Array1::from_shape_fn(12, |j| (j as f32 - 4.0) / 7.0);
        let apart = found.rest(rows.view()).dot(&direction) - rows.dot(&found.of_rest(direction.view()));
        assert!(apart.iter().all(|e| e.abs() < 1e-4));
    }

    #[test]
    fn ends_when_it_is_told_to() {
        let (rows, _) = switched(200, 5, &[0.5, 0.5], 0.0, 4);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let directions =
            principal_directions(rows.view(), 5, 1e9, &mut random, &AtomicBool::new(false)).unwrap();
        let cancelled = TwoValued::find(rows.view(), &directions, 1.0, &mut random, &AtomicBool::new(true));
        assert!(matches!(cancelled, Err(ModelError::Cancelled)));
    }
}

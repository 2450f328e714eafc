use super::components::{principal_directions, rms};
use super::two_valued::TwoValued;
use crate::architectures::Kind;
use crate::{Architecture, Backend, Cpu, Estimator, ModelError, Parameters, Sae};
use bae_kernels::{Isa, product};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;

/// The step of a uniform quantiser at which one more bit is worth `entropy_weight`, in the units of the data.
///
/// Errors of a quantiser with step Δ are Δ²/12 a component, and a bit lowers them by 2 ln 2 of that (Gish & Pierce
/// 1968). One bit pays if this, over `d_in` dimensions, is `entropy_weight`: Δ² = 12 · entropy_weight · d_in / (2 ln 2).
pub fn quantiser_step(entropy_weight: f64, d_in: usize) -> f64 {
    (12.0 * entropy_weight * d_in as f64 / (2.0 * std::f64::consts::LN_2)).sqrt()
}

/// Parameters that encode hidden states as an entropy-coded scalar quantiser would: what training starts from.
///
/// First come the bits of [`TwoValued`], one feature each, that are worth what they cost; what they leave is measured with rulers.
/// Along each principal direction of that and to either side of its zero, features stand at equal steps, like the marks of a
/// ruler; the nth is on where the nth mark is passed. Strong directions get many, weak ones none, as reverse
/// water-filling (Cover & Thomas, section 10.3.3) asks. No feature is on in more than about half of the rows.
///
/// A feature whose code has levels stands for as many neighbouring marks; one whose code has a sign, for the same mark on either side.
pub struct Quantiser<'a> {
    /// A sample of the training rows, in the training space, `[n, d_in]`.
    pub rows: ArrayView2<'a, f32>,
    /// Root mean square of an ordinary row, over dimensions; rows of more than three times that are outliers.
    pub typical: f32,
    /// What a bit must be worth: [`crate::Objective::entropy_weight`].
    pub entropy_weight: f64,
    /// Features there may be.
    pub d_sae: usize,
    /// What is to start: of bits unless [`Kind::levels`] says otherwise.
    pub kind: Option<Kind>,
}

/// Outliers are longer than this many ordinary rows.
const OUTLIER: f32 = 3.0;
/// The first mark stands at this many steps, the others one step apart: a dead zone saves bits.
const FIRST_MARK: f64 = 0.65;
/// Neither a feature nor the cell between two of them holds less than this share of the rows.
const LEAST_SHARE: f64 = 0.002;
/// No mark stands inside a stretch of this many steps without any row.
const GAP: f64 = 4.0;
/// Directions looked at, at most.
const DIRECTIONS: usize = 512;

/// A mark, and the middle of what passes it and not the next.
struct Mark {
    mark: f64,
    level: f64,
}

/// A feature of a ray: z = gain · (projection to its side) + bias, and each step of the code adds `jump` along the direction.
struct OfRay {
    direction: usize,
    side: f32,
    gain: f64,
    bias: f64,
    jump: f64,
}

/// Projections of all rows on one side of one direction, ascending; their sizes where codes have a sign.
struct Ray {
    direction: usize,
    side: f32,
    values: Vec<f32>,
}

impl Quantiser<'_> {
    /// The parameters, and the quantiser's step in the units of the rows. Pre-activations are in steps.
    ///
    /// Features beyond those that the data asks for are never on. Runs on the current rayon pool.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`] if the rows cannot be multiplied in f32; [`ModelError::Cancelled`] soon after `cancel` is
    /// raised.
    pub fn draw(&self, rng: &mut ChaCha8Rng, cancel: &AtomicBool) -> Result<(Parameters, f64), ModelError> {
        let limit = OUTLIER * self.typical;
        let count = self.rows.ncols().min(DIRECTIONS);
        let mut directions = principal_directions(self.rows, count, limit, rng, cancel)?;
        let mut bits = TwoValued::find(self.rows, &directions, self.typical, rng, cancel)?;
        let worth: Vec<bool> =
            (0..bits.count()).map(|bit| bit < self.d_sae && self.pays(&bits, bit)).collect();
        bits.retain(|bit| worth[bit]);
        let mut rest = None;
        if bits.count() > 0 {
            let rows = rest.insert(bits.rest(self.rows));
            directions = principal_directions(rows.view(), count, limit, rng, cancel)?;
        }
        let levels = self.kind.and_then(|kind| kind.levels());
        let signed = levels.as_ref().is_some_and(|levels| *levels.start() < 0);
        let rays = rays(rest.as_ref().map_or(self.rows, |rest| rest.view()), &directions, signed)?;
        let room = self.d_sae - bits.count();
        let step = self.affordable_step(&rays, room, levels.as_ref());
        let mut of_rays: Vec<OfRay> =
            rays.iter().flat_map(|ray| ray.features(step, levels.as_ref())).collect();
        of_rays.truncate(room);
        let mut parameters = Parameters::zeros(self.rows.ncols(), self.d_sae, self.rows.ncols());
        parameters.b_enc.fill(match &levels {
            None => -1.0,
            Some(_) if signed => 0.0,
            Some(_) => -0.5,
        });
        for bit in 0..bits.count() {
            let (encode, decode) = (bits.encode.column(bit), bits.decode.row(bit));
            // as many levels as a bit has are enough: the heaps are 1 apart
            let (scale, first) = if levels.is_some() { (1.0, 0.5) } else { (length(decode) / step, 0.0) };
            parameters.w_enc.column_mut(bit).assign(&encode.mapv(|w| (f64::from(w) * scale) as f32));
            parameters.w_dec.row_mut(bit).assign(&decode);
            parameters.b_enc[bit] = (first - f64::from(bits.middle[bit]) * scale) as f32;
        }
        for (of_ray, feature) in of_rays.iter().zip(bits.count()..) {
            let direction = directions.column(of_ray.direction);
            let side = f64::from(of_ray.side);
            let (encode, decode) = (side * of_ray.gain, side * of_ray.jump);
            let encoder = if bits.count() > 0 { bits.of_rest(direction) } else { direction.to_owned() };
            parameters.w_enc.column_mut(feature).assign(&encoder.mapv(|u| (f64::from(u) * encode) as f32));
            parameters.w_dec.row_mut(feature).assign(&direction.mapv(|u| (f64::from(u) * decode) as f32));
            parameters.b_enc[feature] = of_ray.bias as f32;
        }
        parameters.b_dec = self.mean_error(&parameters, limit);
        Ok((parameters, step))
    }

    /// Whether a bit lowers the error by more than it costs.
    fn pays(&self, bits: &TwoValued, bit: usize) -> bool {
        let rate = bits.rates[bit];
        let length = length(bits.decode.row(bit));
        let entropy = -rate * libm::log2(rate) - (1.0 - rate) * libm::log2(1.0 - rate);
        rate * (1.0 - rate) * length * length / self.rows.ncols() as f64 > self.entropy_weight * entropy
    }

    /// The step that the entropy weight asks for, or the smallest larger one that needs no more than `room` features.
    fn affordable_step(&self, rays: &[Ray], room: usize, levels: Option<&RangeInclusive<i32>>) -> f64 {
        // no longer than an ordinary row can be along any direction
        let longest = f64::from(OUTLIER * self.typical) * (self.rows.ncols() as f64).sqrt();
        // so that a weight of 0 asks for no endless ruler
        let finest = longest / 4096.0;
        let fits =
            |step: f64| rays.par_iter().map(|ray| ray.features(step, levels).len()).sum::<usize>() <= room;
        let wanted = quantiser_step(self.entropy_weight, self.rows.ncols()).max(finest);
        if room == 0 || fits(wanted) {
            return wanted;
        }
        // at the coarsest, each side of each direction has one mark at most
        let (mut low, mut high) = (wanted, 4.0 * wanted.max(longest));
        for _ in 0..30 {
            let middle = (low * high).sqrt();
            if fits(middle) { high = middle } else { low = middle }
        }
        high
    }

    /// Mean over the rows that are no outliers of what the features leave.
    fn mean_error(&self, parameters: &Parameters, limit: f32) -> Array1<f32> {
        let reconstruct = |rows: ArrayView2<f32>| match self.kind.filter(|kind| kind.levels().is_some()) {
            Some(kind) => {
                let (model, architecture) = (Sae::new(parameters, 1), Architecture::of(kind));
                model.decode_values(&architecture, &model.values(&architecture, rows)?)
            }
            None => {
                let (model, architecture) =
                    (Cpu::new(parameters, 1), Architecture::binary(Estimator::Identity));
                model.decode(&architecture, &model.encode(&architecture, rows)?)
            }
        };
        let mut sums = Array1::<f64>::zeros(self.rows.ncols());
        let mut count = 0;
        for rows in self.rows.axis_chunks_iter(Axis(0), 2048) {
            let decoded = reconstruct(rows).expect("finite rows of this width");
            for (row, decoded) in rows.axis_iter(Axis(0)).zip(decoded.axis_iter(Axis(0))) {
                if rms(row) <= limit {
                    count += 1;
                    ndarray::Zip::from(&mut sums).and(&row).and(&decoded).for_each(|sum, &x, &y| {
                        *sum += f64::from(x) - f64::from(y);
                    });
                }
            }
        }
        sums.mapv(|sum| (sum / f64::from(count.max(1))) as f32)
    }
}

fn rays(rows: ArrayView2<f32>, directions: &Array2<f32>, signed: bool) -> Result<Vec<Ray>, ModelError> {
    let mut projections = Array2::zeros((rows.nrows(), directions.ncols()));
    product::add_product(Isa::best(), rows, directions.view(), projections.view_mut());
    if !projections.iter().all(|z| z.is_finite()) {
        return Err(ModelError::TooLarge);
    }
    let sorted = |direction: usize, side: f32| {
        let of_side = |z: &f32| if signed { z.abs() } else { side * z };
        let mut values: Vec<f32> = projections.column(direction).iter().map(of_side).collect();
        values.sort_unstable_by(f32::total_cmp);
        Ray { direction, side, values }
    };
    let sides: &[f32] = if signed { &[1.0] } else { &[1.0, -1.0] };
    let count = sides.len();
    let all = (0..count * directions.ncols()).into_par_iter();
    Ok(all.map(|at| sorted(at / count, sides[at % count])).collect())
}

/// Euclidean length.
fn length(vector: ArrayView1<f32>) -> f64 {
    vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

impl Ray {
    /// The features of this side for quantiser step `step`, from the zero outwards; `levels` as in [`Kind::levels`].
    fn features(&self, step: f64, levels: Option<&RangeInclusive<i32>>) -> Vec<OfRay> {
        let &Self { direction, side, .. } = self;
        let feature = |gain, bias, jump| OfRay { direction, side, gain, bias, jump };
        let mut level = 0.0;
        let mut marks = self.marks(step).into_iter().peekable();
        let next = || {
            let Mark { mark, level: mut top } = marks.next()?;
            Some(match levels {
                None => feature(1.0 / step, -mark / step, top - std::mem::replace(&mut level, top)),
                Some(levels) if *levels.start() < 0 => {
                    feature(0.5 / mark, 0.0, top - std::mem::replace(&mut level, top))
                }
                Some(levels) => {
                    let most = f64::from(*levels.end());
                    while let Some(next) = marks.next_if(|next| next.mark < mark + (most - 0.5) * step) {
                        top = next.level;
                    }
                    let jump = (top - level) / ((top - mark) / step).ceil().clamp(1.0, most);
                    level += most * jump;
                    feature(1.0 / step, 0.5 - mark / step, jump)
                }
            })
        };
        std::iter::from_fn(next).collect()
    }

    /// The marks of this side for quantiser step `step`, from the zero outwards.
    fn marks(&self, step: f64) -> Vec<Mark> {
        let n = self.values.len();
        // a mark that a single row passes says nothing
        let least = (LEAST_SHARE * n as f64).max(2.0);
        let end = self.values.last().map_or(0.0, |&z| f64::from(z));
        // the marks, each with the number of rows that do not pass it
        let mut passed: Vec<(f64, usize)> = vec![];
        let mut k = 0.0;
        loop {
            let mark = step * (k + FIRST_MARK);
            let below = self.values.partition_point(|&z| f64::from(z) <= mark);
            if mark >= end || ((n - below) as f64) < least {
                break;
            }
            let last = passed.last().map(|&(_, below)| below);
            let gap = self.gap_at(below);
            if let Some((before, after)) = gap
                && after - before > GAP * step
            {
                passed.push((0.5 * (before + after), below));
                k = (after / step - FIRST_MARK).ceil().max(k + 1.0);
            } else {
                if last.is_none_or(|last| (below - last) as f64 >= least) {
                    passed.push((mark, below));
                }
                k += 1.0;
            }
            // beyond 2⁵³ steps a ruler has no marks to tell apart
            if k + 1.0 == k {
                break;
            }
        }
        let next = passed.iter().skip(1).map(|&(_, below)| below).chain([n]);
        // the lower one of two, so that a single far row does not set the level of the last cell
        let of_cell = |(&(mark, below), next): (&(f64, usize), usize)| Mark {
            mark,
            level: f64::from(self.values[(below + next - 1) / 2]),
        };
        passed.iter().zip(next).map(of_cell).collect()
    }

    /// The values before and after the stretch without rows that ends at row `below`.
    fn gap_at(&self, below: usize) -> Option<(f64, f64)> {
        let before = self.values.get(below.checked_sub(1)?)?;
        Some((f64::from(*before), f64::from(*self.values.get(below)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architectures::{KBit, Ternary};
    use rand::SeedableRng;
    use rand_distr::{Distribution, StandardNormal};

    fn gaussian(n: usize, spread: &[f32], seed: u64) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Array2::from_shape_fn((n, spread.len()), |(_, j)| {
            let normal: f32 = StandardNormal.sample(&mut rng);
            spread[j] * normal
        })
    }

    fn draw(rows: &Array2<f32>, entropy_weight: f64, d_sae: usize) -> (Parameters, f64) {
        let quantiser = Quantiser { rows: rows.view(), typical: 1.0, entropy_weight, d_sae, kind: None };
        quantiser.draw(&mut ChaCha8Rng::seed_from_u64(3), &AtomicBool::new(false)).unwrap()
    }

    fn error(parameters: &Parameters, rows: &Array2<f32>) -> f64 {
        let model = Cpu::new(parameters, 1);
        let architecture = Architecture::binary(Estimator::Identity);
        let codes = model.encode(&architecture, rows.view()).unwrap();
        let decoded = model.decode(&architecture, &codes).unwrap();
        (rows - &decoded).mapv(|e| f64::from(e) * f64::from(e)).mean().unwrap()
    }

    #[test]
    fn errors_are_those_of_a_quantiser_with_that_step() {
        let rows = gaussian(4000, &[1.5, 1.2, 1.0, 0.8, 0.6, 0.5], 1);
        let (parameters, step) = draw(&rows, 0.01, 200);
        assert_eq!(step, quantiser_step(0.01, 6));
        let error = error(&parameters, &rows);
        // the dead zone is 1.3 steps wide, all other cells one
        assert!((1.0..2.0).contains(&(error / (step * step / 12.0))), "{error} {step}");
    }

    #[test]
    fn levels_and_signs_stand_for_several_bits() {
        let rows = gaussian(4000, &[2.0, 1.6, 1.2, 0.9, 0.6, 0.4], 6);
        let bits = draw(&rows, 0.01, 200).0;
        let used = |parameters: &Parameters| {
            parameters.w_dec.rows().into_iter().filter(|row| row.iter().any(|&w| w != 0.0)).count()
        };
        let of_kind = |kind, d_sae| {
            let quantiser =
                Quantiser { rows: rows.view(), typical: 1.0, entropy_weight: 0.01, d_sae, kind: Some(kind) };
            let random = &mut ChaCha8Rng::seed_from_u64(3);
            let (parameters, step) = quantiser.draw(random, &AtomicBool::new(false)).unwrap();
            let (model, architecture) = (Sae::new(&parameters, 1), Architecture::of(kind));
            let codes = model.values(&architecture, rows.view()).unwrap();
            let decoded = model.decode_values(&architecture, &codes).unwrap();
            let error = (&rows - &decoded).mapv(|e| f64::from(e) * f64::from(e)).mean().unwrap();
            (used(&parameters), error, step)
        };
        for (kind, fewer) in [
            (Kind::Ternary(Ternary { width: 0.25 }), 1.6),
            (Kind::KBit(KBit { bits: 1, width: 0.25 }), 1.0),
            (Kind::KBit(KBit { bits: 2, width: 0.25 }), 2.0),
            (Kind::KBit(KBit { bits: 4, width: 0.25 }), 4.0),
        ] {
            let (count, got, step) = of_kind(kind, 200);
            assert_eq!(step, quantiser_step(0.01, 6));
            assert!(count as f64 * fewer <= used(&bits) as f64, "{kind:?}: {count} of {}", used(&bits));
            // the steps of a feature are alike, those of bits are each where their rows are
            assert!(got < 1.1 * error(&bits, &rows), "{kind:?}: {got}");
            for room in [1, 3, count - 1] {
                let (count, _, coarser) = of_kind(kind, room);
                assert!(count <= room && coarser > step, "{kind:?}: {count} of {room}");
            }
        }
    }

    #[test]
    fn uses_no_more_features_than_there_are_at_any_weight() {
        let rows = gaussian(600, &[1.5, 1.0, 0.7], 2);
        let mut last = 0.0;
        for d_sae in [40, 12, 5, 1] {
            let (parameters, step) = draw(&rows, 0.0, d_sae);
            let used =
                parameters.w_dec.rows().into_iter().filter(|row| row.iter().any(|&w| w != 0.0)).count();
            assert!((1..=d_sae).contains(&used), "{used} of {d_sae}");
            assert!(step > last, "a finer ruler needs more features");
            last = step;
        }
    }

    #[test]
    fn one_bit_tells_two_far_clusters_apart() {
        let mut rows = gaussian(300, &[1.0, 0.5], 4);
        rows.slice_mut(ndarray::s![..30, 0]).mapv_inplace(|x| x * 0.01 + 500.0);
        let (parameters, _) = draw(&rows, 0.05, 64);
        assert!(error(&parameters, &rows) < 0.5);
    }

    #[test]
    fn a_bit_is_one_feature_and_the_rest_is_measured_as_without_it() {
        let cloud = gaussian(3000, &[1.0, 0.6, 0.4, 0.3], 6);
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut both = Array2::zeros((3000, 6));
        both.slice_mut(ndarray::s![.., ..4]).assign(&cloud);
        for mut row in both.rows_mut() {
            let on: f32 = if rand::RngExt::random::<bool>(&mut random) { 2.0 } else { -2.0 };
            row[4] += on;
            row[5] += 0.5 * on;
        }
        let used = |parameters: &Parameters| {
            parameters.w_dec.rows().into_iter().filter(|row| row.iter().any(|&w| w != 0.0)).count()
        };
        let (alone, _) = draw(&cloud, 0.03 / 4.0, 64);
        let (parameters, _) = draw(&both, 0.03 / 6.0, 64);
        // the search turns the rest a little, so that a mark may fall on the other side of the least share
        assert!(used(&parameters).abs_diff(used(&alone) + 1) <= 2);
        let said = parameters.w_dec.row(0).mapv(f32::abs);
        assert!((said[4] - 4.0).abs() < 0.1 && (said[5] - 2.0).abs() < 0.1, "{said}");
        let (got, want) = (6.0 * error(&parameters, &both), 4.0 * error(&alone, &cloud));
        assert!((got / want - 1.0).abs() < 0.05, "{got} {want}");
        // what does not pay is not said
        assert_eq!(used(&draw(&both, 10.0, 64).0), 0);
        assert_eq!(used(&draw(&both, 0.01, 1).0), 1);
    }

    #[test]
    fn one_outlier_of_any_size_costs_the_others_nothing() {
        let rows = gaussian(400, &[1.0; 8], 5);
        let (clean, step) = draw(&rows, 1e-3, 512);
        for size in [1e2f32, 1e6, 1e18] {
            let mut with = rows.clone();
            with.row_mut(7).fill(size);
            let (parameters, same) = draw(&with, 1e-3, 512);
            assert_eq!(same, step);
            let (got, want) = (error(&parameters, &rows), error(&clean, &rows));
            assert!(got < 1.1 * want, "{size}: {got}, without the outlier {want}");
        }
    }

    #[test]
    fn rows_that_are_all_alike_need_no_feature() {
        let (parameters, _) = draw(&Array2::zeros((5, 3)), 1e-3, 4);
        assert!(parameters.w_enc.iter().all(|&w| w == 0.0) && parameters.b_dec.iter().all(|&b| b == 0.0));
    }
}

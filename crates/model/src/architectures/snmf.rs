use super::pca::centre;
use super::{Begin, Coding, Column, Entries, Named, Pass, Pull, Real, Recipe, Settings, Tensors};
use crate::{ModelError, Parameters};
use bae_kernels::{Isa, product::add_product};
use ndarray::{Array1, Array2, ArrayView2, Axis, Zip};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Semi-nonnegative matrix factorisation: centred rows A `[d_in, n]` ≈ F Gᵀ with few entries in each column of F `[d_in, d_sae]`, of any
/// sign, and codes G `[n, d_sae]` ≥ 0 (Ding, Li & Jordan 2010).
///
/// Not learnt by steps, but in turns from a random G ≥ 0:
/// F = A G (GᵀG + εI)⁻¹; of each column of F the 1 % of entries that are largest stay, at least one;
/// columns of G to norm 1, those of F multiplied instead;
/// G ← G ∘ √(([AᵀF]⁺ + G [FᵀF]⁻) / ([AᵀF]⁻ + G [FᵀF]⁺)), with [·]± the positive and the negative part.
/// The F of the turn whose error is smallest is kept, its columns brought to norm 1.
///
/// Codes of other rows are what the last line tends to with F as it is, the h ≥ 0 of the smallest |a − F h|²; found feature by feature in
/// sweeps, which gets there sooner (Franc, Hlaváč & Navara 2005).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snmf;

/// Turns of the fit: on hidden states of SmolLM2-135M the last ones gain little.
const TURNS: usize = 50;
/// ε. A hundred times less and ten times more both end at larger errors on hidden states of SmolLM2-135M: what stays of F after the cut is
/// larger where F is held small.
const EPSILON: f32 = 0.1;
/// Steps of conjugate gradients in a turn.
const ROUNDS: usize = 30;
/// Share of a column of F that stays.
const KEPT: f64 = 0.01;
/// Features at most: the fit holds d_sae² numbers twice.
const MOST: usize = 8192;
/// Sweeps over the features at most, and the share of the largest code below which a sweep's changes end them.
const SWEEPS: usize = 100;
const SETTLED: f64 = 1e-3;

impl Named for Snmf {
    const NAME: &'static str = "snmf";
    const RECIPE: Recipe = Recipe { start: Begin::Fitted, ..Recipe::PLAIN };

    fn with(_: &Settings) -> Result<Self, String> {
        Ok(Self)
    }

    fn fit(
        &self,
        rows: ArrayView2<f32>,
        d_sae: usize,
        random: &mut ChaCha8Rng,
        going_on: &dyn Fn(f64) -> bool,
    ) -> Option<Result<Parameters, ModelError>> {
        Some(factorise(rows, d_sae, random, going_on))
    }
}

impl<T: Real> Coding<T> for Snmf {
    fn encode(&self, z: ArrayView2<T>, tensors: &Tensors<T>, _: Pass) -> Entries<T> {
        // centring and scaling may be folded into both, so that neither is F, but what one does to the other's is FᵀF
        let features: Vec<Feature> =
            tensors.encoder.rows().into_iter().zip(tensors.decoder.rows()).map(Feature::new).collect();
        let d_out = tensors.decoder.ncols();
        Entries::by_rows(z, |_, z, to| {
            for (feature, (h, &z)) in nonnegative(z, &features, d_out).into_iter().zip(z).enumerate() {
                if h > 0.0 {
                    to.push(feature, z, T::of(h));
                }
            }
        })
    }

    fn backward(&self, _: &Column<T>, _: &mut [T]) -> Pull<T> {
        Pull::default()
    }
}

/// A feature's entries that are not 0: dimension, encoder, decoder; and what its code does to its own pre-activation.
struct Feature {
    entries: Vec<(usize, f64, f64)>,
    own: f64,
}

impl Feature {
    fn new<T: Real>((encoder, decoder): (ndarray::ArrayView1<T>, ndarray::ArrayView1<T>)) -> Self {
        let pairs = encoder.into_iter().zip(decoder).enumerate();
        let pairs = pairs.map(|(at, (e, d))| (at, e.wide(), d.wide()));
        let entries: Vec<_> = pairs.filter(|&(_, e, d)| e != 0.0 || d != 0.0).collect();
        let own = entries.iter().map(|(_, e, d)| e * d).sum();
        Self { entries, own }
    }
}

/// The h ≥ 0 of the smallest |a − F h|² for one row, from z = Fᵀa and from h = 0.
fn nonnegative<T: Real>(z: &[T], features: &[Feature], d_out: usize) -> Vec<f64> {
    let mut h = vec![0.0; features.len()];
    let mut y = vec![0.0; d_out];
    for _ in 0..SWEEPS {
        let (mut moved, mut largest) = (0f64, 0f64);
        for ((h, feature), z) in h.iter_mut().zip(features).zip(z) {
            if feature.own <= 0.0 {
                continue;
            }
            let left = z.wide() - feature.entries.iter().map(|&(at, e, _)| e * y[at]).sum::<f64>();
            let by = (*h + left / feature.own).max(0.0) - *h;
            if by != 0.0 {
                *h += by;
                feature.entries.iter().for_each(|&(at, _, d)| y[at] += by * d);
            }
            (moved, largest) = (moved.max(by.abs()), largest.max(*h));
        }
        if moved <= SETTLED * largest {
            break;
        }
    }
    h
}

fn factorise(
    rows: ArrayView2<f32>,
    d_sae: usize,
    random: &mut ChaCha8Rng,
    going_on: &dyn Fn(f64) -> bool,
) -> Result<Parameters, ModelError> {
    let (n, d_in) = rows.dim();
    let most = n.min(MOST);
    if d_sae > most {
        return Err(ModelError::Invalid(format!(
            "snmf takes at most {MOST} features and as many as there are rows, here {most}, and {d_sae} are asked for: take fewer features, or more rows"
        )));
    }
    let (a, mean) = centre(rows);
    let total = a.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    if !total.is_finite() || total > f64::from(f32::MAX) {
        return Err(ModelError::TooLarge);
    }
    let mut g = Array2::from_shape_simple_fn((n, d_sae), || random.random::<f32>());
    unit_columns(&mut g);
    let mut best = (f64::INFINITY, Array2::zeros((d_sae, d_in)));
    for turn in 0..TURNS {
        let going_on = || going_on(turn as f64 / TURNS as f64);
        let mut f = least_squares(&a, &g, &going_on).ok_or(ModelError::Cancelled)?;
        keep_largest(&mut f);
        let norms = unit_columns(&mut g);
        Zip::from(f.rows_mut()).and(&norms).for_each(|mut row, &norm| row *= norm);
        let error = update(&mut g, &a, &f);
        if error < best.0 {
            best = (error, f);
        }
    }
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    let (error, mut f) = best;
    if !error.is_finite() {
        return Err(ModelError::TooLarge);
    }
    for (at, mut row) in f.rows_mut().into_iter().enumerate() {
        let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.mapv_inplace(|v| (f64::from(v) / norm) as f32);
        }
        let shift: f64 = row.iter().zip(&mean).map(|(&v, mean)| f64::from(v) * mean).sum();
        parameters.b_enc[at] = -shift as f32;
    }
    parameters.w_enc.assign(&f.t());
    parameters.w_dec = f;
    parameters.b_dec = mean.mapv(|v| v as f32);
    Ok(parameters)
}

/// Fᵀ = (GᵀG + εI)⁻¹ GᵀAᵀ, `[d_sae, d_in]`, from Aᵀ and G: all columns by conjugate gradients, which here is far sooner done than a factor of
/// the matrix. None if it is not to go on.
fn least_squares(a: &Array2<f32>, g: &Array2<f32>, going_on: &dyn Fn() -> bool) -> Option<Array2<f32>> {
    let isa = Isa::best();
    let shape = (g.ncols(), a.ncols());
    let mut gram = Array2::from_diag_elem(shape.0, EPSILON);
    add_product(isa, g.t(), g.view(), gram.view_mut());
    let mut left = Array2::zeros(shape);
    add_product(isa, g.t(), a.view(), left.view_mut());
    let (mut f, mut direction) = (Array2::zeros(shape), left.clone());
    let mut squares = column_products(&left, &left);
    for _ in 0..ROUNDS {
        if !going_on() {
            return None;
        }
        let mut ahead = Array2::zeros(shape);
        add_product(isa, gram.view(), direction.view(), ahead.view_mut());
        let share = |a: f64, b: f64| if b > 0.0 { (a / b) as f32 } else { 0.0 };
        let steps = Zip::from(&squares).and(&column_products(&direction, &ahead)).map_collect(|&a, &b| share(a, b));
        f += &(&direction * &steps);
        left -= &(ahead * &steps);
        let next = column_products(&left, &left);
        let kept = Zip::from(&next).and(&squares).map_collect(|&a, &b| share(a, b));
        direction = direction * kept + &left;
        squares = next;
    }
    Some(f)
}

/// Sums over rows of a ∘ b, in f64.
fn column_products(a: &Array2<f32>, b: &Array2<f32>) -> Array1<f64> {
    let mut sums = Array1::zeros(a.ncols());
    for (a, b) in a.rows().into_iter().zip(b.rows()) {
        Zip::from(&mut sums).and(a).and(b).for_each(|sum, &a, &b| *sum += f64::from(a) * f64::from(b));
    }
    sums
}

/// Zeroes all of each row but the entries that are largest.
fn keep_largest(f: &mut Array2<f32>) {
    let kept = ((KEPT * f.ncols() as f64).round() as usize).max(1);
    f.axis_iter_mut(Axis(0)).into_par_iter().for_each(|mut row| {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&i, &j| row[j].abs().total_cmp(&row[i].abs()).then(i.cmp(&j)));
        order.into_iter().skip(kept).for_each(|at| row[at] = 0.0);
    });
}

/// Brings columns to norm 1 and gives what their norms were; a column of zeros stays.
fn unit_columns(g: &mut Array2<f32>) -> Array1<f32> {
    let norms = column_products(g, g).mapv(|sum| if sum > 0.0 { sum.sqrt() as f32 } else { 1.0 });
    *g /= &norms;
    norms
}

/// One multiplicative update of G; gives |A − F Gᵀ|² after it. `a` is Aᵀ, `f` is Fᵀ.
fn update(g: &mut Array2<f32>, a: &Array2<f32>, f: &Array2<f32>) -> f64 {
    let isa = Isa::best();
    let positive = |values: &Array2<f32>| values.mapv(|v| v.max(0.0));
    let mut products = Array2::zeros((f.nrows(), f.nrows()));
    add_product(isa, f.view(), f.t(), products.view_mut());
    let mut z = Array2::zeros(g.dim());
    add_product(isa, a.view(), f.t(), z.view_mut());
    let (mut above, mut below) = (positive(&z), positive(&-z));
    add_product(isa, g.view(), positive(&-&products).view(), above.view_mut());
    add_product(isa, g.view(), positive(&products).view(), below.view_mut());
    Zip::from(&mut *g).and(&above).and(&below).par_for_each(|g, &above, &below| {
        // 0 only where the feature has no entries, and any code does
        *g *= if below > 0.0 { (above / below).sqrt() } else { 1.0 };
    });
    let mut y = Array2::zeros(a.dim());
    add_product(isa, g.view(), f.view(), y.view_mut());
    let squares = |(a, y): (&f32, &f32)| (f64::from(*a) - f64::from(*y)).powi(2);
    a.iter().zip(&y).map(squares).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architectures::Kind;
    use crate::{Architecture, Backend, Normalisation, Sae};
    use rand::SeedableRng;

    /// Rows made of few features, with codes ≥ 0.
    fn rows(n: usize, d_in: usize, features: usize) -> Array2<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let f = Array2::from_shape_simple_fn((features, d_in), || rng.random::<f32>() - 0.5);
        let g = Array2::from_shape_simple_fn((n, features), || (rng.random::<f32>() - 0.6).max(0.0));
        g.dot(&f) + 0.7
    }

    fn fitted(rows: &Array2<f32>, d_sae: usize) -> Parameters {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        Snmf.fit(rows.view(), d_sae, &mut rng, &|_| true).expect("fitted").unwrap()
    }

    fn fvu(rows: &Array2<f32>, parameters: &Parameters) -> f64 {
        let architecture = Architecture::of(Kind::Snmf(Snmf));
        let sae = Sae::new(parameters, 2);
        let y = sae.decode_values(&architecture, &sae.values(&architecture, rows.view()).unwrap()).unwrap();
        let squares = |values: Array2<f32>| values.mapv(|e| f64::from(e) * f64::from(e)).sum();
        squares(&y - rows) / squares(centre(rows.view()).0)
    }

    /// Two entries of 200 stay in each feature; at random places they would do far worse.
    #[test]
    fn features_have_few_entries_and_reconstruct() {
        let rows = rows(400, 200, 10);
        let parameters = fitted(&rows, 60);
        for row in parameters.w_dec.rows() {
            let norm = row.dot(&row).sqrt();
            assert!(norm == 0.0 || (norm - 1.0).abs() < 1e-5);
            assert!(row.iter().filter(|v| **v != 0.0).count() <= 2);
        }
        assert!(fitted(&rows, 60) == parameters);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut random = parameters.clone();
        for (at, mut row) in random.w_dec.rows_mut().into_iter().enumerate() {
            row.fill(0.0);
            (0..2).for_each(|_| row[rng.random_range(0..200)] = rng.random::<f32>() - 0.5);
            random.b_enc[at] = -row.dot(&random.b_dec);
        }
        random.w_enc.assign(&random.w_dec.t());
        let (fitted, random) = (fvu(&rows, &parameters), fvu(&rows, &random));
        assert!(fitted < 0.9 * random, "{fitted}, of random features {random}");
    }

    /// No code below 0, and where it is above, the residual is orthogonal to its feature; where it is 0, it points away.
    #[test]
    fn codes_are_the_least_squares_of_those_above_0() {
        let rows = rows(40, 30, 8);
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut parameters = Parameters::zeros(30, 12, 30);
        parameters.w_dec.mapv_inplace(|_| rng.random::<f32>() - 0.5);
        parameters.w_enc.assign(&parameters.w_dec.t());
        // as normalisation folds it
        let scale = Array1::from_shape_fn(30, |at| 0.5 + at as f32);
        let folded = Normalisation { centre: Array1::zeros(30), scale }.fold(&parameters);
        let architecture = Architecture::of(Kind::Snmf(Snmf));
        let sae = Sae::new(&folded, 2);
        let codes = sae.values(&architecture, rows.view()).unwrap();
        let y = sae.decode_values(&architecture, &codes).unwrap();
        let scaled = |values: &Array2<f32>| values.dot(&folded.w_enc);
        let left = scaled(&rows) - scaled(&y);
        let (active, mut on) = (codes.active(), 0);
        for ((row, feature), left) in left.indexed_iter() {
            let tolerance = 2e-2;
            on += u32::from(active.get(row, feature));
            assert!(*left < tolerance && (!active.get(row, feature) || *left > -tolerance), "{row} {feature}: {left}");
        }
        assert!(on > 40 && on < 440, "{on}");
    }

    #[test]
    fn what_cannot_be_fitted_is_an_error() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut fit = |rows: &Array2<f32>, d_sae, going_on: &dyn Fn(f64) -> bool| {
            Snmf.fit(rows.view(), d_sae, &mut rng, going_on).expect("fitted").unwrap_err()
        };
        let few = rows(5, 4, 2);
        assert!(fit(&few, 6, &|_| true).to_string().contains("here 5, and 6 are asked for"));
        assert!(matches!(fit(&few, 2, &|share| share < 0.5), ModelError::Cancelled));
        // within a turn, which takes seconds where there are thousands of features
        let asked = std::cell::Cell::new(0);
        let first_turn = |share: f64| share == 0.0 && asked.replace(asked.get() + 1) < ROUNDS / 2;
        assert!(matches!(fit(&few, 2, &first_turn), ModelError::Cancelled));
        assert_eq!(asked.get(), ROUNDS / 2 + 1);
        assert!(matches!(fit(&(few * 1e30), 2, &|_| true), ModelError::TooLarge));
    }
}

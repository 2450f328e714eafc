//! Logistic regression with an L2 penalty, by Newton's method with conjugate gradients (Lin, Weng & Keerthi 2008).
//!
//! Written here because no crate that is kept takes sparse rows, weights of rows and a standardisation that leaves them
//! sparse; the one general minimiser brings seventeen packages for these few lines.

use ndarray::Array2;

use crate::TrainError;

/// Rows of inputs, stored one way or another.
pub(super) trait Inputs: Sync {
    /// Inputs of a row.
    fn width(&self) -> usize;

    /// Σ_j x_ij w_j, `w [width]`.
    fn dot(&self, row: usize, w: &[f64]) -> f64;

    /// Adds `scale` times the row to `out [width]`.
    fn add_to(&self, row: usize, scale: f64, out: &mut [f64]);

    /// Means and deviations over `rows`.
    fn moments(&self, rows: &[usize]) -> Standard;
}

/// Means and reciprocal standard deviations of inputs `[width]`; 0 where an input does not vary.
pub(super) struct Standard {
    mean: Vec<f64>,
    scale: Vec<f64>,
}

impl Standard {
    /// From Σ (x − mean)² of `rows` rows.
    fn new(mean: Vec<f64>, squares: Vec<f64>, rows: usize) -> Self {
        let scale = mean.iter().zip(squares).map(|(mean, sum)| {
            let deviation = (sum / rows as f64).sqrt();
            // below the rounding of the mean nothing varies
            if deviation > 1e-12 * mean.abs() { deviation.recip() } else { 0.0 }
        });
        let scale = scale.collect();
        Self { mean, scale }
    }

    /// The means alone.
    pub(super) fn into_mean(self) -> Vec<f64> {
        self.mean
    }

    /// Which inputs vary.
    pub(super) fn varying(&self) -> Vec<usize> {
        (0..self.scale.len()).filter(|&input| self.scale[input] > 0.0).collect()
    }
}

impl Inputs for Array2<f32> {
    fn width(&self) -> usize {
        self.ncols()
    }

    fn dot(&self, row: usize, w: &[f64]) -> f64 {
        // eight sums side by side, in one order whatever the machine
        const LANES: usize = 8;
        let row = self.row(row);
        let x = row.as_slice().expect("row-major");
        let mut sums = [0.0; LANES];
        let (mut x, mut w) = (x.chunks_exact(LANES), w.chunks_exact(LANES));
        for (x, w) in x.by_ref().zip(w.by_ref()) {
            for lane in 0..LANES {
                sums[lane] += f64::from(x[lane]) * w[lane];
            }
        }
        let rest = x.remainder().iter().zip(w.remainder());
        sums.iter().sum::<f64>() + rest.map(|(&x, w)| f64::from(x) * w).sum::<f64>()
    }

    fn add_to(&self, row: usize, scale: f64, out: &mut [f64]) {
        for (out, &x) in out.iter_mut().zip(self.row(row)) {
            *out += scale * f64::from(x);
        }
    }

    fn moments(&self, rows: &[usize]) -> Standard {
        let mut mean = vec![0.0; self.ncols()];
        rows.iter().for_each(|&row| self.add_to(row, 1.0 / rows.len() as f64, &mut mean));
        let mut squares = vec![0.0; self.ncols()];
        for &row in rows {
            for ((sum, mean), &x) in squares.iter_mut().zip(&mean).zip(self.row(row)) {
                *sum += (f64::from(x) - mean) * (f64::from(x) - mean);
            }
        }
        Standard::new(mean, squares, rows.len())
    }
}

/// Rows that are mostly 0: for each the inputs that are not, ascending, and their values.
pub(super) struct SparseRows {
    width: usize,
    starts: Vec<usize>,
    inputs: Vec<u32>,
    values: Vec<f32>,
}

impl SparseRows {
    /// No rows yet.
    pub(super) fn new(width: usize) -> Self {
        Self { width, starts: vec![0], inputs: vec![], values: vec![] }
    }

    /// Adds a row: the inputs that are not 0, ascending, and their values.
    pub(super) fn push(&mut self, (inputs, values): (&[u32], &[f32])) {
        self.inputs.extend_from_slice(inputs);
        self.values.extend_from_slice(values);
        self.starts.push(self.inputs.len());
    }

    /// Values that are not 0.
    pub(super) fn entries(&self) -> usize {
        self.inputs.len()
    }

    /// These inputs of all rows, `[rows, chosen]`.
    pub(super) fn gather(&self, chosen: &[usize]) -> Array2<f32> {
        let rows = self.starts.len() - 1;
        Array2::from_shape_fn((rows, chosen.len()), |(row, at)| {
            let range = self.starts[row]..self.starts[row + 1];
            let found = self.inputs[range.clone()].binary_search(&(chosen[at] as u32));
            found.map_or(0.0, |at| self.values[range.start + at])
        })
    }

    /// Means of the inputs over these rows, `[width]`.
    pub(super) fn means(&self, rows: &[usize]) -> Vec<f64> {
        let mut sums = vec![0.0; self.width];
        rows.iter().for_each(|&row| self.add_to(row, 1.0, &mut sums));
        sums.iter_mut().for_each(|sum| *sum /= rows.len().max(1) as f64);
        sums
    }

    fn of(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let range = self.starts[row]..self.starts[row + 1];
        let values = self.values[range.clone()].iter().map(|&value| f64::from(value));
        self.inputs[range].iter().map(|&input| input as usize).zip(values)
    }
}

impl Inputs for SparseRows {
    fn width(&self) -> usize {
        self.width
    }

    fn dot(&self, row: usize, w: &[f64]) -> f64 {
        self.of(row).map(|(input, value)| value * w[input]).sum()
    }

    fn add_to(&self, row: usize, scale: f64, out: &mut [f64]) {
        self.of(row).for_each(|(input, value)| out[input] += scale * value);
    }

    fn moments(&self, rows: &[usize]) -> Standard {
        let mean = self.means(rows);
        let (mut squares, mut stored) = (vec![0.0; self.width], vec![0usize; self.width]);
        for &row in rows {
            for (input, value) in self.of(row) {
                squares[input] += (value - mean[input]) * (value - mean[input]);
                stored[input] += 1;
            }
        }
        for ((sum, mean), stored) in squares.iter_mut().zip(&mean).zip(stored) {
            *sum += (rows.len() - stored) as f64 * mean * mean;
        }
        Standard::new(mean, squares, rows.len())
    }
}

/// Weights on inputs as they are, and what is added.
pub(super) struct Linear {
    weights: Vec<f64>,
    intercept: f64,
}

impl Linear {
    /// Along `b − a` in standardised inputs, 0 half way between `a` and `b` `[width]`.
    pub(super) fn between(a: &[f64], b: &[f64], standard: &Standard) -> Self {
        let scaled = b.iter().zip(a).zip(&standard.scale).map(|((b, a), scale)| (b - a) * scale * scale);
        let weights: Vec<f64> = scaled.collect();
        let intercept = -0.5 * (dot(&weights, a) + dot(&weights, b));
        Self { weights, intercept }
    }

    /// Its value for each of `rows`.
    pub(super) fn scores(&self, inputs: &impl Inputs, rows: &[usize]) -> Vec<f64> {
        rows.iter().map(|&row| inputs.dot(row, &self.weights) + self.intercept).collect()
    }
}

/// One regression: minimises Σ_i c_i ln(1 + exp(−y_i z_i)) + |u|² / (2 C n), where z = b + Σ_j u_j (x_j − mean_j) / std_j,
/// y = ±1, and c_i = 1 / (2 n_y), so that both classes weigh the same. That is scikit-learn's `LogisticRegression(C=C,
/// class_weight="balanced")` on standardised inputs.
pub(super) struct Regression<'a, I> {
    inputs: &'a I,
    rows: &'a [usize],
    positive: &'a [bool],
    standard: &'a Standard,
    counts: [usize; 2],
}

/// The largest component of the gradient that is taken for 0.
const TOLERANCE: f64 = 1e-6;

impl<'a, I: Inputs> Regression<'a, I> {
    /// On these rows, each positive or not, both of which there are; `standard` is of the same rows.
    pub(super) fn new(
        inputs: &'a I,
        rows: &'a [usize],
        positive: &'a [bool],
        standard: &'a Standard,
    ) -> Self {
        let ones = positive.iter().filter(|&&is| is).count();
        Self { inputs, rows, positive, standard, counts: [rows.len() - ones, ones] }
    }

    /// The minimum for this C. `u [width + 1]` is where to start, the last being b, and becomes the minimum. `go_on` is
    /// asked before each pass over the rows.
    ///
    /// # Errors
    /// [`TrainError::Cancelled`] if `go_on` says stop.
    pub(super) fn fit(
        &self,
        c: f64,
        u: &mut [f64],
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Linear, TrainError> {
        const STEPS: usize = 50;
        let penalty = 1.0 / (c * self.rows.len() as f64);
        let mut z = self.apply(u);
        for _ in 0..STEPS {
            let (residuals, curvatures) = self.derivatives(&z);
            let gradient = self.pulled_back(&residuals, penalty, u);
            if gradient.iter().all(|value| value.abs() <= TOLERANCE) {
                break;
            }
            let step = self.newton_step(&gradient, &curvatures, penalty, go_on)?;
            let along = self.apply(&step);
            let slope = dot(&gradient, &step);
            let loss = self.loss(&z, penalty, u);
            // halved until the loss falls as a convex one must; none does at the limit of rounding
            let lengths = (0..30).map(|halvings| 0.5f64.powi(halvings));
            let moved = lengths.into_iter().find_map(|length| {
                let u: Vec<f64> = u.iter().zip(&step).map(|(u, step)| u + length * step).collect();
                let z: Vec<f64> = z.iter().zip(&along).map(|(z, along)| z + length * along).collect();
                (self.loss(&z, penalty, &u) <= loss + 1e-4 * length * slope).then_some((u, z))
            });
            let Some((next_u, next_z)) = moved else { break };
            u.copy_from_slice(&next_u);
            z = next_z;
        }
        Ok(self.unstandardised(u))
    }

    /// Mean loss of `linear` on `rows`, each class weighing the same; without the penalty.
    pub(super) fn loss_of(linear: &Linear, inputs: &I, rows: &[usize], positive: &[bool]) -> f64 {
        let (mut sums, mut counts) = ([0.0; 2], [0usize; 2]);
        for (z, &positive) in linear.scores(inputs, rows).into_iter().zip(positive) {
            sums[usize::from(positive)] += softplus(if positive { -z } else { z });
            counts[usize::from(positive)] += 1;
        }
        (0..2).map(|class| sums[class] / counts[class].max(1) as f64).sum()
    }

    /// z of each row, without what u's place adds to the penalty.
    fn apply(&self, u: &[f64]) -> Vec<f64> {
        self.unstandardised(u).scores(self.inputs, self.rows)
    }

    fn unstandardised(&self, u: &[f64]) -> Linear {
        let Standard { mean, scale } = self.standard;
        let weights: Vec<f64> = u.iter().zip(scale).map(|(u, scale)| u * scale).collect();
        let intercept = u[u.len() - 1] - dot(&weights, mean);
        Linear { weights, intercept }
    }

    /// Of the loss by z: first and second derivative for each row.
    fn derivatives(&self, z: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let of_row = |(&z, &positive): (&f64, &bool)| {
            let p = 1.0 / (1.0 + libm::exp(-z));
            let weight = self.weight(positive);
            (weight * (p - f64::from(u8::from(positive))), weight * p * (1.0 - p))
        };
        z.iter().zip(self.positive).map(of_row).unzip()
    }

    fn weight(&self, positive: bool) -> f64 {
        0.5 / self.counts[usize::from(positive)].max(1) as f64
    }

    fn loss(&self, z: &[f64], penalty: f64, u: &[f64]) -> f64 {
        let of_row =
            |(&z, &positive): (&f64, &bool)| self.weight(positive) * softplus(if positive { -z } else { z });
        let weights = &u[..u.len() - 1];
        z.iter().zip(self.positive).map(of_row).sum::<f64>() + 0.5 * penalty * dot(weights, weights)
    }

    /// Takes a derivative by z of each row back to one by u, and adds the penalty's at `u`.
    fn pulled_back(&self, by_z: &[f64], penalty: f64, u: &[f64]) -> Vec<f64> {
        let Standard { mean, scale } = self.standard;
        let mut by_u = vec![0.0; self.inputs.width()];
        for (&row, &by_z) in self.rows.iter().zip(by_z) {
            self.inputs.add_to(row, by_z, &mut by_u);
        }
        let total: f64 = by_z.iter().sum();
        for (((by_u, mean), scale), u) in by_u.iter_mut().zip(mean).zip(scale).zip(u) {
            *by_u = scale * (*by_u - mean * total) + penalty * u;
        }
        by_u.push(total);
        by_u
    }

    /// −H⁻¹ g, as far as conjugate gradients come with a residual of a tenth, or less near the minimum.
    fn newton_step(
        &self,
        gradient: &[f64],
        curvatures: &[f64],
        penalty: f64,
        go_on: &(dyn Fn() -> bool + Sync),
    ) -> Result<Vec<f64>, TrainError> {
        const PRODUCTS: usize = 200;
        let mut step = vec![0.0; gradient.len()];
        let mut residual: Vec<f64> = gradient.iter().map(|value| -value).collect();
        let mut direction = residual.clone();
        let mut square = dot(&residual, &residual);
        let enough = square * 0.01f64.min(square.sqrt());
        for _ in 0..PRODUCTS {
            if !go_on() {
                return Err(TrainError::Cancelled);
            }
            let mut by_z = self.apply(&direction);
            by_z.iter_mut().zip(curvatures).for_each(|(by_z, curvature)| *by_z *= curvature);
            let product = self.pulled_back(&by_z, penalty, &direction);
            let curvature = dot(&direction, &product);
            // rounding, or a direction without curvature: what there is so far goes down too
            if curvature <= 0.0 {
                break;
            }
            let length = square / curvature;
            add(&mut step, length, &direction);
            add(&mut residual, -length, &product);
            let next = dot(&residual, &residual);
            if next <= enough {
                break;
            }
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / square * *d);
            square = next;
        }
        Ok(step)
    }
}

/// ln(1 + exp(z))
fn softplus(z: f64) -> f64 {
    z.max(0.0) + libm::log1p(libm::exp(-z.abs()))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], scale: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += scale * what);
}

//! Controls that are fitted to rows while half of the model stays random: what is left of a score then was not learnt (Korznikov et al.
//! 2026, "Sanity checks for sparse autoencoders"; Heap et al. 2025 for random models).

use super::controls::{Control, Fitted};
use super::rate::Rate;
use super::reconstruction::{Errors, Reconstruction, taken};
use super::ridge::Ridge;
use super::{Applied, measured_rows};
use crate::{Engine, Task, TrainError};
use bae_codes::Statistics;
use bae_gpu::{Wanted, Widths};
use bae_kernels::{Isa, product};
use bae_model::initial::Typical;
use bae_model::{
    Adam, Architecture, Batch, Objective, Parameters, Precision, Target, TrainingState, layer_norm,
};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, s};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Of the sample, each row of this number is measured; the others are fitted to.
const MEASURED: usize = 4;

/// Rows of the sample, at least.
pub(super) const FEWEST_ROWS: usize = 32;

/// Rounds in which biases are moved towards the densities wanted; the first move is [`FIRST_MOVE`], each further one half of that before.
const ROUNDS: usize = 14;

/// In standard deviations of the pre-activation.
const FIRST_MOVE: f64 = 4.0;

/// Penalties that decoders are fitted with: the one that does best on the rows measured is kept, in the control's favour.
const PENALTIES: [f64; 3] = [0.1, 1.0, 10.0];

/// Steps of the encoder beside a frozen decoder ...
pub(super) const STEPS: usize = 96;
/// ... their rows, at most ...
const BATCH: usize = 512;
/// ... and their learning rate at the start, in units of the encoder's root mean square; it goes down to 0.
const LEARNING_RATE: f64 = 0.1;

const SEED: u64 = 0;

/// The sample that controls are fitted to and measured on, in a space of its own: rows as the model takes them, about the typical row and
/// in units of its size. Figures are of the rows as they were given.
pub(super) struct Frozen<'a> {
    architecture: Architecture,
    /// Of the model.
    parameters: &'a Parameters,
    /// Share of all rows that each of the model's features is on in, `[d_sae]`.
    densities: Vec<f64>,
    /// Step that values are rounded to for the rate, in units of the model's reconstruction.
    step: f64,
    typical: Typical,
    /// Of targets, where there are some.
    typical_target: Option<Typical>,
    fitted: Rows,
    measured: Rows,
    engine: Engine,
}

struct Rows {
    /// What is to be made of them, as it was given.
    given: Array2<f32>,
    norms: Option<Vec<(f32, f32)>>,
    x: Array2<f32>,
    /// Where that is not x itself.
    target: Option<Array2<f32>>,
}

impl Rows {
    fn target(&self) -> &Array2<f32> {
        self.target.as_ref().unwrap_or(&self.x)
    }
}

/// What one measurement gives.
struct Measured {
    reconstruction: Reconstruction,
    statistics: Statistics,
    rate_bits: f64,
}

impl<'a> Frozen<'a> {
    /// On a sample `[n, d_in]`, n at least [`FEWEST_ROWS`], and its targets `[n, d_out]` where there are some.
    ///
    /// # Errors
    /// Those of an engine.
    pub fn new(
        model: &Applied,
        parameters: &'a Parameters,
        statistics: &Statistics,
        step: f64,
        (sample, targets): (ArrayView2<f32>, Option<ArrayView2<f32>>),
        threads: usize,
    ) -> Result<Self, TrainError> {
        let rows = |wanted: bool| {
            let chosen: Vec<usize> =
                (0..sample.nrows()).filter(|row| (row % MEASURED == MEASURED - 1) == wanted).collect();
            let mut x = sample.select(Axis(0), &chosen);
            let given = targets.map_or_else(|| x.clone(), |targets| targets.select(Axis(0), &chosen));
            let norms = model.layer_norm.then(|| layer_norm(x.view_mut()));
            let target = targets.map(|_| taken(norms.as_deref(), given.view()));
            Rows { given, norms, x, target }
        };
        let (mut fitted, mut measured) = (rows(false), rows(true));
        let typical = Typical::measure(fitted.x.view());
        let typical_target = fitted.target.as_ref().map(|target| Typical::measure(target.view()));
        for rows in [&mut fitted, &mut measured] {
            let target = rows.target.as_mut().zip(typical_target.as_ref());
            for (rows, typical) in [(&mut rows.x, &typical)].into_iter().chain(target) {
                for mut row in rows.rows_mut() {
                    row.zip_mut_with(&typical.centre, |x, &centre| *x = (*x - centre) / typical.rms);
                }
            }
        }
        let widths = Widths { d_in: parameters.d_in(), d_sae: parameters.d_sae(), d_out: parameters.d_out() };
        let architecture = model.architecture;
        let task = Task { architecture, precision: Precision::F32, rows: BATCH, widths };
        let rows = statistics.rows().max(1) as f64;
        Ok(Self {
            architecture,
            parameters,
            densities: statistics.ones().iter().map(|&ones| ones as f64 / rows).collect(),
            step,
            typical,
            typical_target,
            fitted,
            measured,
            engine: Engine::choose(&Wanted::Cpu, threads, task)?,
        })
    }

    /// Rows gone through, as progress counts them, by both controls.
    pub fn work(rows: usize) -> usize {
        2 * (ROUNDS + 2) * rows + PENALTIES.len() * rows + STEPS * BATCH.min(rows)
    }

    /// Random encoder, fitted decoder. `going_on` gets rows gone through and says whether to go on.
    ///
    /// # Errors
    /// Those of the engine; [`TrainError::Cancelled`].
    pub fn encoder(&self, going_on: &mut dyn FnMut(usize) -> bool) -> Result<Control, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let (d_in, d_sae, d_out) = self.widths();
        let w_enc = Array2::from_shape_simple_fn((d_in, d_sae), || StandardNormal.sample(&mut random));
        let mut parameters = Parameters { w_enc, ..self.blank(d_sae, d_out) };
        self.set_densities(&mut parameters, going_on)?;
        let codes = self.applied(&parameters)?.encode(self.fitted.x.view())?;
        let varies = || self.spread(parameters.w_enc.view()).1.iter().any(|&spread| spread > 0.0);
        let wanted = self.densities.iter().any(|&density| density > 0.0);
        if wanted && codes.active().words().iter().all(|&word| word == 0) && varies() {
            let message = "no feature is on, whatever its bias: these codes are not made by an encoder alone";
            return Err(TrainError::Models(message.into()));
        }
        let ridge = self.engine.install(|| Ridge::new(&codes));
        let rows = self.fitted.x.nrows();
        let mut best: Option<(Measured, Parameters)> = None;
        for penalty in PENALTIES {
            let each = || going_on(rows / super::ridge::ROUNDS);
            let fitted = self.fit(&ridge, penalty, each).ok_or(TrainError::Cancelled)?;
            parameters.w_dec = fitted.w_dec;
            parameters.b_dec = fitted.b_dec;
            let measured = self.measure(&parameters, &self.measured)?;
            let mse = measured.reconstruction.mse;
            if best.as_ref().is_none_or(|(best, _)| mse < best.reconstruction.mse) {
                best = Some((measured, parameters.clone()));
            }
        }
        let (measured, parameters) = best.expect("at least one penalty");
        self.control(measured, &parameters, None)
    }

    fn fit(
        &self,
        ridge: &Ridge,
        penalty: f64,
        mut going_on: impl FnMut() -> bool,
    ) -> Option<super::ridge::Decoder> {
        // the caller's listener stays on the caller's thread
        let mut solver = ridge.start(self.fitted.target().view(), penalty);
        while self.engine.install(|| solver.round()) {
            if !going_on() {
                return None;
            }
        }
        Some(self.engine.install(|| solver.decoder()))
    }

    /// Random decoder, trained encoder.
    ///
    /// # Errors
    /// As [`Frozen::encoder`].
    pub fn decoder(&self, going_on: &mut dyn FnMut(usize) -> bool) -> Result<Control, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(SEED + 1);
        let (d_in, d_sae, d_out) = self.widths();
        let mut w_dec: Array2<f32> =
            Array2::from_shape_simple_fn((d_sae, d_out), || StandardNormal.sample(&mut random));
        for (mut row, like) in w_dec.rows_mut().into_iter().zip(self.parameters.w_dec.rows()) {
            let factor =
                length(like) / f64::from(self.output().rms) / length(row.view()).max(f64::MIN_POSITIVE);
            row.mapv_inplace(|w| (f64::from(w) * factor) as f32);
        }
        // looking along the direction that it writes is what a random decoder's encoder can start from, where it is to make x again
        let w_enc = if self.fitted.target.is_none() {
            w_dec.t().as_standard_layout().to_owned()
        } else {
            Array2::from_shape_simple_fn((d_in, d_sae), || StandardNormal.sample(&mut random))
        };
        let mut parameters = Parameters { w_enc, w_dec: w_dec.clone(), ..self.blank(d_sae, d_out) };
        self.set_densities(&mut parameters, going_on)?;
        let rows = self.fitted.x.nrows();
        let batch = BATCH.min(rows);
        let size = (parameters.w_enc.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>()
            / parameters.w_enc.len().max(1) as f64)
            .sqrt();
        let task = Task {
            architecture: self.architecture,
            precision: Precision::F32,
            rows: batch,
            widths: Widths { d_in, d_sae, d_out },
        };
        let mut engine = self.engine.trained(&parameters, task, false)?;
        let mut order: Vec<usize> = vec![];
        for step in 0..STEPS {
            if order.len() < batch {
                order = (0..rows).collect();
                order.shuffle(&mut random);
            }
            let chosen = order.split_off(order.len() - batch);
            let x = self.fitted.x.select(Axis(0), &chosen);
            let targets = self.fitted.target.as_ref().map(|target| target.select(Axis(0), &chosen));
            let rate = LEARNING_RATE * size * (1.0 - step as f64 / STEPS as f64);
            let target = targets.as_ref().map_or(Target::Input, |targets| Target::States(targets.view()));
            let batch = Batch { x: x.view(), target };
            engine.step(&self.architecture, &Objective::default(), &Adam::new(rate), batch)?;
            let state = engine.state()?;
            let put_back = Parameters { w_dec: w_dec.clone(), ..state.parameters };
            engine.restore(&TrainingState { parameters: put_back, ..state })?;
            if !going_on(x.nrows()) {
                return Err(TrainError::Cancelled);
            }
        }
        let parameters = engine.parameters()?;
        let measured = self.measure(&parameters, &self.measured)?;
        self.control(measured, &parameters, Some(STEPS))
    }

    /// The space of what is made of rows.
    fn output(&self) -> &Typical {
        self.typical_target.as_ref().unwrap_or(&self.typical)
    }

    fn widths(&self) -> (usize, usize, usize) {
        (self.parameters.d_in(), self.parameters.d_sae(), self.parameters.d_out())
    }

    /// Nothing but what the architecture has for each feature, as it starts.
    fn blank(&self, d_sae: usize, d_out: usize) -> Parameters {
        let per_feature = self.architecture.kind().map_or(&[][..], |kind| kind.coding::<f32>().per_feature());
        let per_feature = per_feature.iter().map(|&(name, value)| (name, Array1::from_elem(d_sae, value)));
        Parameters { per_feature: per_feature.collect(), ..Parameters::zeros(0, d_sae, d_out) }
    }

    /// Scales the encoder so that each pre-activation varies as much as the model's, and moves the biases until each feature is on as often
    /// as the model's, as nearly as it goes: each keeps the bias that came nearest. (Where features compete for places, as in topk, they
    /// decide together how often each is on.)
    fn set_densities(
        &self,
        parameters: &mut Parameters,
        going_on: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), TrainError> {
        let x = self.fitted.x.view();
        let (rows, rms) = (x.nrows(), f64::from(self.typical.rms));
        let (mut means, own) = self.spread(parameters.w_enc.view());
        let (_, models) = self.spread(self.parameters.w_enc.view());
        let mut spreads = own.clone();
        for (feature, mut column) in parameters.w_enc.columns_mut().into_iter().enumerate() {
            // the model takes rows that are so many times larger
            let wanted = models[feature] * rms;
            if own[feature] > 0.0 && wanted > 0.0 {
                let factor = wanted / own[feature];
                column.mapv_inplace(|w| (f64::from(w) * factor) as f32);
                means[feature] *= factor;
                spreads[feature] = wanted;
            }
        }
        let mut biases: Vec<f64> = means.iter().map(|mean| -mean).collect();
        let mut nearest = vec![f64::INFINITY; biases.len()];
        let mut found = biases.clone();
        let mut distance = FIRST_MOVE;
        for _ in 0..=ROUNDS {
            parameters.b_enc = biases.iter().map(|&bias| bias as f32).collect();
            let mut statistics = Statistics::new(biases.len());
            let codes = self.applied(parameters)?.encode(x)?;
            statistics.add(&codes.active())?;
            for (feature, &ones) in statistics.ones().iter().enumerate() {
                let too_much = ones as f64 / rows as f64 - self.densities[feature];
                if too_much.abs() < nearest[feature] {
                    (nearest[feature], found[feature]) = (too_much.abs(), biases[feature]);
                }
                if too_much != 0.0 {
                    biases[feature] -= too_much.signum() * distance * spreads[feature];
                }
            }
            distance /= 2.0;
            if !going_on(rows) {
                return Err(TrainError::Cancelled);
            }
        }
        parameters.b_enc = found.iter().map(|&bias| bias as f32).collect();
        Ok(())
    }

    /// Mean and standard deviation of x · w over the rows fitted to, for each column of w `[d_in, d_sae]`.
    fn spread(&self, w: ArrayView2<f32>) -> (Vec<f64>, Vec<f64>) {
        let d_sae = w.ncols();
        let (mut sums, mut squares) = (vec![0.0; d_sae], vec![0.0; d_sae]);
        let x = self.fitted.x.view();
        for start in (0..x.nrows()).step_by(measured_rows(d_sae)) {
            let part = x.slice(s![start..x.nrows().min(start + measured_rows(d_sae)), ..]);
            let mut z = Array2::zeros((part.nrows(), d_sae));
            self.engine.install(|| product::add_product(Isa::best(), part, w, z.view_mut()));
            for row in z.rows() {
                for ((sum, square), &z) in sums.iter_mut().zip(&mut squares).zip(row) {
                    *sum += f64::from(z);
                    *square += f64::from(z) * f64::from(z);
                }
            }
        }
        let n = x.nrows() as f64;
        let means: Vec<f64> = sums.iter().map(|sum| sum / n).collect();
        let spread = |(square, mean): (&f64, &f64)| (square / n - mean * mean).max(0.0).sqrt();
        let spreads = squares.iter().zip(&means).map(spread).collect();
        (means, spreads)
    }

    fn applied(&self, parameters: &Parameters) -> Result<Applied, TrainError> {
        let architecture = self.architecture;
        Ok(Applied {
            backend: self.engine.applied(&architecture, parameters)?,
            architecture,
            layer_norm: false,
        })
    }

    fn measure(&self, parameters: &Parameters, rows: &Rows) -> Result<Measured, TrainError> {
        let applied = self.applied(parameters)?;
        let mean =
            rows.given.fold_axis(Axis(0), 0.0, |sum, &x| sum + f64::from(x)) / rows.given.nrows() as f64;
        let mut errors = Errors::new(&mean);
        let mut statistics = Statistics::new(parameters.d_sae());
        let lengths = row_lengths(parameters, f64::from(self.output().rms));
        let mut rate = Rate::new(self.step, lengths);
        let codes = applied.encode(rows.x.view())?;
        let mut y = applied.decode(&codes)?;
        for mut row in y.rows_mut() {
            let Typical { centre, rms } = self.output();
            row.zip_mut_with(centre, |y, &centre| *y = *y * rms + centre);
        }
        self.engine.install(|| errors.add(rows.given.view(), y.view(), rows.norms.as_deref()));
        statistics.add(&codes.active())?;
        let rate_bits = rate.of(&codes, &statistics);
        Ok(Measured { reconstruction: errors.figures(None), statistics, rate_bits })
    }

    fn control(
        &self,
        measured: Measured,
        parameters: &Parameters,
        steps: Option<usize>,
    ) -> Result<Control, TrainError> {
        let Measured { reconstruction, statistics, rate_bits } = measured;
        let flattered = self.measure(parameters, &self.fitted)?.reconstruction;
        Ok(Control {
            l0: Some(statistics.l0()),
            entropy_bits: Some(statistics.entropy_bits()),
            rate_bits: Some(rate_bits),
            fitted: Some(Fitted { rows: self.fitted.x.nrows(), steps, reconstruction: flattered }),
            ..Control::plain(self.measured.x.nrows(), reconstruction)
        })
    }
}

/// Lengths of the decoder's rows, in units of `scale`, `[d_sae]`.
pub(super) fn row_lengths(parameters: &Parameters, scale: f64) -> Vec<f64> {
    parameters.w_dec.rows().into_iter().map(|row| scale * length(row)).collect()
}

/// Euclidean length.
fn length(row: ArrayView1<f32>) -> f64 {
    row.iter().map(|&w| f64::from(w) * f64::from(w)).sum::<f64>().sqrt()
}

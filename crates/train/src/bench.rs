use crate::options::{BAE, EstimatorName, not_negative, positive};
use crate::{Engine, EngineReport, MAX_THREADS, Task, TrainError, TrainOptions};
use bae_data::{Tensor, Values, save_tensors};
use bae_gpu::{Peak, Wanted, Widths};
use bae_kernels::{Isa, product};
use bae_model::architectures::Begin;
use bae_model::{
    Adam, Architecture, Backend, Batch, Objective, Parameters, Precision, Stages, Target, Trace,
};
use ndarray::{Array2, ArrayView1, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng as Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What a training step is timed on: random hidden states, and a random model whose codes have a given density.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BenchOptions {
    /// What is trained: `bae`, or one of [`bae_model::architectures`] that is trained by steps.
    pub architecture: Option<String>,
    /// Features that are on in a row, of the architectures that fix it.
    pub k: Option<usize>,
    /// Weight of the architecture's sparsity penalty.
    pub sparsity_weight: Option<f64>,
    /// Width of a hidden state.
    pub d_in: usize,
    /// Features.
    pub d_sae: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Share of bits that are on, above 0 and below 1; of pre-activations above 0 where codes are no bits.
    pub density: f64,
    /// Share of features that are ever on, or above 0. The others are as far from it as a fitted model's are.
    pub live: f64,
    /// Steps to time.
    pub steps: usize,
    /// Steps before that.
    pub warm_up: usize,
    /// Where to compute: `auto`, `cpu`, `gpu`, or a device by index or name.
    pub device: Wanted,
    /// Threads; 0 for the physical cores.
    pub threads: usize,
    /// Seed of hidden states and model.
    pub seed: u64,
    /// The gradient estimator; `reference-sigmoid` unless given.
    pub estimator: Option<EstimatorName>,
    /// Width of the sigmoid or rectangle estimator, where pre-activations have variance 1.
    pub gradient_width: Option<f64>,
    /// Precision of the products.
    pub precision: Precision,
    /// Weight of Σ_j H(p_j); of bits 1e-4 unless given.
    pub entropy_weight: Option<f64>,
    /// Weight of Σ_{i≠j} |Cov_ij|; of bits 1e-6 unless given.
    pub covariance_weight: Option<f64>,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// All gradients of a step are scaled where their 2-norm is above this one.
    pub clip_norm: Option<f64>,
    /// Rows to encode after the steps, also timed.
    pub encode_rows: usize,
    /// File to write hidden states, model, and the gradients of the first step to: for others to do the same step.
    pub fixture: Option<PathBuf>,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            architecture: None,
            k: None,
            sparsity_weight: None,
            d_in: 576,
            d_sae: 2304,
            batch_size: 512,
            density: 0.1,
            live: 1.0,
            steps: 10,
            warm_up: 2,
            device: Wanted::Cpu,
            threads: 0,
            seed: 0,
            estimator: None,
            gradient_width: None,
            precision: Precision::F32,
            entropy_weight: None,
            covariance_weight: None,
            learning_rate: 1e-5,
            clip_norm: None,
            encode_rows: 0,
            fixture: None,
        }
    }
}

/// How long steps took.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchReport {
    /// Where they ran.
    #[serde(flatten)]
    pub engine: EngineReport,
    /// Instruction set of the CPU's kernels.
    pub simd: &'static str,
    /// Width of a hidden state.
    pub d_in: usize,
    /// Features.
    pub d_sae: usize,
    /// Rows a step.
    pub batch_size: usize,
    /// Share of codes that are on (not 0) before the first step.
    pub density: f64,
    /// Share of features that are on in some rows but not in all.
    pub live: f64,
    /// Share of entries through which the estimator lets gradients; `None` where codes are no bits.
    pub open: Option<f64>,
    /// Each timed step, in seconds.
    pub seconds: Vec<f64>,
    /// The mean step by stages, in seconds.
    pub stages: Stages,
    /// What the GPU's arithmetic allows, if it was one.
    pub peak: Option<PeakReport>,
    /// Encoding, if asked for.
    pub encode: Option<EncodeTime>,
}

/// What a GPU's arithmetic allows, measured in the same run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PeakReport {
    /// Multiply-adds of f32 a second.
    pub multiply_adds: f64,
    /// Ands of 32 bits whose ones are counted and added, a second.
    pub popcounts: f64,
    /// Seconds of a step that did nothing but its five dense products and its counts of pairs and of signs, at these rates.
    pub floor_seconds: f64,
}

/// How long encoding took.
#[derive(Clone, Debug, Serialize)]
pub struct EncodeTime {
    /// Rows.
    pub rows: usize,
    /// For all of them, in seconds.
    pub seconds: f64,
}

/// Steps of the training that a timed step is taken to be from: enough that no feature counts as dead.
const STEPS_OF_A_TRAINING: usize = 1 << 20;

/// Rows that are encoded at a time.
const ENCODED_AT_ONCE: usize = 2048;

/// Times training steps on this machine. `progress` gets the steps done; `cancel` is looked at before each.
///
/// # Errors
/// [`TrainError::Option`], [`TrainError::Memory`] before anything starts, [`TrainError::Cancelled`], or that the fixture
/// cannot be written.
pub fn bench(
    options: &BenchOptions,
    cancel: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<BenchReport, TrainError> {
    let architecture = options.check()?;
    if let Some(path) = options.fixture.as_deref().filter(|path| path.exists()) {
        let message = format!("fixture {}: it is there already; remove it or name another", path.display());
        return Err(TrainError::Option(message));
    }
    let objective = options.objective(architecture)?;
    let widths = Widths { d_in: options.d_in, d_sae: options.d_sae, d_out: options.d_in };
    let task = Task { architecture, precision: options.precision, rows: options.batch_size, widths };
    let engine = Engine::choose(&options.device, options.threads, task)?;
    let Drawn { x, parameters, mut density, mut live, open } = engine.install(|| draw(options, architecture));
    let mut model = engine.trained(&parameters, task, true)?;
    if architecture.kind().is_some() {
        let ones = model.encode(&architecture, x.view())?.ones_per_feature();
        let varies = ones.iter().filter(|&&ones| ones > 0 && ones < x.nrows() as u64).count();
        density = ones.iter().sum::<u64>() as f64 / (x.nrows() * ones.len()) as f64;
        live = varies as f64 / ones.len() as f64;
    }
    let batch = Batch { x: x.view(), target: Target::Input };
    go_on(cancel)?;
    if let Some(path) = &options.fixture {
        let trace = model.trace(&architecture, &objective, batch)?;
        write_fixture(path, options, &architecture, &objective, &x, &parameters, &trace)?;
    }
    drop(parameters);
    let adam = options.adam();
    for step in 0..options.warm_up {
        go_on(cancel)?;
        model.step(&architecture, &objective, &adam, batch)?;
        progress(step + 1);
    }
    let before = model.stages();
    let seconds = options.time_steps(&mut *model, &architecture, &objective, batch, cancel, progress)?;
    let stages = (model.stages() - before) / options.steps as f64;
    let peak = engine.peak()?.map(|peak| options.floor(peak));
    let encode = || time_encoding(&*model, &architecture, &x, options.encode_rows, cancel);
    let encode = if options.encode_rows > 0 { Some(encode()?) } else { None };
    Ok(BenchReport {
        engine: engine.report(),
        simd: Isa::best().name(),
        d_in: options.d_in,
        d_sae: options.d_sae,
        batch_size: options.batch_size,
        density,
        live,
        open,
        seconds,
        stages,
        peak,
        encode,
    })
}

impl BenchOptions {
    fn check(&self) -> Result<Architecture, TrainError> {
        let refuse = |message: String| Err(TrainError::Option(message));
        for (name, value) in
            [("dIn", self.d_in), ("dSae", self.d_sae), ("batchSize", self.batch_size), ("steps", self.steps)]
        {
            if value == 0 {
                return refuse(format!("{name} is 0: it must be at least 1"));
            }
        }
        if !(self.density > 0.0 && self.density < 1.0) {
            return refuse(format!("density is {}: it must be above 0 and below 1", self.density));
        }
        if !(self.live >= self.density && self.live <= 1.0) {
            return refuse(format!("live is {}: it must be at least the density and at most 1", self.live));
        }
        if self.threads > MAX_THREADS {
            return refuse(format!("threads is {}: it must be at most {MAX_THREADS}", self.threads));
        }
        positive("learningRate", self.learning_rate)?;
        self.clip_norm.map(|norm| positive("clipNorm", norm)).transpose()?;
        let models = 4 + usize::from(self.clip_norm.is_some());
        let bytes = crate::memory::step_bytes(self.d_in, self.d_sae, self.batch_size, models);
        crate::memory::ask_memory(bytes, || {
            format!(
                "a step of {} features on {} values in batches of {}",
                self.d_sae, self.d_in, self.batch_size
            )
        })?;
        self.architecture()
    }

    /// What is trained: options are refused as a training refuses them.
    fn architecture(&self) -> Result<Architecture, TrainError> {
        let training = TrainOptions {
            architecture: self.architecture.clone(),
            k: self.k,
            sparsity_weight: self.sparsity_weight,
            estimator: self.estimator,
            gradient_width: self.gradient_width,
            entropy_weight: self.entropy_weight,
            covariance_weight: self.covariance_weight,
            precision: self.precision,
            seed: self.seed,
            ..TrainOptions::default()
        };
        match training.kind(STEPS_OF_A_TRAINING, self.d_sae)? {
            Some(kind) if kind.recipe().start == Begin::Fitted => Err(TrainError::Option(format!(
                "architecture {} is found at once and has no steps to time: name another",
                training.name()
            ))),
            Some(kind) => Ok(Architecture::of(kind)),
            None => {
                let estimator = self.estimator.unwrap_or(EstimatorName::ReferenceSigmoid);
                Ok(Architecture::binary(estimator.of_width(self.gradient_width)?))
            }
        }
    }

    fn objective(&self, architecture: Architecture) -> Result<Objective, TrainError> {
        let (entropy, covariance, sparsity) = match architecture.kind().map(|kind| kind.recipe()) {
            Some(recipe) => (recipe.entropy_weight, 0.0, recipe.sparsity_weight),
            None => (1e-4, 1e-6, 0.0),
        };
        Ok(Objective {
            entropy_weight: self.entropy_weight.unwrap_or(entropy),
            covariance_weight: self.covariance_weight.unwrap_or(covariance),
            sparsity_weight: not_negative("sparsityWeight", self.sparsity_weight.unwrap_or(sparsity))?,
            ..Objective::default()
        })
    }

    fn adam(&self) -> Adam {
        let clip_norm = self.clip_norm.unwrap_or(f64::INFINITY);
        Adam { clip_norm, ..Adam::new(self.learning_rate) }
    }

    /// Seconds of each step. An engine that runs ahead of its answers is timed over all of them, and each step gets its share.
    fn time_steps(
        &self,
        model: &mut dyn Backend,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<f64>, TrainError> {
        let adam = self.adam();
        let (all, mut seconds) = (Instant::now(), vec![]);
        for _ in 0..self.steps {
            go_on(cancel)?;
            let began = Instant::now();
            if model.step_ahead(architecture, objective, &adam, batch)?.is_some() {
                seconds.push(began.elapsed().as_secs_f64());
                progress(self.warm_up + seconds.len());
            }
        }
        let late = self.steps - seconds.len();
        for answered in self.steps - late..self.steps {
            model.catch_up()?;
            progress(self.warm_up + answered + 1);
        }
        if late > 0 {
            seconds = vec![all.elapsed().as_secs_f64() / self.steps as f64; self.steps];
        }
        Ok(seconds)
    }

    /// A step at a device's peak: products for pre-activations, outputs, grad_h, and the two weights' gradients; pairs of
    /// features over rows, each once, and rows with features over features, 32 bits at once.
    fn floor(&self, peak: Peak) -> PeakReport {
        let [rows, d_in, d_sae] = [self.batch_size, self.d_in, self.d_sae].map(|size| size as f64);
        let products = 5.0 * rows * d_in * d_sae;
        let counts = 1.5 * d_sae * d_sae * rows / 32.0;
        PeakReport {
            multiply_adds: peak.multiply_adds,
            popcounts: peak.popcounts,
            floor_seconds: products / peak.multiply_adds + counts / peak.popcounts,
        }
    }
}

/// Hidden states, a model, and what its codes are like.
struct Drawn {
    x: Array2<f32>,
    parameters: Parameters,
    density: f64,
    live: f64,
    open: Option<f64>,
}

/// Normal hidden states and weights, so that pre-activations have variance 1 before their biases, which give each
/// feature its density: live ones spread evenly about the mean, by half of it where that stays below 1.
fn draw(options: &BenchOptions, architecture: Architecture) -> Drawn {
    let BenchOptions { d_in, d_sae, batch_size, density, live, seed, .. } = *options;
    let x = normal(batch_size, d_in, 1.0, seed);
    let mut parameters = Parameters::zeros(d_in, d_sae, d_in);
    parameters.w_enc = normal(d_in, d_sae, 1.0 / (d_in as f32).sqrt(), seed ^ 1);
    parameters.w_dec = normal(d_sae, d_in, 1.0 / (d_sae as f32).sqrt(), seed ^ 2);
    let mut z = Array2::zeros((batch_size, d_sae));
    product::add_product(Isa::best(), x.view(), parameters.w_enc.view(), z.view_mut());
    let mut rng = Rng::seed_from_u64(seed ^ 3);
    let shares: Vec<f64> = (0..d_sae)
        .map(|_| {
            let spread = rng.random_range(-1.0..1.0);
            let mean = density / live;
            let share = mean * (1.0 + spread * (1.0 / mean - 1.0).min(0.5));
            if rng.random::<f64>() < live { share } else { 0.0 }
        })
        .collect();
    let thresholds: Vec<f32> =
        z.axis_iter(Axis(1)).into_par_iter().zip(&shares).map(|(z, &share)| threshold(z, share)).collect();
    parameters.b_enc.iter_mut().zip(&thresholds).for_each(|(bias, threshold)| *bias = -threshold);
    if let Some(kind) = architecture.kind() {
        parameters.add_per_feature(kind);
    }
    let window = architecture.estimator().and_then(|estimator| estimator.window()).unwrap_or(f64::INFINITY);
    let (mut on, mut live, mut open) = (0usize, 0usize, 0usize);
    for (z, threshold) in z.axis_iter(Axis(1)).zip(&thresholds) {
        let ones = z.iter().filter(|z| *z > threshold).count();
        on += ones;
        live += usize::from(ones > 0 && ones < batch_size);
        open += z.iter().filter(|z| f64::from((*z - threshold).abs()) < window).count();
    }
    let all = (batch_size * d_sae) as f64;
    Drawn {
        x,
        parameters,
        density: on as f64 / all,
        live: live as f64 / d_sae as f64,
        open: architecture.kind().is_none().then_some(open as f64 / all),
    }
}

/// Half-way between the values that so large a share lies above and the next one; a unit above all for none.
fn threshold(z: ArrayView1<f32>, share: f64) -> f32 {
    let mut sorted = z.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let above = (share * sorted.len() as f64).round() as usize;
    match (above, sorted.get(above)) {
        (0, _) => sorted[0] + 1.0,
        (_, None) => sorted[above - 1] - 1.0,
        (_, Some(next)) => 0.5 * (sorted[above - 1] + next),
    }
}

fn normal(rows: usize, columns: usize, scale: f32, seed: u64) -> Array2<f32> {
    let mut values = Array2::zeros((rows, columns));
    let chunks = values.as_slice_mut().expect("row-major").par_chunks_mut(1 << 16).enumerate();
    chunks.for_each(|(chunk, values)| {
        let mut rng = Rng::seed_from_u64(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ chunk as u64);
        values.iter_mut().for_each(|value| {
            let normal: f32 = StandardNormal.sample(&mut rng);
            *value = scale * normal;
        });
    });
    values
}

fn go_on(cancel: &AtomicBool) -> Result<(), TrainError> {
    if cancel.load(Ordering::Relaxed) { Err(TrainError::Cancelled) } else { Ok(()) }
}

fn time_encoding(
    model: &dyn Backend,
    architecture: &Architecture,
    x: &Array2<f32>,
    rows: usize,
    cancel: &AtomicBool,
) -> Result<EncodeTime, TrainError> {
    let at_once = ENCODED_AT_ONCE.min(rows);
    let chunk = Array2::from_shape_fn((at_once, x.ncols()), |(row, column)| x[[row % x.nrows(), column]]);
    let began = Instant::now();
    for start in (0..rows).step_by(at_once) {
        go_on(cancel)?;
        let here = at_once.min(rows - start);
        model.encode(architecture, chunk.slice(ndarray::s![..here, ..]))?;
    }
    Ok(EncodeTime { rows, seconds: began.elapsed().as_secs_f64() })
}

fn write_fixture(
    path: &Path,
    options: &BenchOptions,
    architecture: &Architecture,
    objective: &Objective,
    x: &Array2<f32>,
    parameters: &Parameters,
    trace: &Trace,
) -> Result<(), TrainError> {
    let stats = trace.stats;
    let gradient = trace.gradient.map(|g| g as f32);
    let shapes = parameters.shapes();
    let names: Vec<String> = shapes.iter().map(|(name, _)| format!("grad.{name}")).collect();
    let x_shape = [x.nrows(), x.ncols()];
    let mut tensors: Vec<Tensor> = vec![("x", &x_shape, Values::F32(x.as_slice().expect("row-major")))];
    for (at, (name, shape)) in shapes.iter().enumerate() {
        tensors.push((name, shape, Values::F32(parameters.flat()[at])));
        tensors.push((&names[at], shape, Values::F32(gradient.flat()[at])));
    }
    let estimator = architecture.estimator();
    let metadata = [
        ("architecture", options.architecture.as_deref().unwrap_or(BAE).to_string()),
        ("loss", stats.loss.to_string()),
        ("mse", stats.mse.to_string()),
        ("entropyBits", stats.entropy_bits.to_string()),
        ("covariance", stats.covariance.to_string()),
        ("sparsity", stats.sparsity.to_string()),
        ("estimator", serde_json::to_string(&estimator).expect("a name and a width")),
        ("precision", serde_json::to_string(&options.precision).expect("a name")),
        ("entropyWeight", objective.entropy_weight.to_string()),
        ("covarianceWeight", objective.covariance_weight.to_string()),
        ("sparsityWeight", objective.sparsity_weight.to_string()),
        ("learningRate", options.learning_rate.to_string()),
        ("density", options.density.to_string()),
    ];
    Ok(save_tensors(path, &metadata, &tensors, false)?)
}

//! The step on a GPU.

use crate::device::{Device, locked};
use crate::memory::{
    ENTROPY_UNIT, Gradients, Scratch, Weights, Widths, clear_poison, poison, read_floats, read_words,
};
use crate::pass::{Against, Pass};
use crate::recording::{Part, Recording, TIMED, Timer};
use crate::shaders::{NO_NORM, NONE, Params, results};
use bae_codes::BitMatrix;
use bae_model::{
    Activation, Adam, Architecture, Backend, Batch, ModelError, Moments, Objective, Parameters, Precision,
    Stages, StepStats, Target, Trace, TrainingState, check_width,
};
use ndarray::{Array2, ArrayView2, s};
use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

/// A model on a device. Two runs with the same parameters and data on the same device give the same bits.
pub struct Gpu {
    pub(crate) device: Arc<Device>,
    pub(crate) state: Mutex<State>,
    pub(crate) widths: Widths,
    pub(crate) half: bool,
}

pub(crate) struct State {
    pub weights: Weights,
    pub scratch: Option<Scratch>,
    /// Made by the first step that clips them.
    gradients: Option<Gradients>,
    pub params: Option<wgpu::Buffer>,
    poison: wgpu::Buffer,
    /// Steps sent, and not refused.
    steps: u64,
    in_flight: VecDeque<InFlight>,
    readbacks: Vec<wgpu::Buffer>,
    timer: Option<Timer>,
    stages: Stages,
}

/// A step that was sent and whose scalars are not read yet.
struct InFlight {
    submission: wgpu::SubmissionIndex,
    readback: wgpu::Buffer,
    mapped: Receiver<Result<(), wgpu::BufferAsyncError>>,
    parts: Vec<Part>,
    subject: Subject,
}

/// What a step's scalars are of.
pub(crate) struct Subject {
    rows: usize,
    objective: Objective,
    labels: bool,
    binary: bool,
    clipped: bool,
}

impl Subject {
    pub fn of(architecture: &Architecture, objective: &Objective, batch: Batch, clipped: bool) -> Self {
        Self {
            rows: batch.x.nrows(),
            objective: *objective,
            labels: matches!(batch.target, Target::Labels(_)),
            binary: architecture.estimator().is_some(),
            clipped,
        }
    }
}

/// Steps whose scalars may be outstanding while another one is sent.
const LAG: usize = 2;

/// Rows of a batch at most: D_ij = n c_ij − s_i s_j has 31 bits.
const MAX_ROWS: usize = 46_340;

/// Entries of a batch's codes at most: n A_kj and the sums that it is compared with have 31 bits.
const MAX_ENTRIES: u64 = (1 << 31) - 1;

/// Bytes of what is largest when codes are made or decoded, at most.
const CHUNK_BYTES: usize = 1 << 26;

/// Where time stamps begin in a readback.
const STAMPS: u64 = 256;

impl Gpu {
    /// A model with these parameters and no steps taken, for batches of up to `rows` rows.
    ///
    /// # Errors
    /// [`ModelError::Unavailable`] with the numbers if the device cannot hold it, [`ModelError::DeviceMemory`],
    /// [`ModelError::DeviceLost`].
    pub fn new(device: &Arc<Device>, parameters: &Parameters, rows: usize) -> Result<Self, ModelError> {
        let weights = Weights::new(device, parameters, rows)?;
        let widths = weights.widths;
        let state = State {
            weights,
            scratch: None,
            gradients: None,
            params: None,
            poison: poison(device)?,
            steps: 0,
            in_flight: VecDeque::new(),
            readbacks: vec![],
            timer: None,
            stages: Stages::default(),
        };
        Ok(Self { device: device.clone(), state: Mutex::new(state), widths, half: false })
    }

    /// Refuses, with the reason and the numbers, what this device cannot do: steps of this precision on batches of `rows` rows
    /// with a model of these widths.
    ///
    /// # Errors
    /// [`ModelError::Unavailable`].
    pub fn check(
        device: &Device,
        precision: Precision,
        rows: usize,
        widths: Widths,
    ) -> Result<(), ModelError> {
        check_precision(device, precision)?;
        check_rows(rows, widths.d_sae)?;
        widths.block_features(device, rows).map(|_| ())
    }

    /// Steps with products of this precision; encoding and decoding stay f32.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub fn with_precision(self, precision: Precision) -> Result<Self, ModelError> {
        check_precision(&self.device, precision)?;
        Ok(Self { half: precision == Precision::F16, ..self })
    }

    /// Takes all the memory that steps on batches of up to `rows` rows need, but for the gradients that the first clipped one
    /// makes room for.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn with_room_for_steps(self, rows: usize) -> Result<Self, ModelError> {
        let mut state = locked(&self.state);
        state.weights.make_moments(&self.device)?;
        state.prepare(&self.device, rows, false)?;
        drop(state);
        Ok(self)
    }

    /// Takes the time of each stage, where the device has time stamps.
    ///
    /// # Errors
    /// As [`Gpu::new`].
    pub fn with_timing(self) -> Result<Self, ModelError> {
        if self.device.report().timestamps {
            locked(&self.state).timer = Some(Timer::new(&self.device)?);
        }
        Ok(self)
    }

    /// Blocks that the parameters are split into.
    pub fn blocks(&self) -> usize {
        locked(&self.state).weights.blocks.len()
    }

    pub(crate) fn check_batch(&self, architecture: &Architecture, batch: Batch) -> Result<(), ModelError> {
        batch.check(self.widths.d_in, self.widths.d_out)?;
        check_rows(batch.x.nrows(), self.widths.d_sae)?;
        if architecture.estimator().is_none() && locked(&self.state).weights.blocks.len() > 1 {
            let what = "codes that are real values, of a model that does not fit one binding of the GPU";
            return Err(ModelError::Unavailable(what.into()));
        }
        Ok(())
    }

    pub(crate) fn params(&self, architecture: &Architecture, objective: &Objective, batch: Batch) -> Params {
        let rows = batch.x.nrows();
        let n = rows as f64;
        let penalised = architecture.estimator().is_some();
        let covariance =
            if penalised && rows > 1 { 2.0 * objective.covariance_weight / (n * (n - 1.0)) } else { 0.0 };
        let threshold = (objective.entropy_threshold.max(0.0) * ENTROPY_UNIT).ceil() as u64;
        let undefined = penalised && objective.covariance(0.0, rows).is_nan();
        let params = Params {
            threshold_low: threshold as u32,
            threshold_high: (threshold >> 32) as u32,
            entropy_scale: (objective.entropy_weight / n) as f32,
            covariance_scale: covariance as f32,
            l1_weight: objective.l1_weight as f32,
            undefined: if undefined { f32::NAN.to_bits() } else { 0 },
            ..Params::new(rows, self.widths.d_in, self.widths.d_sae, self.widths.d_out)
        }
        .activation(architecture.activation)
        .output(architecture.output);
        if self.half { params.half() } else { params }
    }

    /// Sends one step and does not wait for it.
    fn send(
        &self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<(), ModelError> {
        self.check_batch(architecture, batch)?;
        let mut state = locked(&self.state);
        let state = &mut *state;
        let params = self.params(architecture, objective, batch);
        let updating = params.adam(adam, state.steps + 1);
        state.weights.make_moments(&self.device)?;
        state.prepare(&self.device, batch.x.nrows(), architecture.estimator().is_none())?;
        if adam.clips() && state.gradients.is_none() {
            state.gradients = Some(Gradients::new(&self.device, &state.weights)?);
        }
        state.upload(&self.device, batch)?;
        let readback = state.readback(&self.device)?;
        let State { weights, scratch, gradients, poison, timer, .. } = state;
        let scratch = scratch.as_ref().expect("prepared");
        let gradients = gradients.as_ref().filter(|_| adam.clips());
        let params = if adam.clips() { params } else { updating };
        let mut recording = Recording::new(&self.device);
        let pass = Pass {
            against: Against::of(batch),
            half: self.half,
            gradients,
            ..Pass::new(&self.device, weights, scratch, poison, params, architecture)
        };
        pass.record(&mut recording)?;
        if adam.clips() {
            pass.clipped_update(&mut recording, updating)?;
        }
        pass.idle(&mut recording)?;
        recording.copy(&scratch.results, &readback, 4 * results::COUNT as u64);
        recording.copy_to(poison, &readback, 4 * results::POISON as u64, 4);
        let timer = timer.as_ref().map(|timer| (timer, &readback, STAMPS));
        let (submission, parts) = recording.submit(&mut state.params, timer)?;
        state.steps += 1;
        let (done, mapped) = std::sync::mpsc::channel();
        readback.map_async(wgpu::MapMode::Read, .., move |result| {
            let _ = done.send(result);
        });
        state.in_flight.push_back(InFlight {
            submission,
            readback,
            mapped,
            parts,
            subject: Subject::of(architecture, objective, batch, adam.clips()),
        });
        Ok(())
    }

    /// Waits for the oldest step that was sent.
    fn receive(&self) -> Result<Option<StepStats>, ModelError> {
        let mut state = locked(&self.state);
        let Some(step) = state.in_flight.pop_front() else { return Ok(None) };
        let words = self.scalars(&mut state, &step)?;
        let entry = words[results::POISON];
        if entry == NONE {
            return Ok(Some(self.stats(&words, &step.subject)));
        }
        // this step and those after it changed nothing
        let failed = 1 + state.in_flight.len() as u64;
        while let Some(step) = state.in_flight.pop_front() {
            self.scalars(&mut state, &step)?;
        }
        state.steps -= failed;
        clear_poison(&self.device, &state.poison)?;
        Err(not_finite(entry, self.widths.d_sae))
    }

    /// Waits for a step and reads its scalars and times.
    fn scalars(&self, state: &mut State, step: &InFlight) -> Result<[u32; results::COUNT], ModelError> {
        self.device.wait(Some(step.submission.clone()))?;
        let mut words = [0u32; results::COUNT];
        let mut stamps = vec![0u64; 2 * step.parts.len()];
        let bytes = step.readback.size();
        self.device.mapped(&step.mapped, &step.readback, bytes, |read| {
            let (scalars, rest) = read.split_at(4 * results::COUNT);
            bytemuck::cast_slice_mut(&mut words).copy_from_slice(scalars);
            if !stamps.is_empty() {
                let from = STAMPS as usize - scalars.len();
                let into: &mut [u8] = bytemuck::cast_slice_mut(&mut stamps);
                let length = into.len();
                into.copy_from_slice(&rest[from..from + length]);
            }
        })?;
        let period = f64::from(self.device.queue.get_timestamp_period()) * 1e-9;
        for (part, stamps) in step.parts.iter().zip(stamps.as_chunks::<2>().0) {
            let seconds = stamps[1].saturating_sub(stamps[0]) as f64 * period;
            *part_of(&mut state.stages, *part) += seconds;
        }
        state.readbacks.push(step.readback.clone());
        Ok(words)
    }

    pub(crate) fn stats(&self, words: &[u32; results::COUNT], step: &Subject) -> StepStats {
        let float = |at: usize| f64::from(f32::from_bits(words[at]));
        let rows = step.rows as f64;
        let terms = if step.labels { rows } else { rows * self.widths.d_out as f64 };
        let mut stats = StepStats { mse: float(results::ERROR) / terms, ..StepStats::default() };
        if step.labels {
            stats.accuracy = Some(float(results::HITS) / rows);
        }
        if step.binary {
            stats.entropy_bits = results::wide(words, results::ENTROPY_LOW) as f64 / ENTROPY_UNIT;
            let absolute = results::wide(words, results::ABSOLUTE_LOW) as f64;
            stats.covariance = step.objective.covariance(absolute, step.rows);
        } else {
            stats.l1 = float(results::SIZES);
        }
        if step.clipped {
            stats.gradient_norm = Some(float(results::GRADIENT).sqrt());
        }
        step.objective.total(&mut stats);
        stats
    }
}

/// Refuses products that the device does not have.
fn check_precision(device: &Device, precision: Precision) -> Result<(), ModelError> {
    let name = &device.report().name;
    let refuse = |what: String| Err(ModelError::Unavailable(what));
    match precision {
        Precision::F16 if !device.report().half_floats => {
            refuse(format!("precision f16: {name} has no half floats; use f32"))
        }
        Precision::Bf16 => refuse(format!(
            "precision bf16: wgpu offers no bfloat16, so neither does {name}; use f32 or f16, or the device cpu"
        )),
        Precision::F32 | Precision::F16 => Ok(()),
    }
}

/// Refuses batches whose counts leave 32 bits.
fn check_rows(rows: usize, d_sae: usize) -> Result<(), ModelError> {
    let refuse = |what: String| Err(ModelError::Unavailable(what));
    if rows > MAX_ROWS {
        return refuse(format!(
            "a batch of {rows} rows: the GPU counts covariances in 32 bits, enough for {MAX_ROWS} rows; choose a smaller batch or the CPU"
        ));
    }
    if rows as u64 * d_sae as u64 > MAX_ENTRIES {
        return refuse(format!(
            "a batch of {rows} rows with {d_sae} features: the GPU counts signs in 32 bits, enough for {MAX_ENTRIES} entries; choose a smaller batch or the CPU"
        ));
    }
    Ok(())
}

pub(crate) fn not_finite(entry: u32, d_sae: usize) -> ModelError {
    if entry == NO_NORM {
        return ModelError::GradientNotFinite;
    }
    ModelError::NotFinite { row: entry as usize / d_sae, feature: entry as usize % d_sae }
}

fn part_of(stages: &mut Stages, part: Part) -> &mut f64 {
    match part {
        Part::Encode => &mut stages.encode,
        Part::Turn => &mut stages.turn,
        Part::Decode => &mut stages.decode,
        Part::Errors => &mut stages.errors,
        Part::Covariance => &mut stages.covariance,
        Part::Penalties => &mut stages.penalties,
        Part::GradH => &mut stages.grad_h,
        Part::GradEncoder => &mut stages.grad_encoder,
        Part::GradDecoder => &mut stages.grad_decoder,
        Part::Adam => &mut stages.adam,
    }
}

impl State {
    /// Rows that are encoded or decoded at once.
    fn chunk(&self) -> usize {
        let Widths { d_in, d_sae, d_out } = self.weights.widths;
        let widest = self.weights.block_features().max(d_in).max(d_out).max(d_sae / 32).max(1);
        (CHUNK_BYTES / 4 / widest).min(MAX_ENTRIES as usize / d_sae.max(1)).clamp(1, MAX_ROWS)
    }

    /// Makes memory for batches of so many rows.
    pub fn prepare(&mut self, device: &Device, rows: usize, real_valued: bool) -> Result<(), ModelError> {
        let fits = |scratch: &Scratch| scratch.rows >= rows && (scratch.values.is_some() || !real_valued);
        if !self.scratch.as_ref().is_some_and(fits) {
            // the old one first: both may not fit
            let rows = self.scratch.take().map_or(rows, |scratch| rows.max(scratch.rows));
            self.scratch = Some(Scratch::new(device, &self.weights, rows, real_valued)?);
        }
        self.scratch.as_mut().expect("just made").tables_for(device, rows)
    }

    /// Copies a batch towards the device; it may still be at work on the one before.
    pub fn upload(&self, device: &Device, batch: Batch) -> Result<(), ModelError> {
        let scratch = self.scratch.as_ref().expect("prepared");
        let write = |buffer: &wgpu::Buffer, states: ArrayView2<f32>| {
            let states = states.as_standard_layout();
            let bytes = bytemuck::cast_slice(states.as_slice().expect("row-major"));
            device.queue.write_buffer(buffer, 0, bytes);
        };
        device.watched(|| {
            write(&scratch.x, batch.x);
            match batch.target {
                Target::Input => {}
                Target::States(states) => write(&scratch.target, states),
                Target::Labels(labels) => {
                    device.queue.write_buffer(&scratch.target, 0, bytemuck::cast_slice(labels));
                }
            }
        })
    }

    /// A buffer that a step's scalars can be read from.
    fn readback(&mut self, device: &Device) -> Result<wgpu::Buffer, ModelError> {
        if let Some(buffer) = self.readbacks.pop() {
            return Ok(buffer);
        }
        let stamps = if self.timer.is_some() { u64::from(TIMED) * 16 } else { 0 };
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        device.allocate("results", STAMPS + stamps, usage)
    }
}

impl Backend for Gpu {
    fn d_sae(&self) -> usize {
        self.widths.d_sae
    }

    fn step(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<StepStats, ModelError> {
        self.send(architecture, objective, adam, batch)?;
        let mut last = None;
        while let Some(stats) = self.receive()? {
            last = Some(stats);
        }
        Ok(last.expect("a step was sent"))
    }

    fn step_ahead(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        adam: &Adam,
        batch: Batch,
    ) -> Result<Option<StepStats>, ModelError> {
        self.send(architecture, objective, adam, batch)?;
        if locked(&self.state).in_flight.len() > LAG { self.receive() } else { Ok(None) }
    }

    fn catch_up(&mut self) -> Result<Option<StepStats>, ModelError> {
        self.receive()
    }

    fn trace(
        &mut self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        self.look_into(architecture, objective, batch)
    }

    fn encode(&self, architecture: &Architecture, x: ArrayView2<f32>) -> Result<BitMatrix, ModelError> {
        check_width("hidden states", self.widths.d_in, x.ncols())?;
        let mut all = BitMatrix::zeros(0, self.widths.d_sae);
        let mut state = locked(&self.state);
        let chunk = state.chunk();
        for start in (0..x.nrows()).step_by(chunk) {
            let rows = x.slice(s![start..x.nrows().min(start + chunk), ..]);
            let codes = self.encode_chunk(&mut state, architecture, rows).map_err(|error| match error {
                ModelError::NotFinite { row, feature } => ModelError::NotFinite { row: row + start, feature },
                other => other,
            })?;
            all.append(&codes).expect("codes of one model");
        }
        Ok(all)
    }

    fn decode(&self, architecture: &Architecture, codes: &BitMatrix) -> Result<Array2<f32>, ModelError> {
        check_width("a code", self.widths.d_sae, codes.features())?;
        let mut state = locked(&self.state);
        let mut all = Array2::zeros((codes.rows(), self.widths.d_out));
        let (mut start, chunk) = (0, state.chunk());
        for chunk in codes.chunks(chunk) {
            let y = self.decode_chunk(&mut state, architecture, &chunk)?;
            all.slice_mut(s![start..start + chunk.rows(), ..]).assign(&y);
            start += chunk.rows();
        }
        Ok(all)
    }

    fn covariance(&self, codes: &BitMatrix) -> Result<f64, ModelError> {
        check_width("a code", self.widths.d_sae, codes.features())?;
        let rows = codes.rows();
        if rows < 2 {
            return Ok(0.0);
        }
        if rows > MAX_ROWS {
            return Err(ModelError::Unavailable(format!(
                "the covariance of {rows} rows: the GPU counts in 32 bits, enough for {MAX_ROWS} rows"
            )));
        }
        let mut state = locked(&self.state);
        let state = &mut *state;
        let architecture = Architecture::binary(bae_model::Estimator::Identity);
        let scratch = &Scratch::for_codes(&self.device, &state.weights, rows)?;
        self.device.watched(|| {
            self.device.queue.write_buffer(&scratch.codes, 0, bytemuck::cast_slice(&codes.to_panels()));
        })?;
        let mut recording = Recording::new(&self.device);
        let params = Params::new(rows, self.widths.d_in, self.widths.d_sae, self.widths.d_out);
        let pass = Pass::new(&self.device, &state.weights, scratch, &state.poison, params, &architecture);
        recording.clear(&scratch.results);
        recording.params(&params);
        pass.turn(&mut recording)?;
        for block in &state.weights.blocks {
            pass.signs(&mut recording, block)?;
        }
        recording.submit(&mut state.params, None)?;
        let words = read_words(&self.device, &scratch.results, results::COUNT)?;
        let sum = results::wide(&words, results::ABSOLUTE_LOW);
        Ok(sum as f64 / (rows as f64 * (rows as f64 - 1.0)))
    }

    fn parameters(&self) -> Result<Parameters, ModelError> {
        locked(&self.state).weights.parameters(&self.device)
    }

    fn moments(&self) -> Result<Moments, ModelError> {
        let state = locked(&self.state);
        state.weights.moments(&self.device, state.steps)
    }

    fn idle(&self) -> Result<Vec<u32>, ModelError> {
        locked(&self.state).weights.idle(&self.device)
    }

    fn restore(&mut self, from: &TrainingState) -> Result<(), ModelError> {
        let Widths { d_in, d_sae, d_out } = self.widths;
        from.check(d_in, d_sae, d_out)?;
        let mut state = locked(&self.state);
        state.weights.restore(&self.device, from)?;
        state.steps = from.moments.steps;
        Ok(())
    }

    fn stages(&self) -> Stages {
        locked(&self.state).stages
    }
}

impl Gpu {
    fn encode_chunk(
        &self,
        state: &mut State,
        architecture: &Architecture,
        x: ArrayView2<f32>,
    ) -> Result<BitMatrix, ModelError> {
        let rows = x.nrows();
        let poison = poison(&self.device)?;
        let batch = Batch { x, target: Target::Input };
        state.prepare(&self.device, rows, architecture.estimator().is_none())?;
        state.upload(&self.device, batch)?;
        let scratch = state.scratch.as_ref().expect("prepared");
        let params = self.params(architecture, &Objective::default(), batch);
        let weights = &state.weights;
        let mut recording = Recording::new(&self.device);
        let pass = Pass {
            against: Against::of(batch),
            half: self.half,
            ..Pass::new(&self.device, weights, scratch, &poison, params, architecture)
        };
        pass.codes(&mut recording)?;
        recording.submit(&mut state.params, None)?;
        let entry = read_words(&self.device, &poison, 1)?[0];
        if entry != NONE {
            return Err(not_finite(entry, self.widths.d_sae));
        }
        let words = read_words(&self.device, &scratch.codes, self.widths.d_sae.div_ceil(32) * rows)?;
        Ok(BitMatrix::from_panels(rows, self.widths.d_sae, &words))
    }

    fn decode_chunk(
        &self,
        state: &mut State,
        architecture: &Architecture,
        codes: &BitMatrix,
    ) -> Result<Array2<f32>, ModelError> {
        let rows = codes.rows();
        let binary =
            Architecture { activation: Activation::Binary(bae_model::Estimator::Identity), ..*architecture };
        state.prepare(&self.device, rows, false)?;
        let scratch = state.scratch.as_ref().expect("prepared");
        self.device.watched(|| {
            self.device.queue.write_buffer(&scratch.codes, 0, bytemuck::cast_slice(&codes.to_panels()));
        })?;
        let params = Params::new(rows, self.widths.d_in, self.widths.d_sae, self.widths.d_out)
            .output(architecture.output);
        let mut recording = Recording::new(&self.device);
        let pass = Pass::new(&self.device, &state.weights, scratch, &state.poison, params, &binary);
        pass.outputs(&mut recording)?;
        recording.submit(&mut state.params, None)?;
        let y = read_floats(&self.device, &scratch.y, rows * self.widths.d_out)?;
        Ok(Array2::from_shape_vec((rows, self.widths.d_out), y).expect("as many as read"))
    }
}

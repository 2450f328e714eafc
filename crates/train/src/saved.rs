//! What a checkpoint says of a training, and going on from one.

use crate::spaces::Spaces;
use crate::{EngineReport, Evaluation, Event, Plan, TrainError};
use bae_data::{DataError, Dataset, StoredCheckpoint, Values};
use bae_model::{Moments, Normalisation, Parameters, StepStats, TrainingState};
use ndarray::Array1;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How far a run has come: all that is no tensor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Progress {
    /// Steps taken and told of.
    pub step: usize,
    /// Whether the validation that is due after that step is still to be done.
    pub pending: bool,
    /// Sums over the steps of the epoch.
    pub means: Means,
    /// All epochs and validations.
    pub history: Vec<Event>,
    /// The untrained model on the held-out rows.
    pub before: Option<Evaluation>,
    /// The best model so far.
    pub best: Option<Best>,
    /// Validations since then.
    pub since_best: usize,
    /// Whether nothing got better any more.
    pub ended_early: bool,
    /// Seconds until then.
    pub seconds: f64,
    /// Standard deviation of the encoder's input noise.
    pub noise: f32,
}

/// Figures of the best model so far.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Best {
    pub step: usize,
    /// The objective at its final weights, where rows are held out.
    pub loss: Option<f64>,
    pub evaluation: Option<Evaluation>,
}

/// Sums over the steps of an epoch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Means {
    pub sums: [f64; 4],
    pub steps: usize,
}

impl Means {
    pub fn add(&mut self, stats: &StepStats) {
        let values = [stats.loss, stats.mse, stats.entropy_bits, stats.covariance];
        self.sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        self.steps += 1;
    }
}

/// The JSON of a checkpoint.
pub(crate) fn state_of(
    plan: &Plan,
    data: &Value,
    engine: &EngineReport,
    progress: &Progress,
) -> Map<String, Value> {
    let Value::Object(state) = json!({
        "format": FORMAT,
        "training": plan,
        "data": data,
        "engine": { "device": engine.device, "adapter": engine.adapter },
        "progress": progress,
    }) else {
        unreachable!("an object")
    };
    state
}

/// The tensors of a checkpoint.
pub(crate) fn tensors_of<'a>(
    state: &'a TrainingState,
    spaces: &'a Spaces,
) -> Vec<(String, Vec<usize>, Values<'a>)> {
    let TrainingState { parameters, moments, idle } = state;
    let mut tensors = vec![];
    for (prefix, of) in [("parameters", parameters), ("first", &moments.first), ("second", &moments.second)] {
        for ((name, shape), values) in of.shapes().into_iter().zip(of.flat()) {
            tensors.push((format!("{prefix}.{name}"), shape, Values::F32(values)));
        }
    }
    for (name, values) in spaces.tensors() {
        tensors.push((name.to_owned(), vec![values.len()], Values::F32(values)));
    }
    tensors.push(("idle".to_owned(), vec![idle.len()], Values::U32(idle)));
    tensors
}

/// What a checkpoint holds, if it is of this plan, data and engine.
///
/// # Errors
/// `INVALID_ARGUMENT` naming what differs with both values; `CORRUPT_FILE` for what no training wrote.
pub(crate) fn restore(
    checkpoint: &StoredCheckpoint,
    plan: &Plan,
    data: &Value,
    engine: &EngineReport,
    of: &Dataset,
) -> Result<(Progress, TrainingState, Spaces), TrainError> {
    let state = &checkpoint.state;
    if state.get("format") != Some(&json!(FORMAT)) {
        return Err(TrainError::Option(format!(
            "the checkpoint is of format {}, this version goes on from {FORMAT}: go on with the version that wrote it, or start anew",
            state.get("format").unwrap_or(&Value::Null)
        )));
    }
    // the plan's steps follow from the data: that is looked at first
    same("data.", state.get("data"), data)?;
    same("", state.get("training"), &json!(plan))?;
    let engine = json!({ "device": engine.device, "adapter": engine.adapter });
    same("", state.get("engine"), &engine)?;
    let damaged = |error: serde_json::Error| {
        let message =
            format!("the checkpoint's progress cannot be read: {error}; start anew with --overwrite");
        TrainError::Data(DataError::CorruptFile(message))
    };
    let progress = state.get("progress").cloned().unwrap_or_default();
    let progress: Progress = serde_json::from_value(progress).map_err(damaged)?;
    let d_sae = plan.d_sae;
    let parameters = |prefix: &str| -> Result<Parameters, TrainError> {
        let mut parameters = plan.zeros(of.d_in(), of.d_out());
        for ((name, shape), to) in parameters.shapes().into_iter().zip(parameters.flat_mut()) {
            to.copy_from_slice(&checkpoint.floats(&format!("{prefix}.{name}"), &shape)?);
        }
        Ok(parameters)
    };
    let training = TrainingState {
        parameters: parameters("parameters")?,
        moments: Moments {
            first: parameters("first")?,
            second: parameters("second")?,
            steps: progress.step as u64,
        },
        idle: checkpoint.counts("idle", &[d_sae])?,
    };
    let normalisation = |centre: &str, scale: &str, d: usize| -> Result<Normalisation, TrainError> {
        Ok(Normalisation {
            centre: Array1::from(checkpoint.floats(centre, &[d])?),
            scale: Array1::from(checkpoint.floats(scale, &[d])?),
        })
    };
    let target = of.has_target().then(|| normalisation("target_centre", "target_scale", of.d_out()));
    let spaces = Spaces { input: normalisation("centre", "scale", of.d_in())?, target: target.transpose()? };
    Ok((progress, training, spaces))
}

/// What tells the data from other data. To be asked before training: later it may be gone.
///
/// # Errors
/// Those of reading.
pub(crate) fn described(data: &Dataset) -> Result<Value, TrainError> {
    Ok(json!({
        "rows": data.rows(),
        "dIn": data.d_in(),
        "sources": data.sources(),
        "checksum": data.fingerprint()?,
    }))
}

/// Version of what is written here.
const FORMAT: u32 = 1;

/// Refuses what would make another training of it.
fn same(prefix: &str, then: Option<&Value>, now: &Value) -> Result<(), TrainError> {
    let (Some(Value::Object(then)), Value::Object(now)) = (then, now) else {
        return Err(TrainError::Option("the checkpoint does not say what it is of; start anew".into()));
    };
    for name in now.keys().chain(then.keys()) {
        let (then, now) = (then.get(name).unwrap_or(&Value::Null), now.get(name).unwrap_or(&Value::Null));
        if then != now && name == "checksum" {
            return Err(TrainError::Option(format!(
                "the data is another than that of the checkpoint (checksum {now}, then {then}): files of other names or sizes, in \
                 another order, or with other rows or targets; give the data that it was made with, or choose another --out"
            )));
        }
        if then != now {
            return Err(TrainError::Option(format!(
                "{prefix}{name} is {now}, the checkpoint was made with {then}: that would be another training; give what it \
                 was made with, or choose another --out"
            )));
        }
    }
    Ok(())
}

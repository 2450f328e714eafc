use crate::error::Failure;
use crate::job::{self, Context, End, Events, Job};
use crate::model::Loaded;
use crate::states::States;
use bae_data::{LAYER_NORM, LoadedModel, model_config};
use bae_train::{Outcome, Stopped, TrainOptions};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

/// Trains a model, to make `target` of the states if there is one; `options_json` are the options of `train`, by the names that the
/// documentation gives.
#[napi(catch_unwind)]
pub fn start_train(
    states: States,
    target: Option<States>,
    options_json: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (options, states) = (options_of(&options_json)?, states.hold()?);
    let states = states.with_target(target.map(States::hold).transpose()?);
    job::start(on_event, move |context| {
        let data = states.open()?;
        let outcome =
            bae_train::train(&data, &options, context.cancel_flag(), &mut |event| context.progress(event))?;
        finish(context, outcome)
    })
}

/// Says what training would refuse of these options, from the headers of the data alone; done with `{ rows, dIn, dSae }`.
#[napi(catch_unwind)]
pub fn start_check_training(
    states: States,
    options_json: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (options, states) = (options_of(&options_json)?, states.hold()?);
    job::start(on_event, move |_| {
        let data = states.open()?;
        let plan = options.check(&data)?;
        Ok(End::Done(json!({ "rows": data.rows(), "dIn": data.d_in(), "dSae": plan.d_sae })))
    })
}

fn options_of(json: &str) -> std::result::Result<TrainOptions, Failure> {
    serde_json::from_str(json)
        .map_err(|error| Failure { code: "INVALID_ARGUMENT", message: format!("options: {error}") })
}

/// Hands over what a run came to, also when it was stopped.
fn finish(context: &Context, outcome: Outcome) -> std::result::Result<End, Failure> {
    let Outcome { model, architecture, settings, summary, history, stopped, saved, checkpoint, .. } = outcome;
    let shown = |path: Option<PathBuf>| path.map(|path| path.display().to_string());
    let (saved, checkpoint) = (shown(saved), shown(checkpoint));
    match stopped {
        Some(Stopped::Cancelled) => Ok(End::Cancelled(json!({
            "steps": summary.steps, "bestStep": summary.best_step, "model": saved, "checkpoint": checkpoint,
        }))),
        Some(Stopped::Failed(error)) => {
            let Failure { code, message } = error.into();
            let kept =
                saved.map_or(String::new(), |path| format!("; the best model before that is in {path}"));
            let resumed =
                checkpoint.map_or(String::new(), |path| format!("; what can be resumed is in {path}"));
            Err(Failure { code, message: format!("{message}{kept}{resumed}") })
        }
        None => {
            let mut done = json!(summary);
            done["model"] = json!(saved);
            done["history"] = json!(history);
            let config = model_config(&architecture, &model, &settings);
            let layer_norm = config.get("normalize_activations").is_some_and(|how| how == LAYER_NORM);
            let model = LoadedModel { parameters: model, architecture, layer_norm, config };
            let loaded = Arc::new(Loaded::new(model));
            context.leave(|output| output.model = Some(loaded));
            Ok(End::Done(done))
        }
    }
}

/// Names of all architectures that can be trained.
#[napi(catch_unwind)]
pub fn architectures() -> Vec<String> {
    bae_train::architectures().map(String::from).collect()
}

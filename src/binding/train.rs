use crate::error::Failure;
use crate::job::{self, Context, End, Events, Job};
use crate::model::Loaded;
use crate::states::States;
use bae_data::{model_config, save_model};
use bae_train::{Outcome, Stopped, TrainOptions};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::{Map, json};
use std::sync::Arc;

/// Trains a model; `options_json` are the options of `train`, by the names that the documentation gives.
#[napi(catch_unwind)]
pub fn start_train(
    states: States,
    options_json: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let options: TrainOptions = serde_json::from_str(&options_json)
        .map_err(|error| Failure { code: "INVALID_ARGUMENT", message: format!("options: {error}") })?;
    let states = states.hold()?;
    job::start(on_event, move |context| {
        let data = states.open()?;
        let outcome =
            bae_train::train(&data, &options, context.cancel_flag(), &mut |event| context.progress(event))?;
        finish(context, &options, outcome)
    })
}

/// Saves and hands over what a run came to, also when it was stopped.
fn finish(context: &Context, options: &TrainOptions, outcome: Outcome) -> std::result::Result<End, Failure> {
    let Outcome { model, summary, history, stopped, plan } = outcome;
    let mut settings = Map::new();
    settings.insert("training".into(), json!(plan));
    settings.insert("summary".into(), json!(summary));
    let config = model_config(&model, &settings);
    let saved = options.out.as_deref().filter(|_| stopped.is_none() || summary.steps > 0);
    if let Some(out) = saved {
        save_model(out, &model, &config, options.overwrite)?;
    }
    let kept = saved.map(|out| out.display().to_string());
    match stopped {
        Some(Stopped::Cancelled) => Ok(End::Cancelled(json!({
            "steps": summary.steps, "bestStep": summary.best_step, "model": kept,
        }))),
        Some(Stopped::Failed(error)) => {
            let Failure { code, message } = error.into();
            let kept =
                kept.map_or(String::new(), |path| format!("; the best model before that is in {path}"));
            Err(Failure { code, message: format!("{message}{kept}") })
        }
        None => {
            let mut done = json!(summary);
            done["model"] = json!(kept);
            done["history"] = json!(history);
            let loaded = Arc::new(Loaded::new(model, config));
            context.leave(|output| output.model = Some(loaded));
            Ok(End::Done(done))
        }
    }
}

use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use bae_train::BenchOptions;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;

/// Times training steps; `options_json` are the options of `bench`, by the names that the documentation gives.
#[napi(catch_unwind)]
pub fn start_bench(
    options_json: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let options: BenchOptions = serde_json::from_str(&options_json)
        .map_err(|error| Failure { code: "INVALID_ARGUMENT", message: format!("options: {error}") })?;
    job::start(on_event, move |context| {
        let total = options.warm_up.saturating_add(options.steps);
        let mut progress =
            |steps| context.progress(&json!({ "type": "steps", "steps": steps, "total": total }));
        match bae_train::bench(&options, context.cancel_flag(), &mut progress) {
            Ok(report) => Ok(End::Done(json!(report))),
            Err(bae_train::TrainError::Cancelled) => Ok(End::Cancelled(json!({}))),
            Err(error) => Err(error.into()),
        }
    })
}

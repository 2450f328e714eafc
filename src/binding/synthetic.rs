use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use bae_train::{SyntheticOptions, TrainError, synthetic};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;

/// Trains on hidden states of known entropy; `options_json` are the options of `synthetic`, those of the training apart.
#[napi(catch_unwind)]
pub fn start_synthetic(
    options_json: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let options: SyntheticOptions = serde_json::from_str(&options_json)
        .map_err(|error| Failure { code: "INVALID_ARGUMENT", message: format!("options: {error}") })?;
    job::start(on_event, move |context| {
        match synthetic(&options, context.cancel_flag(), &mut |event| context.progress(event)) {
            Ok(report) => Ok(End::Done(json!(report))),
            Err(TrainError::Cancelled) => Ok(End::Cancelled(json!({}))),
            Err(error) => Err(error.into()),
        }
    })
}

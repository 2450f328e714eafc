use crate::job::{self, End, Events, Job};
use bae_gpu::{adapters, automatic};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;

/// Finds the devices there are, and which one `auto` takes or why it takes the CPU.
#[napi(catch_unwind)]
pub fn start_devices(
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |_| {
        let devices = adapters();
        let (automatic, reason) = match automatic(&devices) {
            Ok(index) => (Some(index), None),
            Err(reason) => (None, Some(reason)),
        };
        Ok(End::Done(json!({ "devices": devices, "automatic": automatic, "reason": reason })))
    })
}

//! What two models share.

use crate::job::{self, End, Events, Job};
use crate::model::{Model, Place};
use crate::states::States;
use bae_train::{CompareOptions, compare};
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// From which likeness on features are alike.
#[napi(object, object_to_js = false)]
pub struct CompareRequest {
    /// Of decoder rows.
    pub cosine_threshold: f64,
    /// Of codes.
    pub phi_threshold: f64,
}

/// Compares the features of two models by their decoders and, where there are hidden states, by their codes.
#[napi(catch_unwind)]
pub fn start_compare(
    a: &Model,
    b: &Model,
    states: Option<States>,
    request: CompareRequest,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (a, b) = (a.get()?, b.get()?);
    let states = states.map(States::hold).transpose()?;
    let CompareRequest { cosine_threshold, phi_threshold } = request;
    let options = CompareOptions { cosine_threshold, phi_threshold };
    job::start(on_event, move |context| {
        let chosen = states.map(|states| states.choose(context)).transpose()?;
        if let Some(chosen) = &chosen {
            a.takes(chosen, "the first model")?;
            b.takes(chosen, "the second model")?;
        }
        let feed = chosen.as_ref().map(|chosen| chosen.feed());
        let total = feed.as_ref().map_or(0, |feed| feed.rows());
        let (a, b) = (a.on(place.clone())?, b.on(place)?);
        let found = compare(&a, &b, feed.as_ref(), &options, |done| context.rows(done, total))?;
        let found = serde_json::to_value(found).expect("plain numbers");
        Ok(End::Done(match &chosen {
            Some(chosen) => chosen.complete(found),
            None => found,
        }))
    })
}

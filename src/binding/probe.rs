//! Probes of features and hidden states for labels.

use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use crate::model::{Model, Place};
use crate::states::States;
use bae_codes::Label;
use bae_data::Labels;
use bae_train::{ProbeOptions, probe};
use napi::bindgen_prelude::*;
use napi_derive::napi;

/// What to probe for, and on which rows.
#[napi(object, object_to_js = false)]
pub struct ProbeRequest {
    /// A column of the data, or a file of labels ...
    pub label: Option<String>,
    /// ... or the different labels there are ...
    pub values: Option<Vec<Either<i64, String>>>,
    /// ... and which of them each row has; -1 for none.
    pub label_of_row: Option<Int32Array>,
    /// Rows drawn, at most.
    pub rows: u32,
    /// Random divisions into training and test rows.
    pub splits: u32,
    /// Decides the draws.
    pub seed: f64,
}

/// Tells how well labels can be read off the features, and off the hidden states.
#[napi(catch_unwind)]
pub fn start_probe(
    model: &Model,
    states: States,
    request: ProbeRequest,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    let options = ProbeOptions {
        rows: request.rows as usize,
        splits: request.splits as usize,
        seed: request.seed as u64,
        threads: place.threads as usize,
    };
    // taken before JavaScript can change them
    let given = request.values.zip(request.label_of_row).map(|(values, of_row)| {
        let label = |&value: &i32| match values.get(usize::try_from(value).ok()?)? {
            Either::A(number) => Some(Label::Number(*number)),
            Either::B(text) => Some(Label::Text(text.clone())),
        };
        Labels::new(of_row.iter().map(label))
    });
    job::start(on_event, move |context| {
        let chosen = model.open(states, context)?;
        let labels = match (given, request.label) {
            (Some(labels), _) => labels,
            (None, Some(spec)) => Labels::read(&chosen.data, &spec)?,
            (None, None) => {
                let message = "no label given: name a column, or give one for each row".into();
                return Err(Failure { code: "INVALID_ARGUMENT", message });
            }
        };
        let applied = model.on(place)?;
        let report = probe(&applied, &chosen.data, &chosen.rows, &labels, &options, |done, total| {
            context.rows(done, total)
        })?;
        Ok(End::Done(chosen.complete(serde_json::to_value(report).expect("plain numbers"))))
    })
}

//! The fixtures of `__test__/parity` that take a step, on the GPU. What reads them is shared with the other engines.

#[path = "../device/mod.rs"]
mod device;
// some of both is for cases that take no step
#[path = "../../../model/tests/parity/fixture.rs"]
#[allow(dead_code)]
mod fixture;
#[path = "../../../model/tests/parity/training.rs"]
#[allow(dead_code)]
mod training;

use bae_gpu::Gpu;
use bae_model::{Backend, Parameters};
use fixture::{Case, every};

/// Rows of the largest batch of a fixture.
const ROWS: usize = 512;

fn engines(parameters: &Parameters) -> Vec<(&'static str, Box<dyn Backend>)> {
    let gpu = |device| Gpu::new(&device, parameters, ROWS).expect("a model that fits");
    device::device().map(|device| ("gpu", Box::new(gpu(device)) as Box<dyn Backend>)).into_iter().collect()
}

/// WGSL leaves open what arithmetic makes of NaN and infinity, so a batch that leads there is refused with row and feature,
/// where the published code goes on with NaN: cases that hold such values may end that way, and say so.
fn finite(check: impl Fn(&Case)) -> impl Fn(&Case) {
    move |case| {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(case)));
        let Err(cause) = outcome else { return };
        let refused = cause.downcast_ref::<String>().is_some_and(|message| message.contains("NotFinite"));
        if refused && !is_finite(case) {
            println!("{}: skipped, a batch that is not finite is refused", case.name());
        } else {
            std::panic::resume_unwind(cause);
        }
    }
}

/// Whether all tensors of the case hold numbers only.
fn is_finite(case: &Case) -> bool {
    let tensors = case.json["tensors"].as_object().expect("tensors");
    tensors.keys().all(|tensor| case.values(tensor).1.iter().all(|value| value.is_finite()))
}

#[test]
fn parity_bae_step() {
    every("bae_step", finite(training::one_step));
}

#[test]
fn parity_sae_step() {
    every("sae_step", finite(training::one_step));
}

#[test]
fn parity_bae_eval() {
    every("bae_eval", finite(training::validation));
}

#[test]
fn parity_bae_train() {
    every("bae_train", finite(training::run));
}

#[test]
fn parity_sae_train() {
    every("sae_train", finite(training::run));
}

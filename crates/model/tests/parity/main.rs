//! The fixtures of `__test__/parity` (its README says what each means), against the f64 reference and the CPU.
//!
//! `BAE_PARITY_DIR` points at another folder with the same manifest.

mod codes;
mod fixture;
mod interpretation;
mod training;
mod values;

use bae_model::{Backend, Cpu, Parameters, reference::Reference};
use fixture::every;

/// The engines that must all pass, with these parameters.
fn engines(parameters: &Parameters) -> Vec<(&'static str, Box<dyn Backend>)> {
    vec![("reference", Box::new(Reference::new(parameters))), ("cpu", Box::new(Cpu::new(parameters, 2)))]
}

#[test]
fn parity_step_fn() {
    every("step_fn", training::step_functions);
}

#[test]
fn parity_bae_step() {
    every("bae_step", training::one_step);
}

#[test]
fn parity_sae_step() {
    every("sae_step", training::one_step);
}

#[test]
fn parity_sae_step_of_values() {
    every("sae_step", values::one_step);
}

#[test]
fn parity_sae_train_of_values() {
    every("sae_train", values::run);
}

#[test]
fn parity_bae_eval() {
    every("bae_eval", training::validation);
}

#[test]
fn parity_bae_train() {
    every("bae_train", training::run);
}

#[test]
fn parity_sae_train() {
    every("sae_train", training::run);
}

#[test]
fn parity_code_stats() {
    every("code_stats", codes::statistics);
}

#[test]
fn parity_compress() {
    every("compress", codes::compress);
}

#[test]
fn parity_synthetic() {
    every("synthetic", codes::synthetic);
}

#[test]
fn parity_burstiness() {
    every("burstiness", interpretation::burstiness);
}

#[test]
fn parity_rescale() {
    every("rescale", interpretation::rescale);
}

/// No kind of the manifest is passed over silently.
#[test]
fn parity_kinds_are_all_known() {
    let here = [
        "step_fn",
        "bae_step",
        "sae_step",
        "bae_eval",
        "bae_train",
        "sae_train",
        "code_stats",
        "compress",
        "synthetic",
        "burstiness",
        "rescale",
    ];
    let not_here = [
        ("split", "checked in crates/data"),
        ("comsem", "skipped: no step and no count; it comes with the interpretation of features"),
        ("locate", "skipped: as comsem"),
        ("embclu", "skipped: as comsem"),
    ];
    for kind in fixture::kinds() {
        let reason = not_here.iter().find(|(name, _)| *name == kind).map(|(_, reason)| reason);
        assert!(here.contains(&kind.as_str()) || reason.is_some(), "no test for kind {kind}");
        if let Some(reason) = reason {
            println!("{kind}: {reason}");
        }
    }
}

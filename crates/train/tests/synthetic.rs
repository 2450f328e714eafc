//! The synthetic benchmark: what the preset `minimal` makes of hidden states whose entropy is known.

use bae_gpu::Wanted;
use bae_train::{SyntheticOptions, SyntheticReport, TrainError, synthetic};
use serde_json::{Value, json};
use std::sync::atomic::AtomicBool;

fn options(drawn: Value, training: Value) -> SyntheticOptions {
    let mut all = json!({ "preset": "minimal", "steps": 60 });
    all.as_object_mut().unwrap().extend(training.as_object().unwrap().clone());
    let mut options: SyntheticOptions = serde_json::from_value(drawn).unwrap();
    options.training = serde_json::from_value(all).unwrap();
    options.training.device = Wanted::Cpu;
    options
}

fn run(drawn: Value, training: Value) -> SyntheticReport {
    synthetic(&options(drawn, training), &AtomicBool::new(false), &mut |_| {}).unwrap()
}

/// One feature for one bit: nothing is said twice, nothing is left out.
fn check(report: &SyntheticReport, what: &Value) {
    let near = (report.codes.entropy_bits / report.true_marginal_bits - 1.0).abs();
    assert!(near < 0.05, "{what}: {} of {}", report.codes.entropy_bits, report.true_marginal_bits);
    assert!(report.recovery.f1 > 0.95 && report.recovery.mcc > 0.95, "{what}: {:?}", report.recovery);
    assert!(report.recovery.cosine > 0.95, "{what}: {:?}", report.recovery);
    assert!(report.fvu < report.noise_fraction + 0.01, "{what}: {}", report.fvu);
}

#[test]
fn independent_bits_are_found_at_every_rank() {
    for rank in [2, 4, 8, 16, 32] {
        for (seed, rows) in [(0, 5120), (1, 5120), (2, 2000)] {
            let drawn = json!({ "rank": rank, "rows": rows });
            let report = run(drawn.clone(), json!({ "seed": seed }));
            check(&report, &drawn);
            assert_eq!((report.true_bits, report.live_features), (f64::from(rank), rank as usize));
            assert!(report.fvu < 0.01, "{}", report.fvu);
        }
    }
}

#[test]
fn noise_and_angles_are_no_hindrance() {
    for drawn in [
        json!({ "rank": 4, "noise": 0.02 }),
        json!({ "rank": 8, "noise": 0.03, "directions": "random" }),
        json!({ "rank": 16, "noise": 0.05, "directions": "random" }),
        json!({ "rank": 32, "noise": 0.05, "directions": "random" }),
        json!({ "rank": 8, "dIn": 300, "noise": 0.02 }),
    ] {
        check(&run(drawn.clone(), json!({ "dSae": 256 })), &drawn);
    }
}

/// What depends on one another is still found bit by bit; their entropies then sum up to more than the joint one.
#[test]
fn dependent_and_rare_bits_are_found_too() {
    for kind in ["pairs", "sparse", "common-cause", "markov"] {
        for rank in [2, 8, 16] {
            // most rows of a few rare bits would be noise only, and that is what the recipe would take for ordinary then
            let noise = if kind == "sparse" { 0.0 } else { 0.01 };
            let drawn = json!({ "kind": kind, "rank": rank, "noise": noise });
            check(&run(drawn.clone(), json!({})), &drawn);
        }
    }
}

#[test]
fn threads_change_nothing() {
    let told = |threads: usize| {
        let mut report = json!(run(json!({ "rank": 8, "noise": 0.05 }), json!({ "threads": threads })));
        for name in ["seconds", "threads"] {
            report["training"][name] = Value::Null;
        }
        report.to_string()
    };
    assert_eq!(told(1), told(3));
}

#[test]
fn what_is_wrong_is_named() {
    let failure = |drawn, training| {
        synthetic(&options(drawn, training), &AtomicBool::new(false), &mut |_| {}).unwrap_err()
    };
    assert!(
        failure(json!({ "rank": 65 }), json!({})).to_string().contains("65 directions cannot be orthogonal")
    );
    assert!(failure(json!({ "rows": 1 }), json!({})).to_string().contains("1 row"));
    let cancelled = synthetic(&options(json!({}), json!({})), &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(cancelled, Err(TrainError::Cancelled)));
}

/// A bit that no feature says counts as not found at all.
#[test]
fn too_few_features_recover_too_few_bits() {
    let report = run(json!({ "rank": 6 }), json!({ "dSae": 3 }));
    assert_eq!(report.recovery.bits.len(), 3);
    assert!((report.recovery.f1 - 0.5).abs() < 0.05, "{:?}", report.recovery);
}

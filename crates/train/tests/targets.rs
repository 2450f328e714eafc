//! Transcoders: what is made of hidden states is something else.

mod states;

use bae_data::{Dataset, Feed, MemorySource, Order, RowSet, load_model};
use bae_gpu::Wanted;
use bae_model::Cpu;
use bae_train::{Applied, Event, Outcome, TrainError, TrainOptions, evaluate, train};
use ndarray::{Array2, Axis};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use states::states;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const D_IN: usize = 9;
const D_OUT: usize = 5;

/// Rows of switched directions, and what an affine map makes of them, in units and around a place of their own.
fn mapped(rows: usize) -> Dataset {
    let x = states(rows, D_IN);
    let mut values = Array2::zeros((rows, D_IN));
    x.read(0..rows, values.view_mut()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let map = Array2::from_shape_simple_fn((D_IN, D_OUT), || 200.0 * (rng.random::<f32>() - 0.5));
    with_target(x, values.dot(&map) - 7000.0)
}

fn with_target(x: Dataset, target: Array2<f32>) -> Dataset {
    let d_out = target.ncols();
    let source = MemorySource::new("target", target.into_raw_vec_and_offset().0, d_out).unwrap();
    x.with_target(Dataset::new(vec![Box::new(source)]).unwrap()).unwrap()
}

fn options(out: Option<&Path>, more: &Value) -> TrainOptions {
    let mut all = json!({ "dSae": 40, "batchSize": 30, "seed": 3, "epochs": 4, "out": out });
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    TrainOptions { device: Wanted::Cpu, ..serde_json::from_value(all).unwrap() }
}

fn run(data: &Dataset, out: Option<&Path>, more: Value) -> Result<Outcome, TrainError> {
    train(data, &options(out, &more), &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn an_affine_map_of_switched_directions_is_learnt_in_raw_units() {
    let data = mapped(600);
    for (more, least) in [
        (json!({}), 0.9),
        (json!({ "normalize": "standardize" }), 0.9),
        (json!({ "normalize": "mean-norm", "entropyWeight": 1e-7 }), 0.9),
        (json!({ "normalize": "none", "entropyWeight": 0.1 }), 0.9),
        (json!({ "architecture": "topk", "k": 8, "epochs": 40 }), 0.8),
    ] {
        let outcome = run(&data, None, more.clone()).unwrap();
        let validation = outcome.summary.validation.unwrap();
        assert!(validation.explained_variance > least, "{more}: {validation:?}");
        assert_eq!((outcome.model.d_in(), outcome.model.d_out()), (D_IN, D_OUT));
        assert_eq!(outcome.settings["d_out"], D_OUT);
    }
}

#[test]
fn what_is_measured_is_the_distance_from_the_target() {
    let data = mapped(200);
    let outcome = run(&data, None, json!({})).unwrap();
    let rows = RowSet::all(200);
    let feed = Feed::new(&data, &rows, Order::Stored, 5000);
    let applied = || Applied {
        backend: Box::new(Cpu::new(&outcome.model, 2)),
        architecture: outcome.plan.architecture(),
        layer_norm: false,
    };
    let measured = evaluate(&applied(), &feed, |_| true).unwrap();
    let mut all = Array2::zeros((200, D_IN + D_OUT));
    data.read(0..200, all.view_mut()).unwrap();
    let (x, target) = all.view().split_at(Axis(1), D_IN);
    let model = applied();
    let codes = model.backend.encode(&model.architecture, x).unwrap();
    let error =
        model.backend.decode(&model.architecture, &codes).unwrap().mapv(f64::from) - target.mapv(f64::from);
    let target = target.mapv(f64::from);
    let variance = (&target - &target.mean_axis(Axis(0)).unwrap()).mapv(|e| e * e).sum();
    let squares = error.mapv(|e| e * e).sum();
    assert!((measured.mse / (squares / (200 * D_OUT) as f64) - 1.0).abs() < 1e-6, "{measured:?}");
    assert!((measured.fvu / (squares / variance) - 1.0).abs() < 1e-6, "{measured:?}");
}

#[test]
fn a_run_interrupted_at_any_step_ends_as_if_it_had_not_been() {
    let data = mapped(150);
    for more in [
        json!({ "memory": 4000, "normalize": "standardize" }),
        json!({ "resampleEvery": 2, "clipNorm": 0.05 }),
        json!({ "preset": "reference" }),
        json!({ "architecture": "topk", "k": 4 }),
    ] {
        let plain = run(&data, None, more.clone()).unwrap();
        for step in [1, 4, 7, 15] {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("run");
            let cancel = AtomicBool::new(false);
            let begun = options(Some(&out), &more);
            train(&data, &begun, &cancel, &mut |event| {
                if matches!(event, Event::Step { step: at, .. } if *at == step) {
                    cancel.store(true, Ordering::Relaxed);
                }
            })
            .unwrap();
            let resumed = run(&data, Some(&out), {
                let mut more = more.clone();
                more["resume"] = json!(true);
                more
            })
            .unwrap();
            assert_eq!(resumed.model, plain.model, "{more} {step}");
            // in JSON what is no number, as the covariance of values, is equal to itself
            assert_eq!(json!(resumed.summary.validation), json!(plain.summary.validation));
            let stored = load_model(&out).unwrap();
            assert_eq!((stored.parameters, &stored.config["d_out"]), (plain.model.clone(), &json!(D_OUT)));
        }
    }
}

#[test]
fn a_checkpoint_is_of_its_targets() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more = json!({ "checkpointEvery": 2, "epochs": 1 });
    run(&mapped(150), Some(&out), more.clone()).unwrap();
    let mut resumed = more;
    resumed["resume"] = json!(true);
    let other = with_target(states(150, D_IN), Array2::ones((150, D_OUT)));
    for data in [other, states(150, D_IN)] {
        let error = run(&data, Some(&out), resumed.clone()).err().expect("another target");
        assert_eq!(error.code(), "INVALID_ARGUMENT");
        assert!(error.to_string().contains("data"), "{error}");
    }
}

#[test]
fn the_same_bits_whatever_the_threads() {
    let data = mapped(130);
    let of = |threads: usize| run(&data, None, json!({ "threads": threads })).unwrap().model;
    assert_eq!(of(1), of(3));
}

#[test]
fn a_target_of_the_same_width_is_no_input() {
    let x = states(300, D_IN);
    let mut values = Array2::zeros((300, D_IN));
    x.read(0..300, values.view_mut()).unwrap();
    let outcome = run(&with_target(x, -values), None, json!({})).unwrap();
    assert!(outcome.summary.validation.unwrap().explained_variance > 0.8);
    assert_eq!(outcome.settings["d_out"], D_IN);
}

#[test]
fn what_cannot_be_is_refused() {
    let error = run(&mapped(40), None, json!({ "normalize": "layer-norm" })).err().unwrap();
    assert!(error.to_string().contains("layer-norm") && error.code() == "INVALID_ARGUMENT", "{error}");
    // targets that are all alike are no failure
    let alike = with_target(states(60, D_IN), Array2::from_elem((60, 2), 3.0));
    let outcome = run(&alike, None, json!({})).unwrap();
    assert!(outcome.summary.validation.unwrap().mse < 1e-6);
}

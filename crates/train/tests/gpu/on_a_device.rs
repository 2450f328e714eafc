//! Whole runs on a device, be it software, and what becomes of one that loses it.

use crate::{device, states::states};
use bae_gpu::open;
use bae_model::ModelError;
use bae_train::{Event, Outcome, Stopped, TrainError, TrainOptions, train};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// The tests here take turns: one of them loses the device.
static TURN: Mutex<()> = Mutex::new(());

const OPTIONS: &str = r#""dSae": 70, "epochs": 6, "batchSize": 50, "learningRate": 2e-3, "seed": 4"#;

fn run(device: &str, cancel: &AtomicBool, on_event: &mut dyn FnMut(&Event)) -> Result<Outcome, TrainError> {
    let options: TrainOptions =
        serde_json::from_str(&format!(r#"{{"device": "{device}", {OPTIONS}}}"#)).unwrap();
    train(&states(300, 20), &options, cancel, on_event)
}

fn plainly(device: &str) -> Outcome {
    run(device, &AtomicBool::new(false), &mut |_| {}).unwrap()
}

#[test]
fn a_run_ends_where_the_cpu_ends_and_where_it_ended_before() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if device::device().is_none() {
        return;
    }
    let (first, second, cpu) = (plainly("gpu"), plainly("0"), plainly("cpu"));
    assert_eq!(first.model, second.model);
    assert_eq!((first.summary.engine.device, cpu.summary.engine.device), ("gpu", "cpu"));
    let [got, want] = [&first, &cpu].map(|outcome| outcome.summary.validation.clone().unwrap());
    assert!((got.fvu - want.fvu).abs() < 2e-3, "{got:?} {want:?}");
    assert!((got.codes.entropy_bits - want.codes.entropy_bits).abs() < 5e-3 * want.codes.entropy_bits);
    assert!((got.codes.density - want.codes.density).abs() < 2e-3);
    assert_eq!(first.history.len(), cpu.history.len());
}

#[test]
fn no_step_is_missing_from_the_events_and_a_cancelled_run_keeps_its_model() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if device::device().is_none() {
        return;
    }
    let cancel = AtomicBool::new(false);
    let mut steps = vec![];
    let outcome = run("gpu", &cancel, &mut |event| {
        if let Event::Step { step, .. } = event {
            steps.push(*step);
            if *step == 12 {
                cancel.store(true, Ordering::Relaxed);
            }
        }
    })
    .unwrap();
    assert!(matches!(outcome.stopped, Some(Stopped::Cancelled)));
    let taken = outcome.summary.steps;
    assert!((12..=15).contains(&taken), "{taken}");
    assert_eq!(steps, (1..=taken).collect::<Vec<_>>());
    assert_eq!(outcome.summary.best_step % 5, 0);
}

#[test]
fn a_run_that_is_interrupted_goes_on_to_the_same_bits() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if device::device().is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = states(300, 20);
    for (at, more) in
        ["", r#""clipNorm": 0.05, "resampleEvery": 4, "checkpointEvery": 7,"#].iter().enumerate()
    {
        let out = dir.path().join(at.to_string());
        let options = |more: &str| -> TrainOptions {
            serde_json::from_str(&format!(
                r#"{{"device": "gpu", {more} "out": {:?}, {OPTIONS}}}"#,
                out.display().to_string()
            ))
            .unwrap()
        };
        let plain = train(&data, &options(more), &AtomicBool::new(false), &mut |_| {}).unwrap();
        let cancel = AtomicBool::new(false);
        let stopped =
            train(&data, &options(&format!(r#""overwrite": true, {more}"#)), &cancel, &mut |event| {
                if matches!(event, Event::Step { step: 13, .. }) {
                    cancel.store(true, Ordering::Relaxed);
                }
            });
        assert!(stopped.unwrap().checkpoint.is_some());
        let resume = options(&format!(r#""resume": true, {more}"#));
        let resumed = train(&data, &resume, &AtomicBool::new(false), &mut |_| {}).unwrap();
        assert_eq!(resumed.model, plain.model);
        assert_eq!(format!("{:?}", resumed.history), format!("{:?}", plain.history));
    }
}

#[test]
fn a_device_lost_in_mid_run_keeps_the_best_model_and_the_next_run_opens_it_anew() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Some(device) = device::device() else { return };
    let index = device.report().index;
    let outcome = run("gpu", &AtomicBool::new(false), &mut |event| {
        if let Event::Step { step: 17, .. } = event {
            open(index).expect("still there").lose();
        }
    })
    .unwrap();
    match outcome.stopped {
        Some(Stopped::Failed(TrainError::Model(ModelError::DeviceLost(ref message)))) => {
            assert!(!message.is_empty());
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(outcome.summary.best_step % 5, 0);
    assert!(outcome.summary.best_step >= 5 && outcome.summary.validation.is_some());
    assert!(outcome.model.w_enc.iter().all(|w| w.is_finite()));
    assert!(plainly("gpu").stopped.is_none());
}

#[test]
fn what_is_not_there_is_refused_before_anything_starts() {
    let error = match run("no such card", &AtomicBool::new(false), &mut |_| panic!("nothing starts")) {
        Err(error) => error,
        Ok(_) => panic!("it ran"),
    };
    assert_eq!(error.code(), "DEVICE_UNAVAILABLE");
    assert!(error.to_string().contains("no such card"), "{error}");
    let auto = plainly("auto");
    assert!(auto.summary.engine.device == "gpu" || auto.summary.engine.reason.is_some());
}

//! Runs that are interrupted and go on: the same bits as if nothing had happened.

mod states;

use bae_data::{Dataset, LoadedModel, MemorySource, load_model};
use bae_gpu::Wanted;
use bae_train::{Event, Outcome, Stopped, TrainError, TrainOptions, train};
use serde_json::{Value, json};
use states::{cloud, states};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Settings of a run on the CPU, with what `more` adds or replaces.
fn options(out: Option<&Path>, more: &Value) -> TrainOptions {
    let mut all = json!({ "dSae": 40, "batchSize": 30, "seed": 3, "out": out });
    if more.get("steps").is_none() {
        all["epochs"] = json!(4);
    }
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    TrainOptions { device: Wanted::Cpu, ..serde_json::from_value(all).unwrap() }
}

fn run(data: &Dataset, out: Option<&Path>, more: Value) -> Result<Outcome, TrainError> {
    train(data, &options(out, &more), &AtomicBool::new(false), &mut |_| {})
}

/// Runs until a step was told of, and cancels it there.
fn until(data: &Dataset, out: &Path, step: usize, more: Value) -> Outcome {
    let cancel = AtomicBool::new(false);
    train(data, &options(Some(out), &more), &cancel, &mut |event| {
        assert!(
            !matches!(event, Event::Warning { message, .. } if message.contains("checkpoint")),
            "{event:?}"
        );
        if matches!(event, Event::Step { step: at, .. } if *at == step) {
            cancel.store(true, Ordering::Relaxed);
        }
    })
    .unwrap()
}

fn with(more: &Value, name: &str, value: impl Into<Value>) -> Value {
    let mut more = more.clone();
    more[name] = value.into();
    more
}

/// Everything that a run came to, but for the time it took.
fn told(outcome: &Outcome) -> (Vec<Vec<u32>>, String, String) {
    let bits =
        outcome.model.flat().into_iter().map(|values| values.iter().map(|v| v.to_bits()).collect()).collect();
    let mut summary = json!(outcome.summary);
    summary["seconds"] = Value::Null;
    (bits, json!(outcome.history).to_string(), summary.to_string())
}

#[test]
fn a_run_interrupted_at_any_step_ends_as_if_it_had_not_been() {
    let data = states(150, 9);
    for mut more in [
        json!({}),
        // windows of the shuffle, validations and checkpoints inside of epochs
        json!({ "memory": 3000, "validateEvery": 3, "checkpointEvery": 5 }),
        json!({ "clipNorm": 0.05, "resampleEvery": 2, "penaltyWarmUpSteps": 7, "normalize": "layer-norm" }),
        json!({ "patience": 2, "validateEvery": 1, "learningRate": 0.05, "normalize": "standardize" }),
        json!({ "preset": "reference", "validationFraction": 0, "shuffle": false, "steps": 13 }),
        json!({ "precision": "bf16", "estimator": "rectangle", "lrSchedule": "linear", "warmUpSteps": 3, "steps": 11 }),
    ] {
        let checkpoints = more.as_object_mut().unwrap().remove("checkpointEvery");
        let plain = run(&data, None, more.clone()).unwrap();
        more.as_object_mut().unwrap().extend(checkpoints.map(|every| ("checkpointEvery".to_owned(), every)));
        let last = plain.summary.steps;
        for step in 1..=last {
            let dir = tempfile::tempdir().unwrap();
            let out = dir.path().join("run");
            let stopped = until(&data, &out, step, more.clone());
            if stopped.summary.steps < last || stopped.stopped.is_some() {
                assert!(matches!(stopped.stopped, Some(Stopped::Cancelled)), "{more} {step}");
                let checkpoint = stopped.checkpoint.unwrap_or_else(|| panic!("{more} {step}"));
                assert!(checkpoint.ends_with(format!("checkpoints/step-{step:09}")));
            }
            let resumed = run(&data, Some(&out), with(&more, "resume", true)).unwrap();
            assert_eq!(told(&resumed), told(&plain), "{more} {step}");
            assert_eq!(load_model(&out).unwrap().parameters, plain.model);
        }
    }
}

#[test]
fn a_run_that_is_interrupted_again_and_again_ends_as_if_it_had_not_been() {
    let data = states(150, 9);
    let more = json!({ "memory": 3000, "checkpointEvery": 1, "keepCheckpoints": 2 });
    let plain = run(&data, None, json!({ "memory": 3000 })).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    for step in [2, 3, 4, 9, 10, 15] {
        until(&data, &out, step, with(&more, "resume", true));
        let kept = fs::read_dir(out.join("checkpoints")).unwrap().flatten().map(|e| e.file_name());
        assert_eq!(kept.filter(|name| name.to_string_lossy().starts_with("step-")).count(), 2);
    }
    let resumed = run(&data, Some(&out), with(&more, "resume", true)).unwrap();
    assert_eq!(told(&resumed), told(&plain));
    // and once more, when nothing is left to do
    let again = run(&data, Some(&out), with(&more, "resume", true)).unwrap();
    assert_eq!(told(&again), told(&plain));
    // the events that were told are all there, in order, and the runs can be told apart
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    assert_eq!((of("start").len(), of("resume").len(), of("step").len()), (8, 7, 16));
    assert!(of("step").iter().enumerate().all(|(at, event)| event["step"] == at as u64 + 1));
    // none is written twice: whoever is killed while a checkpoint is replaced has none
    assert_eq!(of("checkpoint").len(), 16);
    assert!(events.iter().all(|event| event["time"].as_f64().unwrap() > 1.6e9));
    assert_eq!(of("validation").len(), 5);
}

#[test]
fn what_would_be_another_training_is_refused_with_both_values() {
    let data = states(150, 9);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    until(&data, &out, 6, json!({}));
    let refused = |data: &Dataset, more: Value| {
        let error = run(data, Some(&out), with(&more, "resume", true)).err().unwrap();
        assert_eq!(error.code(), "INVALID_ARGUMENT", "{error}");
        error.to_string()
    };
    for (more, message) in [
        (json!({ "learningRate": 1e-3 }), "learningRate is 0.001, the checkpoint was made with 0.0002"),
        (json!({ "epochs": 5 }), "steps is 20, the checkpoint was made with 16"),
        (json!({ "seed": 4 }), "seed is 4, the checkpoint was made with 3"),
        (json!({ "memory": 5000 }), "memory is 5000, the checkpoint was made with 1073741824"),
        (json!({ "normalize": "none" }), "normalize is \"none\", the checkpoint was made with \"default\""),
        (json!({ "clipNorm": 1 }), "clipNorm is 1.0, the checkpoint was made with null"),
    ] {
        let got = refused(&data, more);
        assert!(got.contains(message), "{got}");
    }
    let got = refused(&states(160, 9), json!({ "steps": 16 }));
    assert!(got.contains("data.rows is 160, the checkpoint was made with 150"), "{got}");
    let mut x = ndarray::Array2::zeros((150, 9));
    data.read(0..150, x.view_mut()).unwrap();
    x[[149, 8]] += 1.0;
    let other = MemorySource::new("memory", x.into_raw_vec_and_offset().0, 9).unwrap();
    let got = refused(&Dataset::new(vec![Box::new(other)]).unwrap(), json!({}));
    assert!(got.contains("the data is another than that of the checkpoint"), "{got}");
    // what changes no bit may change
    let resumed = run(
        &data,
        Some(&out),
        json!({ "resume": true, "threads": 3, "checkpointEvery": 4, "tensorboard": true }),
    );
    assert_eq!(told(&resumed.unwrap()).0, told(&run(&data, None, json!({})).unwrap()).0);
    assert_eq!(fs::read_dir(out.join("tensorboard")).unwrap().count(), 1);
}

#[test]
fn a_checkpoint_with_one_flipped_byte_is_refused_and_the_one_before_is_offered() {
    let data = states(60, 5);
    let more = json!({ "dSae": 10, "checkpointEvery": 2 });
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    until(&data, &out, 5, more.clone());
    let plain = run(&data, None, json!({ "dSae": 10 })).unwrap();
    let last = out.join("checkpoints/step-000000005");
    for entry in fs::read_dir(&last).unwrap().flatten() {
        let path = entry.path();
        let sound = fs::read(&path).unwrap();
        for at in [0, sound.len() / 2, sound.len() - 1] {
            let mut damaged = sound.clone();
            damaged[at] ^= 16;
            fs::write(&path, &damaged).unwrap();
            let error = run(&data, Some(&out), with(&more, "resume", true)).err().unwrap();
            let message = error.to_string();
            assert_eq!(error.code(), "CORRUPT_FILE", "{path:?} {at}: {message}");
            assert!(message.contains("step-000000005"), "{message}");
            let offer = "the one before, of step 4, is sound: delete ";
            assert!(
                message.contains(offer) && message.ends_with("step-000000005 to go on from it"),
                "{message}"
            );
        }
        fs::write(&path, &sound).unwrap();
    }
    fs::remove_file(last.join("training.safetensors")).unwrap();
    let error = run(&data, Some(&out), with(&more, "resume", true)).err().unwrap();
    assert!(error.to_string().contains("its training.safetensors cannot be read"), "{error}");
    // as it says
    fs::remove_dir_all(&last).unwrap();
    let resumed = run(&data, Some(&out), with(&more, "resume", true)).unwrap();
    assert_eq!(told(&resumed).0, told(&plain).0);
    // nothing sound is left
    for entry in fs::read_dir(out.join("checkpoints")).unwrap().flatten() {
        fs::write(entry.path().join("SHA256SUMS"), "nonsense").unwrap();
    }
    let error = run(&data, Some(&out), with(&more, "resume", true)).err().unwrap();
    assert!(error.to_string().contains("no sound one before it"), "{error}");
}

#[test]
fn a_folder_is_taken_by_one_training_and_never_overwritten_unasked() {
    let data = states(60, 5);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let small = json!({ "dSae": 10 });
    let mut second = None;
    let first = train(&data, &options(Some(&out), &small), &AtomicBool::new(false), &mut |event| {
        if matches!(event, Event::Step { step: 2, .. }) {
            second = run(&data, Some(&out), with(&small, "overwrite", true)).err();
        }
    });
    let first = first.unwrap();
    let second = second.unwrap();
    assert_eq!(second.code(), "IO");
    assert!(second.to_string().contains("is in use by another training"), "{second}");
    assert_eq!(first.saved.as_deref(), Some(&*out));

    let error = run(&data, Some(&out), small.clone()).err().unwrap().to_string();
    assert!(error.contains("already holds a model; pass --overwrite to start anew"), "{error}");
    let error = run(&data, Some(&out), with(&small, "resume", true)).err().unwrap().to_string();
    assert!(error.contains("holds a model, and no checkpoint to go on from"), "{error}");
    fs::write(out.join("notes.txt"), "mine").unwrap();
    until(&data, &out, 3, with(&small, "overwrite", true));
    run(&data, Some(&out), with(&small, "overwrite", true)).unwrap();
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".lock", "cfg.json", "metrics.jsonl", "notes.txt", "sae_weights.safetensors"]);

    // a folder of other things is not taken, and one that failed before its first step leaves nothing
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("notes.txt"), "mine").unwrap();
    for more in [small.clone(), with(&small, "resume", true)] {
        let error = run(&data, Some(&other), more).err().unwrap().to_string();
        assert!(error.contains("already holds other files"), "{error}");
    }
    let new = dir.path().join("new");
    let error = run(&data, Some(&new), json!({ "dSae": 10, "where": ["position>3"] })).err().unwrap();
    assert!(error.to_string().contains("memory has no column position"), "{error}");
    assert!(!new.exists());
}

#[test]
fn data_that_fails_leaves_a_checkpoint_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let mut values = ndarray::Array2::zeros((150, 9));
    states(150, 9).read(0..150, values.view_mut()).unwrap();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {:?}, }}", values.dim());
    let header = format!("{header:<117}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend(values.iter().flat_map(|value: &f32| value.to_le_bytes()));
    let open = || Dataset::open(&[path.display().to_string()]).unwrap();
    let more = json!({ "memory": 3000, "epochs": 8 });
    fs::write(&path, &bytes).unwrap();
    let plain = run(&open(), None, more.clone()).unwrap();
    let out = dir.path().join("run");
    let data = open();
    let outcome = train(&data, &options(Some(&out), &more), &AtomicBool::new(false), &mut |event| {
        if matches!(event, Event::Step { step: 6, .. }) {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(900).unwrap();
        }
    });
    let outcome = outcome.unwrap();
    let Some(Stopped::Failed(error)) = outcome.stopped else { panic!("{:?}", outcome.stopped) };
    assert_eq!(error.code(), "CORRUPT_FILE");
    assert!(error.to_string().contains("x.npy ends before byte") && outcome.summary.steps >= 6, "{error}");
    fs::write(&path, &bytes).unwrap();
    let resumed = run(&open(), Some(&out), with(&more, "resume", true)).unwrap();
    assert_eq!(told(&resumed), told(&plain));
}

#[test]
fn training_ends_when_nothing_gets_better() {
    let data = states(150, 9);
    let outcome = run(&data, None, json!({ "learningRate": 0.3, "epochs": 60, "patience": 3 })).unwrap();
    let validations: Vec<bool> = outcome
        .history
        .iter()
        .filter_map(|event| match event {
            Event::Validation(validation) => Some(validation.best),
            _ => None,
        })
        .collect();
    assert!(outcome.summary.ended_early && outcome.summary.steps < 240);
    assert_eq!(validations[validations.len() - 4..], [true, false, false, false]);
    assert!(outcome.stopped.is_none() && outcome.summary.train.is_some());
}

#[test]
fn features_that_are_never_on_are_drawn_anew() {
    let data = cloud(300, 20);
    let more = json!({
        "dSae": 400, "steps": 60, "entropyWeight": 1e-3, "learningRate": 2e-2,
    });
    let dead = |more: Value| run(&data, None, more).unwrap().summary.validation.unwrap();
    let (without, resampled) = (dead(more.clone()), dead(with(&more, "resampleEvery", 10)));
    assert!(
        resampled.codes.dead_fraction < without.codes.dead_fraction,
        "{} {}",
        resampled.codes.dead_fraction,
        without.codes.dead_fraction
    );
}

#[test]
fn a_normalised_run_saves_a_model_of_raw_states() {
    let data = states(300, 20);
    let dir = tempfile::tempdir().unwrap();
    for normalize in ["default", "none", "mean-norm", "layer-norm", "standardize"] {
        let out = dir.path().join(normalize);
        let outcome = run(
            &data,
            Some(&out),
            json!({ "normalize": normalize, "steps": 40, "dSae": 80, "entropyWeight": 1e-6 }),
        )
        .unwrap();
        let validation = outcome.summary.validation.unwrap();
        assert!(validation.explained_variance > 0.6, "{normalize}: {validation:?}");
        let LoadedModel { parameters: model, config, .. } = load_model(&out).unwrap();
        assert_eq!(model, outcome.model);
        let expected = (normalize == "layer-norm").then(|| json!("layer_norm"));
        assert_eq!(config.get("normalize_activations"), expected.as_ref());
    }
}

#[test]
fn overwriting_deletes_what_a_training_left_and_nothing_else_and_only_once_it_begins() {
    let data = states(60, 5);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let small = json!({ "dSae": 10, "checkpointEvery": 2, "tensorboard": true });
    run(&data, Some(&out), small.clone()).unwrap();
    for mine in ["checkpoints/mine.ckpt", "tensorboard/mine", "notes.txt"] {
        fs::write(out.join(mine), "mine").unwrap();
    }
    let overwrite = with(&small, "overwrite", true);
    let error = run(&data, Some(&out), with(&overwrite, "where", json!(["position>0"]))).err().unwrap();
    assert_eq!(error.code(), "INVALID_ARGUMENT");
    let before = fs::read_dir(out.join("checkpoints")).unwrap().count();
    assert!(before >= 4 && out.join("metrics.jsonl").exists());
    let fewer = json!({ "dSae": 10, "overwrite": true });
    let outcome = run(&data, Some(&out), fewer).unwrap();
    assert!(outcome.checkpoint.is_none());
    for folder in ["checkpoints", "tensorboard"] {
        let left: Vec<_> = fs::read_dir(out.join(folder)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "mine");
}

#[test]
fn a_command_that_resumes_may_be_run_again_when_all_is_done() {
    let data = states(60, 5);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more = json!({ "dSae": 10, "resume": true });
    let first = run(&data, Some(&out), more.clone()).unwrap();
    let second = run(&data, Some(&out), more).unwrap();
    assert_eq!(told(&first), told(&second));
}

#[test]
fn a_best_model_that_is_damaged_makes_its_checkpoint_unsound() {
    let data = states(150, 9);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more = json!({ "checkpointEvery": 3, "keepCheckpoints": 9 });
    until(&data, &out, 10, more.clone());
    let best = fs::read_dir(out.join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("best-"))
        .max()
        .unwrap();
    let weights = best.join("sae_weights.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let error = run(&data, Some(&out), with(&more, "resume", true)).err().unwrap().to_string();
    assert!(
        error.contains("the best model before it is not sound")
            && error.contains("does not match its checksum"),
        "{error}"
    );
    assert!(error.contains("of step 6, is sound: delete"), "{error}");
}

#[test]
fn what_was_learnt_before_data_failed_in_the_first_epoch_is_kept() {
    let mut values = ndarray::Array2::zeros((150, 9));
    states(150, 9).read(0..150, values.view_mut()).unwrap();
    values[[149, 3]] = f32::NAN;
    let data = MemorySource::new("memory", values.into_raw_vec_and_offset().0, 9).unwrap();
    let data = Dataset::new(vec![Box::new(data)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more =
        json!({ "memory": 2000, "validationFraction": 0, "shuffle": false, "batchSize": 10, "epochs": 1 });
    let outcome = run(&data, Some(&out), more).unwrap();
    assert!(matches!(&outcome.stopped, Some(Stopped::Failed(error)) if error.code() == "NOT_FINITE"));
    let steps = outcome.summary.steps;
    assert!(steps > 0 && outcome.summary.best_step == steps, "{steps}");
    let checkpoint = load_model(&out.join(format!("checkpoints/step-{steps:09}"))).unwrap();
    assert_eq!(checkpoint.parameters, outcome.model);
}

#[test]
fn of_a_single_sequence_rows_are_held_out_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let write = |path: &Path, descr: &str, shape: &str, bytes: Vec<u8>| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((header.len() as u16).to_le_bytes());
        file.extend(header.bytes());
        file.extend(bytes);
        fs::write(path, file).unwrap();
    };
    let mut values = ndarray::Array2::zeros((150, 9));
    states(150, 9).read(0..150, values.view_mut()).unwrap();
    write(&path, "<f4", "(150, 9)", values.iter().flat_map(|value: &f32| value.to_le_bytes()).collect());
    write(
        &dir.path().join("x.sequence.npy"),
        "<i8",
        "(150,)",
        [7i64; 150].iter().flat_map(|v| v.to_le_bytes()).collect(),
    );
    let data = Dataset::open(&[path.display().to_string()]).unwrap();
    let mut warnings = vec![];
    let outcome =
        train(&data, &options(None, &json!({})), &AtomicBool::new(false), &mut |event| match event {
            Event::Start { sequences, validation_rows, .. } => {
                assert_eq!((*sequences, *validation_rows), (None, 30))
            }
            Event::Warning { message, .. } => warnings.push(message.clone()),
            _ => {}
        });
    assert!(outcome.unwrap().summary.validation.is_some());
    assert!(warnings.len() == 1 && warnings[0].contains("all rows are of one sequence"), "{warnings:?}");
}

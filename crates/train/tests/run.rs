//! Whole runs on small data.

mod states;

use bae_data::{Dataset, Feed, MemorySource, Order, RowSet};
use bae_gpu::Wanted;
use bae_model::Parameters;
use bae_train::{Applied, Event, Normalize, Outcome, Stopped, TrainError, TrainOptions, train};
use states::states;
use std::sync::atomic::{AtomicBool, Ordering};

/// On the CPU, whatever GPU there is.
fn options(json: &str) -> TrainOptions {
    TrainOptions { device: Wanted::Cpu, ..serde_json::from_str(json).unwrap() }
}

fn run(data: &Dataset, json: &str) -> Result<Outcome, TrainError> {
    train(data, &options(json), &AtomicBool::new(false), &mut |_| {})
}

/// How a run fails, before its first step or after it.
fn failure(data: &Dataset, json: &str) -> TrainError {
    match run(data, json) {
        Err(error) | Ok(Outcome { stopped: Some(Stopped::Failed(error)), .. }) => error,
        Ok(_) => panic!("{json}: no error"),
    }
}

fn refused(data: &Dataset, json: &str) -> String {
    match run(data, json) {
        Err(error) => {
            assert_eq!(error.code(), "INVALID_ARGUMENT", "{error}");
            error.to_string()
        }
        Ok(_) => panic!("{json} was accepted"),
    }
}

fn applied(outcome: &Outcome) -> Applied {
    let backend = Box::new(bae_model::Cpu::new(&outcome.model, 2));
    let layer_norm = outcome.plan.normalize == Normalize::LayerNorm;
    Applied { backend, architecture: outcome.plan.architecture(), layer_norm }
}

fn bits(parameters: &Parameters) -> Vec<u32> {
    parameters.flat().iter().flat_map(|values| values.iter().map(|value| value.to_bits())).collect()
}

#[test]
fn learns_more_than_it_started_with_and_says_so() {
    let data = states(300, 20);
    let mut events = vec![];
    let outcome = train(
        &data,
        &options(r#"{"dSae": 64, "steps": 150, "batchSize": 50, "learningRate": 2e-3}"#),
        &AtomicBool::new(false),
        &mut |event: &Event| events.push(event.clone()),
    )
    .unwrap();
    let validation = outcome.summary.validation.unwrap();
    assert!(validation.explained_variance > 0.8, "{validation:?}");
    assert_eq!((validation.rows, outcome.summary.steps, outcome.summary.epochs), (60, 150, 30));
    assert!(matches!(events[0], Event::Start { train_rows: 240, validation_rows: 60, steps: 150, .. }));
    let steps = events.iter().filter(|event| matches!(event, Event::Step { .. })).count();
    let validations = events.iter().filter(|event| matches!(event, Event::Validation(_))).count();
    assert_eq!((steps, validations), (150, 31));
    assert_eq!(outcome.history.len(), 30 + 31);
}

#[test]
fn same_seed_same_bits_whatever_the_threads() {
    let data = states(130, 17);
    let json = |threads: usize, seed: u64| {
        format!(
            r#"{{"dSae": 70, "epochs": 3, "batchSize": 33, "covarianceWeight": 1e-6, "threads": {threads}, "seed": {seed}}}"#
        )
    };
    let first = run(&data, &json(1, 3)).unwrap();
    for threads in [2, 3, 8] {
        let other = run(&data, &json(threads, 3)).unwrap();
        assert!(bits(&first.model) == bits(&other.model), "{threads} threads");
        assert_eq!(first.summary.validation, other.summary.validation);
    }
    let other_seed = run(&data, &json(2, 4)).unwrap();
    assert!(bits(&first.model) != bits(&other_seed.model));
}

#[test]
fn contradictions_and_impossible_values_are_refused() {
    let data = states(40, 8);
    assert_eq!(refused(&data, r#"{"dSae": 9, "expansion": 2}"#), "give dSae or expansion, not both");
    assert_eq!(refused(&data, r#"{"steps": 9, "epochs": 2}"#), "give epochs or steps, not both");
    for json in [
        r#"{"dSae": 0}"#,
        r#"{"dSae": 18446744073709551615}"#,
        r#"{"expansion": -1}"#,
        r#"{"steps": 0}"#,
        r#"{"epochs": 0}"#,
        r#"{"batchSize": 0}"#,
        r#"{"learningRate": 0}"#,
        r#"{"entropyWeight": -1}"#,
        r#"{"validationFraction": 1}"#,
        r#"{"validationFraction": 0.99}"#,
        r#"{"estimator": "identity", "gradientWidth": 1}"#,
    ] {
        let message = refused(&data, json);
        assert!(!message.contains('\n') && message.len() > 15, "{json}: {message}");
    }
    let too_large = run(&data, r#"{"dSae": 100000000000}"#).err().unwrap();
    assert_eq!(too_large.code(), "OUT_OF_MEMORY", "{too_large}");
    assert!(serde_json::from_str::<TrainOptions>(r#"{"learningrate": 1}"#).is_err());
    assert!(serde_json::from_str::<TrainOptions>(r#"{"steps": 2.5}"#).is_err());
}

#[test]
fn one_row_is_refused_and_two_rows_work() {
    assert!(refused(&states(1, 4), "{}").contains("at least 2 rows"));
    let outcome = run(&states(2, 4), r#"{"validationFraction": 0, "steps": 3}"#).unwrap();
    assert!(outcome.summary.validation.is_none() && outcome.summary.steps == 3);
    assert!(bits(&outcome.model).iter().all(|&b| f32::from_bits(b).is_finite()));
}

#[test]
fn values_too_large_to_square_are_learnt_normalised_and_refused_raw() {
    let values = (0..400).map(|at| ((at * 37 % 101) as f32 - 50.0) * 1e19).collect();
    let data = Dataset::new(vec![Box::new(MemorySource::new("memory", values, 4).unwrap())]).unwrap();
    let outcome = run(&data, r#"{"dSae": 32, "steps": 5}"#).unwrap();
    assert!(outcome.summary.validation.unwrap().explained_variance > 0.5);
    let error = failure(&data, r#"{"dSae": 32, "steps": 5, "normalize": "none"}"#);
    assert_eq!(error.code(), "NOT_FINITE", "{error}");
}

#[test]
fn a_last_batch_of_one_row_is_harmless_except_as_published() {
    let data = states(11, 5);
    let json = r#""dSae": 8, "epochs": 4, "batchSize": 5, "validationFraction": 0"#;
    let outcome = run(&data, &format!("{{{json}}}")).unwrap();
    assert!(outcome.stopped.is_none() && outcome.summary.train.unwrap().loss.is_finite());
    let error = failure(&data, &format!(r#"{{{json}, "preset": "reference"}}"#));
    assert_eq!(error.code(), "NOT_FINITE");
    assert!(error.to_string().contains("batch of one row"), "{error}");
}

#[test]
fn weights_that_diverge_are_named_and_never_kept() {
    let data = states(200, 12);
    for json in [r#""batchSize": 200"#, r#""batchSize": 20"#, r#""batchSize": 200, "validationFraction": 0"#]
    {
        let json = format!(r#"{{"dSae": 20, "steps": 30, "learningRate": 1e38, {json}}}"#);
        let error = failure(&data, &json);
        assert_eq!(error.code(), "NOT_FINITE", "{error}");
        assert!(error.to_string().contains("lower the learning rate"), "{error}");
        // what is kept is finite: a model that was measured, or what training started from
        let outcome = run(&data, &json).unwrap();
        assert!(bits(&outcome.model).iter().all(|&b| f32::from_bits(b).is_finite()));
    }
}

#[test]
fn cancelling_keeps_the_best_so_far() {
    let data = states(200, 12);
    let cancel = AtomicBool::new(false);
    let outcome =
        train(&data, &options(r#"{"dSae": 30, "steps": 1000, "batchSize": 40}"#), &cancel, &mut |event| {
            if matches!(event, Event::Step { step: 9, .. }) {
                cancel.store(true, Ordering::Relaxed);
            }
        })
        .unwrap();
    assert!(matches!(outcome.stopped, Some(Stopped::Cancelled)));
    assert_eq!(outcome.summary.steps, 9);
    assert!((1..=9).contains(&outcome.summary.best_step));
    assert!(outcome.summary.validation.is_some());
}

#[test]
fn cancelling_works_before_the_first_step() {
    let cancel = AtomicBool::new(true);
    let ended = train(&states(50, 6), &options("{}"), &cancel, &mut |_| {});
    assert_eq!(ended.err().unwrap().code(), "CANCELLED");
}

#[test]
fn a_saved_model_takes_raw_states() {
    let data = states(200, 12);
    let outcome = run(&data, r#"{"dSae": 40, "steps": 60, "batchSize": 40}"#).unwrap();
    let (model, rows) = (applied(&outcome), RowSet::all(200));
    let feed = Feed::new(&data, &rows, Order::Stored, 1000);
    let all = bae_train::evaluate(&model, &feed, |_| true).unwrap();
    assert!(all.explained_variance > 0.5, "{all:?}");
    let stopped = bae_train::evaluate(&model, &feed, |_| false);
    assert!(matches!(stopped, Err(TrainError::Cancelled)));
}

#[test]
fn evaluation_equals_the_plain_formulas() {
    let data = states(50, 6);
    let outcome = run(&data, r#"{"dSae": 16, "steps": 10, "batchSize": 25}"#).unwrap();
    let Applied { backend: model, architecture, .. } = applied(&outcome);
    let rows = RowSet::all(50);
    let feed = Feed::new(&data, &rows, Order::Stored, 1 << 20);
    let measured = bae_train::evaluate(&applied(&outcome), &feed, |_| true).unwrap();
    let mut x = ndarray::Array2::zeros((50, 6));
    data.read(0..50, x.view_mut()).unwrap();
    let codes = model.encode(&architecture, x.view()).unwrap();
    let y = model.decode(&architecture, &codes).unwrap();
    let (x, y) = (x.mapv(f64::from), y.mapv(f64::from));
    let error = (&x - &y).mapv(|e| e * e).sum();
    let deviation = (&x - &x.mean_axis(ndarray::Axis(0)).unwrap()).mapv(|e| e * e).sum();
    assert!((measured.mse - error / 300.0).abs() < 1e-9 * measured.mse);
    assert!((measured.fvu - error / deviation).abs() < 1e-9 * measured.fvu);
    let h = ndarray::Array2::from_shape_fn((50, 16), |(k, j)| f64::from(u8::from(codes.get(k, j))));
    let centred = &h - &h.mean_axis(ndarray::Axis(0)).unwrap();
    let covariance = centred.t().dot(&centred) / 49.0;
    let sum: f64 = covariance.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, c)| c.abs()).sum();
    assert!((measured.covariance - sum).abs() < 1e-9, "{} {sum}", measured.covariance);
    assert!((measured.codes.l0 - h.sum() / 50.0).abs() < 1e-12);
}

/// Reads well until row 30 has been read `good` times.
struct Fails {
    data: Dataset,
    good: std::sync::atomic::AtomicUsize,
}

impl bae_data::Source for Fails {
    fn name(&self) -> String {
        "disk".into()
    }
    fn rows(&self) -> usize {
        self.data.rows()
    }
    fn d_in(&self) -> usize {
        self.data.d_in()
    }
    fn read(&self, start: usize, out: ndarray::ArrayViewMut2<f32>) -> Result<(), bae_data::DataError> {
        let range = start..start + out.nrows();
        if range.contains(&30) && self.good.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(bae_data::DataError::CorruptFile("disk: gone".into()));
        }
        self.data.read(range, out)
    }
}

#[test]
fn data_that_fails_in_the_middle_costs_only_what_comes_after() {
    let source = Fails { data: states(100, 6), good: 5.into() };
    let data = Dataset::new(vec![Box::new(source)]).unwrap();
    let outcome =
        run(&data, r#"{"dSae": 20, "epochs": 50, "batchSize": 20, "validationFraction": 0, "memory": 2000}"#)
            .unwrap();
    let Some(Stopped::Failed(error)) = outcome.stopped else { panic!("{:?}", outcome.stopped) };
    assert_eq!(error.code(), "CORRUPT_FILE");
    assert!(outcome.summary.best_step >= 5 && outcome.summary.steps >= outcome.summary.best_step);
}

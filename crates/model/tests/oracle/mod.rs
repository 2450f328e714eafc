//! What every engine must give, held against the plain f64 loops.

use bae_model::{
    Activation, Adam, Architecture, Backend, Batch, Estimator, ModelError, Objective, OutputActivation,
    Parameters, StepStats, Target, Trace, reference::Reference,
};
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Makes an engine with these parameters for batches of so many rows; none where there is no device.
pub type Engine = fn(&Parameters, usize) -> Option<Box<dyn Backend>>;

pub fn uniform(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || rng.random::<f32>() * 2.0 - 1.0)
}

pub fn parameters(rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize, d_out: usize) -> Parameters {
    Parameters {
        w_enc: uniform(rng, d_in, d_sae),
        b_enc: uniform(rng, 1, d_sae).remove_axis(ndarray::Axis(0)),
        w_dec: uniform(rng, d_sae, d_out),
        b_dec: uniform(rng, 1, d_out).remove_axis(ndarray::Axis(0)),
        per_feature: vec![],
    }
}

pub fn estimators() -> impl Strategy<Value = Estimator> {
    prop_oneof![
        Just(Estimator::Identity),
        (0.05f64..3.0).prop_map(|width| Estimator::Sigmoid { width }),
        (0.05f64..3.0).prop_map(|width| Estimator::Rectangle { width }),
        Just(Estimator::ReferenceSigmoid),
        Just(Estimator::Squarewave),
    ]
}

/// Within the error that f32 sums of `length` terms as large as the largest result allow.
pub fn near(what: &str, got: &Array2<f64>, want: &Array2<f64>, length: usize) {
    near_terms(what, got, want, length, 1e-3);
}

pub fn largest(values: &Array2<f64>) -> f64 {
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

/// Within the error that f32 sums of `length` terms of at least size `least` allow.
pub fn near_terms(what: &str, got: &Array2<f64>, want: &Array2<f64>, length: usize, least: f64) {
    let size = largest(want).max(least);
    let bound = 4.0 * f64::from(f32::EPSILON) * (length as f64 + 8.0) * size;
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= bound, "{what}: {got}, expected {want} within {bound}");
    }
}

fn row(values: &Array1<f64>) -> Array2<f64> {
    values.clone().insert_axis(ndarray::Axis(0))
}

/// Pre-activations further from an edge of the step than f32 can blur.
pub fn decided(z: &Array2<f64>, estimator: Estimator) -> bool {
    z.iter().all(|&z| match estimator {
        Estimator::Squarewave => (z - z.round()).abs() > 1e-4,
        _ => z.abs() > 1e-4 && estimator.window().is_none_or(|window| (z.abs() - window).abs() > 1e-4),
    })
}

/// One step of an autoencoder whose codes are bits.
pub fn a_step_of_bits(
    engine: Engine,
    [n, d_in, d_sae]: [usize; 3],
    estimator: Estimator,
    [entropy_weight, covariance_weight]: [f64; 2],
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = parameters(&mut rng, d_in, d_sae, d_in);
    let x = uniform(&mut rng, n, d_in);
    let batch = Batch { x: x.view(), target: Target::Input };
    let objective = Objective { entropy_weight, covariance_weight, ..Objective::default() };
    let architecture = Architecture::binary(estimator);
    let want = Reference::new(&start).trace(&architecture, &objective, batch).unwrap();
    prop_assume!(decided(&want.z, estimator));
    let Some(mut engine) = engine(&start, n) else { return Ok(()) };
    let got = engine.trace(&architecture, &objective, batch).unwrap();
    prop_assert_eq!(&got.h, &want.h);
    // the terms of a sum may be of size 1 however small the sum is, and so may errors be
    near_terms("z", &got.z, &want.z, d_in, 1.0);
    near_terms("y", &got.y, &want.y, d_sae, 1.0);
    let unit = 2.0 / (n * d_in) as f64;
    let near = |what: &str, got: &Array2<f64>, want: &Array2<f64>, length: usize| {
        near_terms(what, got, want, length, unit);
    };
    near("grad y", &got.grad_y, &want.grad_y, d_sae);
    // what the estimator lets no one see need not be complete
    let seen = |trace: &Trace| {
        let window = estimator.window().unwrap_or(f64::INFINITY);
        ndarray::Zip::from(&trace.grad_h)
            .and(&trace.z)
            .map_collect(|&g, z| if z.abs() < window { g } else { 0.0 })
    };
    near("grad h", &seen(&got), &seen(&want), d_in + d_sae);
    // estimators that look at the gradient or at z pass their rounding on
    near("grad z", &got.grad_z, &want.grad_z, 8 * (d_in + d_sae));
    near("W_enc", &got.gradient.w_enc, &want.gradient.w_enc, 8 * (n + d_in + d_sae));
    near("b_enc", &row(&got.gradient.b_enc), &row(&want.gradient.b_enc), 8 * (n + d_in + d_sae));
    near("W_dec", &got.gradient.w_dec, &want.gradient.w_dec, n + d_sae);
    near("b_dec", &row(&got.gradient.b_dec), &row(&want.gradient.b_dec), n + d_sae);
    // of a small error that of an output is a larger part
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-6) + 4e-6 * b.abs().sqrt();
    prop_assert!(close(got.stats.mse, want.stats.mse) && close(got.stats.loss, want.stats.loss));
    prop_assert_eq!(got.stats.entropy_bits, want.stats.entropy_bits);
    prop_assert!((got.stats.covariance - want.stats.covariance).abs() <= 1e-9 * want.stats.covariance);
    Ok(())
}

/// One step of an autoencoder whose codes are real values.
pub fn a_step_of_values(
    engine: Engine,
    [n, d_in, d_sae, d_out]: [usize; 4],
    which: usize,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = parameters(&mut rng, d_in, d_sae, d_out);
    let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
    let activation = [
        Activation::None,
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::TopK(1 + d_sae / 3),
        Activation::JumpRelu(0.2),
    ][which];
    let architecture = Architecture { activation, output: OutputActivation::Tanh };
    let objective = Objective { l1_weight: 1e-3, ..Objective::default() };
    let batch = Batch { x: x.view(), target: Target::States(target.view()) };
    let want = Reference::new(&start).trace(&architecture, &objective, batch).unwrap();
    prop_assume!(want.z.iter().all(|z| z.abs() > 1e-4 && (z - 0.2).abs() > 1e-4));
    let Some(mut engine) = engine(&start, n) else { return Ok(()) };
    let got = engine.trace(&architecture, &objective, batch).unwrap();
    near_terms("h", &got.h, &want.h, d_in, 1.0);
    near_terms("y", &got.y, &want.y, d_sae + d_in, 1.0);
    // where the outputs saturate, 1 − y² keeps the rounding of y while the gradient vanishes
    let terms = largest(&want.grad_y) * largest(&want.h).max(1.0);
    near_terms("W_enc", &got.gradient.w_enc, &want.gradient.w_enc, 4 * (n + d_sae + d_in), terms);
    near_terms("W_dec", &got.gradient.w_dec, &want.gradient.w_dec, 4 * (n + d_sae + d_in), terms);
    Ok(())
}

/// Codes of hidden states, outputs of codes, and the covariance of codes.
pub fn encoding_and_decoding(
    engine: Engine,
    [n, d_in, d_sae]: [usize; 3],
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = parameters(&mut rng, d_in, d_sae, d_in);
    let x = uniform(&mut rng, n, d_in);
    let architecture = Architecture::binary(Estimator::Identity);
    let Some(engine) = engine(&start, n) else { return Ok(()) };
    let reference = Reference::new(&start);
    let codes = engine.encode(&architecture, x.view()).unwrap();
    prop_assert_eq!((codes.rows(), codes.features()), (n, d_sae));
    let want = reference.decode(&architecture, &codes).unwrap().mapv(f64::from);
    near_terms("decoded", &engine.decode(&architecture, &codes).unwrap().mapv(f64::from), &want, d_sae, 1.0);
    prop_assert_eq!(engine.covariance(&codes).unwrap(), reference.covariance(&codes).unwrap());
    if codes != reference.encode(&architecture, x.view()).unwrap() {
        let z = bae_model::reference::pre_activations(&start.map(f64::from), x.view());
        prop_assert!(!decided(&z, Estimator::Identity), "codes differ although no pre-activation is near 0");
    }
    Ok(())
}

/// Many panels to a task, and outputs of another width: the update is Adam on the gradients that looking into a step shows.
pub fn a_step_is_adam_on_the_gradients_of_its_trace(engine: Engine) {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (n, d_in, d_sae, d_out) = (40, 9, 1100, 5);
    let start = parameters(&mut rng, d_in, d_sae, d_out);
    let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
    let batch = Batch { x: x.view(), target: Target::States(target.view()) };
    let objective = Objective { entropy_weight: 1e-3, covariance_weight: 1e-4, ..Objective::default() };
    for width in [0.05, 2.0] {
        let architecture = Architecture::binary(Estimator::Rectangle { width });
        let Some(mut engine) = engine(&start, n) else { return };
        let gradient = engine.trace(&architecture, &objective, batch).unwrap().gradient;
        engine.step(&architecture, &objective, &Adam::new(1e-2), batch).unwrap();
        let after = engine.parameters().unwrap();
        for ((start, after), gradient) in start.flat().iter().zip(after.flat()).zip(gradient.flat()) {
            for ((&start, &after), &g) in start.iter().zip(after).zip(gradient) {
                // the first step goes by the gradient's sign
                let want = f64::from(start) - 1e-2 * g / (g.abs() + 1e-8);
                assert!((f64::from(after) - want).abs() < 1e-6, "{after} {want} {g}");
            }
        }
    }
}

/// One step whose gradients are scaled so that their norm is at most `share` of what it is.
pub fn a_clipped_step(
    engine: Engine,
    [n, d_in, d_sae, d_out]: [usize; 4],
    activation: Activation,
    share: f64,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let start = parameters(&mut rng, d_in, d_sae, d_out);
    let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
    let batch = Batch { x: x.view(), target: Target::States(target.view()) };
    let architecture = Architecture { activation, output: OutputActivation::None };
    let objective = Objective { entropy_weight: 1e-2, l1_weight: 1e-3, ..Objective::default() };
    let mut reference = Reference::new(&start);
    let Trace { z, gradient, stats: plain, .. } = reference.trace(&architecture, &objective, batch).unwrap();
    prop_assume!(z.iter().all(|z| (z - 0.2).abs() > 1e-4));
    prop_assume!(decided(&z, architecture.estimator().unwrap_or(Estimator::Identity)));
    let norm = gradient.flat().into_iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    // where the update goes by the gradient's size, and not by its sign alone
    let adam = Adam { epsilon: 1.0, weight_decay: 0.1, clip_norm: share * norm, ..Adam::new(1.0) };
    let Some(mut engine) = engine(&start, n) else { return Ok(()) };
    let got = engine.step(&architecture, &objective, &adam, batch).unwrap();
    let want = reference.step(&architecture, &objective, &adam, batch).unwrap();
    prop_assert_eq!(want, StepStats { gradient_norm: Some(norm), ..plain });
    let of_engine = got.gradient_norm.expect("a norm");
    prop_assert!((of_engine - norm).abs() <= 1e-4 * norm.max(1e-3), "norm {} {}", of_engine, norm);

    // the first step's mean gradient: a tenth of what the update saw
    let scale = (share * norm / (norm + 1e-6)).min(1.0);
    let (got, want) = (engine.state().unwrap(), reference.state().unwrap());
    let first = want.moments.first.map(f64::from);
    let expected = start.w_dec.mapv(f64::from) * 0.1 + &gradient.w_dec * scale;
    near("clipped by hand", &first.w_dec, &(expected * 0.1), 1);
    let length = 8 * (n + d_in + d_sae + d_out);
    let wide = |parameters: &Parameters| parameters.map(f64::from);
    for (what, got, want) in [
        ("the gradient of", wide(&got.moments.first), first),
        ("the square of", wide(&got.moments.second), wide(&want.moments.second)),
        ("the updated", wide(&got.parameters), wide(&want.parameters)),
    ] {
        near(&format!("{what} W_enc"), &got.w_enc, &want.w_enc, length);
        near(&format!("{what} b_enc"), &row(&got.b_enc), &row(&want.b_enc), length);
        near(&format!("{what} W_dec"), &got.w_dec, &want.w_dec, length);
        near(&format!("{what} b_dec"), &row(&got.b_dec), &row(&want.b_dec), length);
    }
    Ok(())
}

/// Gradients without a norm cannot be clipped: the step fails and nothing changes. Without clipping no norm is asked for.
pub fn a_norm_that_is_not_finite_changes_nothing(engine: Engine) {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let start = parameters(&mut rng, 5, 70, 5);
    let x = uniform(&mut rng, 9, 5);
    let Some(mut engine) = engine(&start, 9) else { return };
    for architecture in [
        Architecture::binary(Estimator::Identity),
        Architecture { activation: Activation::Relu, output: OutputActivation::None },
    ] {
        let clipping = Adam { clip_norm: 0.5, ..Adam::new(1e-3) };
        let fine = Batch { x: x.view(), target: Target::Input };
        let mut step = |adam, batch| engine.step(&architecture, &Objective::default(), adam, batch);
        assert!(step(&clipping, fine).unwrap().gradient_norm.is_some());
        assert_eq!(step(&Adam::new(1e-3), fine).unwrap().gradient_norm, None);
        let before = engine.state().unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let mut target = x.clone();
            target[[3, 2]] = bad;
            let batch = Batch { x: x.view(), target: Target::States(target.view()) };
            let error = engine.step(&architecture, &Objective::default(), &clipping, batch).unwrap_err();
            assert!(matches!(error, ModelError::GradientNotFinite), "{error}");
            assert_eq!(engine.state().unwrap(), before);
        }
    }
}

/// Steps that change no parameter, so that engines stay together: which features were on, and how long ago.
pub fn idle_features(
    engine: Engine,
    [n, d_in, d_sae]: [usize; 3],
    activation: Activation,
    seed: u64,
) -> Result<(), TestCaseError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut start = parameters(&mut rng, d_in, d_sae, d_in);
    // some are always off, some always on, some now and then
    start.b_enc.iter_mut().enumerate().for_each(|(at, b)| *b += [0.0, -50.0, -1.5, 50.0, -3.0][at % 5]);
    let architecture = Architecture { activation, output: OutputActivation::None };
    let Some(mut engine) = engine(&start, n) else { return Ok(()) };
    let mut reference = Reference::new(&start);
    prop_assert_eq!(engine.idle().unwrap(), vec![0; d_sae]);
    for step in 0..5 {
        let x = uniform(&mut rng, 1 + (n + step) % n, d_in);
        let batch = Batch { x: x.view(), target: Target::Input };
        let z = reference.trace(&architecture, &Objective::default(), batch).unwrap().z;
        prop_assume!(z.iter().all(|z| z.abs() > 1e-4 && (z - 0.2).abs() > 1e-4));
        for engine in [&mut *engine, &mut reference] {
            engine.step(&architecture, &Objective::default(), &Adam::new(0.0), batch).unwrap();
        }
        prop_assert_eq!(engine.idle().unwrap(), reference.idle().unwrap());
    }
    let mut x = uniform(&mut rng, n, d_in);
    x.fill(f32::NAN);
    let batch = Batch { x: x.view(), target: Target::Input };
    if architecture.estimator().is_some() {
        prop_assert!(engine.step(&architecture, &Objective::default(), &Adam::new(0.0), batch).is_err());
        prop_assert_eq!(engine.idle().unwrap(), reference.idle().unwrap());
    }
    Ok(())
}

/// Codes that are bits, and all that are real values.
pub fn activations() -> impl Strategy<Value = Activation> {
    prop_oneof![
        estimators().prop_map(Activation::Binary),
        Just(Activation::None),
        Just(Activation::Relu),
        Just(Activation::Sigmoid),
        Just(Activation::Tanh),
        (0usize..60).prop_map(Activation::TopK),
        Just(Activation::JumpRelu(0.2)),
    ]
}

/// Steps, a state, and steps from there on: the same bits in the engine that goes on and in one that takes over.
pub fn going_on_from_a_state(engine: Engine, other: Engine) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let few_open = Architecture::binary(Estimator::Rectangle { width: 0.1 });
    let sigmoid = Architecture::binary(Estimator::Sigmoid { width: 0.5 });
    let relu = Architecture { activation: Activation::Relu, output: OutputActivation::None };
    for ([n, d_in, d_sae, d_out], architecture) in [
        ([1, 1, 1, 1], sigmoid),
        ([33, 17, 70, 5], few_open),
        ([40, 9, 1100, 9], sigmoid),
        ([70, 31, 130, 33], sigmoid),
        ([33, 17, 70, 5], relu),
    ] {
        let objective = Objective { entropy_weight: 1e-3, covariance_weight: 1e-4, ..Objective::default() };
        let start = parameters(&mut rng, d_in, d_sae, d_out);
        let batches: Vec<_> = (0..12)
            .map(|at| {
                let rows = 1 + (n + at) % n;
                (uniform(&mut rng, rows, d_in), uniform(&mut rng, rows, d_out))
            })
            .collect();
        let steps = |engine: &mut dyn Backend, range: std::ops::Range<usize>| -> Vec<StepStats> {
            let step = |at: usize| {
                let (x, target) = &batches[at];
                let batch = Batch { x: x.view(), target: Target::States(target.view()) };
                let clip_norm = [f64::INFINITY, 0.1, 1e9][at % 3];
                let adam = Adam { clip_norm, ..Adam::new(3e-3) };
                engine.step(&architecture, &objective, &adam, batch).expect("a step")
            };
            range.map(step).collect()
        };
        let Some(mut first) = engine(&start, n) else { return };
        steps(&mut *first, 0..6);
        let state = first.state().unwrap();
        let zeros = Parameters::zeros(d_in, d_sae, d_out);
        let mut second = other(&zeros, n).expect("a second one");
        // what it did before does not matter
        steps(&mut *second, 3..5);
        second.restore(&state).unwrap();
        assert_eq!(second.state().unwrap(), state);
        assert_eq!(state.moments.steps, 6);
        assert_eq!(steps(&mut *first, 6..12), steps(&mut *second, 6..12));
        let (first, second) = (first.state().unwrap(), second.state().unwrap());
        assert_ne!(first, state);
        assert!(first == second, "{n} {d_in} {d_sae} {d_out}");
    }
}

/// A state of another shape, in any of its parts, changes nothing.
pub fn a_state_of_another_shape_is_refused(engine: Engine) {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let start = parameters(&mut rng, 4, 40, 3);
    let Some(mut engine) = engine(&start, 5) else { return };
    let before = engine.state().unwrap();
    let mut wrong = vec![before.clone(), before.clone(), before.clone(), before.clone(), before.clone()];
    wrong[0].idle.pop();
    wrong[1].parameters = parameters(&mut rng, 4, 41, 3);
    wrong[2].moments.first = parameters(&mut rng, 5, 40, 3);
    wrong[3].moments.second = parameters(&mut rng, 4, 40, 2);
    wrong[4].parameters.b_enc = Array1::zeros(39);
    for state in wrong {
        let error = engine.restore(&state).unwrap_err();
        assert!(matches!(error, ModelError::Shape { .. }), "{error}");
        assert!(error.to_string().contains("the state's"), "{error}");
        assert_eq!(engine.state().unwrap(), before);
    }
}

//! What the engine promises beside its numbers: order, repeatability, refusals, and that a failure changes nothing.

mod device;

use bae_gpu::{Device, Gpu, Widths, open_limited};
use bae_model::{
    Adam, Architecture, Backend, Batch, Cpu, Estimator, ModelError, Objective, Parameters, Precision,
    StepStats, Target,
};
use device::device;
use ndarray::Array2;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const D_IN: usize = 40;
const D_SAE: usize = 700;
const ROWS: usize = 50;

fn uniform(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || rng.random::<f32>() * 2.0 - 1.0)
}

fn start() -> Parameters {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut parameters = Parameters::zeros(D_IN, D_SAE, D_IN);
    parameters.w_enc = uniform(&mut rng, D_IN, D_SAE);
    parameters.w_dec = uniform(&mut rng, D_SAE, D_IN) * 0.1;
    parameters.b_enc.fill(-3.0);
    parameters
}

fn batches(count: u64) -> Vec<Array2<f32>> {
    (0..count)
        .map(|seed| uniform(&mut ChaCha8Rng::seed_from_u64(100 + seed), ROWS - seed as usize % 3, D_IN))
        .collect()
}

fn architecture() -> Architecture {
    Architecture::binary(Estimator::Sigmoid { width: 0.5 })
}

fn objective() -> Objective {
    Objective { entropy_weight: 1e-3, covariance_weight: 1e-5, ..Objective::default() }
}

/// Steps one after the other, on any engine.
fn steps(engine: &mut dyn Backend, count: u64) -> Vec<StepStats> {
    let step = |x: &Array2<f32>| {
        let batch = Batch { x: x.view(), target: Target::Input };
        engine.step(&architecture(), &objective(), &Adam::new(1e-3), batch).expect("a step")
    };
    batches(count).iter().map(step).collect()
}

fn gpu(device: &Arc<Device>) -> Gpu {
    Gpu::new(device, &start(), ROWS).expect("a model that fits")
}

/// The bound: a bit that a rounding flips shifts everything after it a little, so runs stay together but not bit for bit.
#[test]
fn a_training_stays_with_the_cpu_and_repeats_bit_for_bit() {
    let Some(device) = device() else { return };
    let (mut first, mut second, mut cpu) = (gpu(&device), gpu(&device), Cpu::new(&start(), 2));
    let got = steps(&mut first, 60);
    assert_eq!(got, steps(&mut second, 60));
    assert_eq!(first.parameters().unwrap(), second.parameters().unwrap());
    assert_eq!(first.moments().unwrap(), second.moments().unwrap());
    let want = steps(&mut cpu, 60);
    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
        let near = |what: &str, a: f64, b: f64| {
            assert!((a - b).abs() <= 2e-3 * b.abs(), "{what} of step {at}: {a}, on the CPU {b}");
        };
        near("loss", got.loss, want.loss);
        near("mse", got.mse, want.mse);
        near("entropy", got.entropy_bits, want.entropy_bits);
        near("covariance", got.covariance, want.covariance);
    }
    assert!(got[59].mse < 0.9 * got[0].mse, "it learns: {} to {}", got[0].mse, got[59].mse);
    let density = |engine: &dyn Backend| {
        let codes = engine.encode(&architecture(), batches(1)[0].view()).unwrap();
        f64::from(codes.ones_per_row().iter().sum::<u32>()) / (ROWS * D_SAE) as f64
    };
    assert!((density(&first) - density(&cpu)).abs() < 1e-3);
}

#[test]
fn steps_sent_ahead_answer_in_order_and_are_the_same() {
    let Some(device) = device() else { return };
    let (mut ahead, mut waiting) = (gpu(&device), gpu(&device));
    let mut got = vec![];
    for x in &batches(7) {
        let batch = Batch { x: x.view(), target: Target::Input };
        got.extend(ahead.step_ahead(&architecture(), &objective(), &Adam::new(1e-3), batch).unwrap());
    }
    assert_eq!(got.len(), 5, "two steps are still on their way");
    while let Some(stats) = ahead.catch_up().unwrap() {
        got.push(stats);
    }
    assert_eq!(got, steps(&mut waiting, 7));
    assert_eq!(ahead.parameters().unwrap(), waiting.parameters().unwrap());
}

/// As on a large model: parameters that one binding cannot hold.
#[test]
fn a_model_in_several_blocks_learns_as_one_in_one_block() {
    let Some(device) = device() else { return };
    let small = open_limited(device.report().index, 65_536).expect("a device");
    let (mut whole, mut split) = (gpu(&device), gpu(&small));
    assert_eq!((whole.blocks(), split.blocks()), (1, 3));
    let x = &batches(1)[0];
    let batch = Batch { x: x.view(), target: Target::Input };
    let traces = [&mut whole, &mut split]
        .map(|engine| engine.trace(&architecture(), &objective(), batch).expect("a pass"));
    assert_eq!(traces[0].h, traces[1].h);
    assert_eq!(traces[0].stats.covariance, traces[1].stats.covariance);
    assert_eq!(traces[0].stats.entropy_bits, traces[1].stats.entropy_bits);
    for (a, b) in traces[0].gradient.flat().iter().zip(traces[1].gradient.flat()) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6), "gradients");
    }
    let (one, three) = (steps(&mut whole, 5), steps(&mut split, 5));
    assert!(
        one.iter().zip(&three).all(|(a, b)| (a.loss - b.loss).abs() < 1e-4 * a.loss),
        "{one:?} {three:?}"
    );
    let clipping = Adam { clip_norm: 0.01, ..Adam::new(1e-3) };
    let clipped = [gpu(&device), gpu(&small)].map(|mut engine| {
        let stats = engine.step(&architecture(), &objective(), &clipping, batch).expect("a step");
        (stats.gradient_norm.expect("a norm"), engine.moments().unwrap())
    });
    let ((one, whole_moments), (three, split_moments)) = (&clipped[0], &clipped[1]);
    assert!((one - three).abs() < 1e-5 * one && *one > 0.01, "{one} {three}");
    for (a, b) in whole_moments.first.flat().iter().zip(split_moments.first.flat()) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-7), "clipped gradients");
    }
    let codes = whole.encode(&architecture(), x.view()).unwrap();
    let decoded = [&whole, &split].map(|engine| engine.decode(&architecture(), &codes).unwrap());
    assert!(decoded[0].iter().zip(&decoded[1]).all(|(a, b)| (a - b).abs() < 1e-2));
    assert_eq!(whole.covariance(&codes).unwrap(), split.covariance(&codes).unwrap());
    let moments = split.moments().unwrap();
    assert_eq!(moments.steps, 5);
    assert!(moments.first.w_enc.iter().any(|m| *m != 0.0));
}

/// Enough features that pairs are counted in large tiles, where the device has the memory for those.
#[test]
fn large_tiles_count_what_the_cpu_counts() {
    let Some(device) = device() else { return };
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let (rows, d_in, d_sae) = (70, 8, 1300);
    let mut start = Parameters::zeros(d_in, d_sae, d_in);
    start.w_enc = uniform(&mut rng, d_in, d_sae);
    start.w_dec = uniform(&mut rng, d_sae, d_in) * 0.1;
    start.b_enc.fill(-1.0);
    let x = uniform(&mut rng, rows, d_in);
    let batch = Batch { x: x.view(), target: Target::Input };
    let (mut gpu, mut cpu) = (Gpu::new(&device, &start, rows).unwrap(), Cpu::new(&start, 2));
    let [got, want] = [&mut gpu as &mut dyn Backend, &mut cpu]
        .map(|engine| engine.trace(&Architecture::binary(Estimator::Identity), &objective(), batch).unwrap());
    assert_eq!(got.h, want.h);
    assert_eq!(got.stats.covariance, want.stats.covariance);
    for (a, b) in got.grad_h.iter().zip(&want.grad_h) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

#[test]
fn a_batch_that_is_not_finite_changes_nothing_and_is_named() {
    let Some(device) = device() else { return };
    let mut engine = gpu(&device);
    steps(&mut engine, 2);
    let before = engine.state().unwrap();
    let mut x = batches(1).remove(0);
    x[[7, 3]] = f32::NAN;
    let send = |engine: &mut Gpu, x: &Array2<f32>| {
        let batch = Batch { x: x.view(), target: Target::Input };
        engine.step_ahead(&architecture(), &objective(), &Adam::new(1e-3), batch)
    };
    // two more follow before the failure comes back
    assert!(send(&mut engine, &x).unwrap().is_none());
    assert!(send(&mut engine, &batches(1)[0]).unwrap().is_none());
    let error = send(&mut engine, &batches(1)[0]).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { row: 7, feature: 0 }), "{error}");
    assert!(engine.catch_up().unwrap().is_none());
    assert_eq!(engine.state().unwrap(), before);
    let error = engine.encode(&architecture(), x.view()).unwrap_err();
    assert!(matches!(error, ModelError::NotFinite { row: 7, feature: 0 }), "{error}");
    // and it can go on
    let mut other = gpu(&device);
    steps(&mut other, 2);
    assert_eq!(steps(&mut engine, 3), steps(&mut other, 3));
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing_after_it_either() {
    let Some(device) = device() else { return };
    let mut engine = gpu(&device);
    steps(&mut engine, 2);
    let before = engine.state().unwrap();
    let (x, clipping) = (batches(1).remove(0), Adam { clip_norm: 0.1, ..Adam::new(1e-3) });
    let mut target = x.clone();
    target[[7, 3]] = f32::NAN;
    let send = |engine: &mut Gpu, target: &Array2<f32>, adam: &Adam| {
        let batch = Batch { x: x.view(), target: Target::States(target.view()) };
        engine.step_ahead(&architecture(), &objective(), adam, batch)
    };
    assert!(send(&mut engine, &target, &clipping).unwrap().is_none());
    assert!(send(&mut engine, &x, &Adam::new(1e-3)).unwrap().is_none());
    let error = send(&mut engine, &x, &clipping).unwrap_err();
    assert!(matches!(error, ModelError::GradientNotFinite), "{error}");
    assert!(engine.catch_up().unwrap().is_none());
    assert_eq!(engine.state().unwrap(), before);
    // and it can go on
    let mut other = gpu(&device);
    steps(&mut other, 2);
    assert_eq!(steps(&mut engine, 3), steps(&mut other, 3));
}

#[test]
fn what_it_cannot_do_is_refused_with_the_reason() {
    let Some(device) = device() else { return };
    let refused = |error: ModelError| match error {
        ModelError::Unavailable(message) => message,
        other => panic!("{other}"),
    };
    let widths = Widths { d_in: D_IN, d_sae: D_SAE, d_out: D_IN };
    let message = refused(Gpu::check(&device, Precision::Bf16, ROWS, widths).unwrap_err());
    assert!(Gpu::check(&device, Precision::F32, ROWS, widths).is_ok());
    for (rows, d_sae, said) in [(46_341, D_SAE, "46340"), (40_000, 1 << 16, "2147483647")] {
        let error = Gpu::check(&device, Precision::F32, rows, Widths { d_sae, ..widths }).unwrap_err();
        assert!(refused(error).contains(said));
    }
    assert!(message.contains("bf16") && message.contains("f32"), "{message}");
    let small = open_limited(device.report().index, 16_384).expect("a device");
    let message = refused(Gpu::new(&small, &start(), ROWS).err().expect("too large"));
    assert!(message.contains("16384 bytes"), "{message}");
    let mut engine = gpu(&device);
    let rows = Array2::zeros((50_000, D_IN));
    let batch = Batch { x: rows.view(), target: Target::Input };
    let error = engine.step(&architecture(), &objective(), &Adam::new(1e-3), batch).unwrap_err();
    assert!(refused(error).contains("46340"));
    let wide = Array2::zeros((3, D_IN + 1));
    let batch = Batch { x: wide.view(), target: Target::Input };
    let error = engine.step(&architecture(), &objective(), &Adam::new(1e-3), batch).unwrap_err();
    assert!(matches!(error, ModelError::Shape { .. }), "{error}");
    assert!(matches!(engine.encode(&architecture(), wide.view()), Err(ModelError::Shape { .. })));
    assert_eq!(steps(&mut engine, 1), steps(&mut gpu(&device), 1), "a refused batch leaves no trace");
}

#[test]
fn a_lost_device_is_an_error_everywhere() {
    let Some(device) = device() else { return };
    let own = open_limited(device.report().index, device.report().max_binding_bytes).expect("a device");
    let mut engine = gpu(&own);
    steps(&mut engine, 2);
    let state = engine.state().unwrap();
    own.lose();
    let lost = |error: ModelError| assert!(matches!(error, ModelError::DeviceLost(_)), "{error}");
    let x = &batches(1)[0];
    let batch = Batch { x: x.view(), target: Target::Input };
    lost(engine.step(&architecture(), &objective(), &Adam::new(1e-3), batch).unwrap_err());
    lost(engine.trace(&architecture(), &objective(), batch).unwrap_err());
    lost(engine.encode(&architecture(), x.view()).unwrap_err());
    lost(engine.parameters().unwrap_err());
    lost(engine.moments().unwrap_err());
    lost(engine.idle().unwrap_err());
    lost(engine.restore(&state).unwrap_err());
    lost(Gpu::new(&own, &start(), ROWS).err().expect("it is lost"));
    // others are not touched
    steps(&mut gpu(&device), 1);
}

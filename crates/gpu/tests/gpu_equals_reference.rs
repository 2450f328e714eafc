//! The GPU's step against the plain f64 loops, over odd shapes.

mod device;
#[path = "../../model/tests/oracle/mod.rs"]
mod oracle;

use bae_gpu::{Gpu, open_limited};
use bae_model::{Adam, Architecture, Backend, Batch, Estimator, Objective, Precision, Target};
use device::device;
use ndarray::Array2;
use oracle::{activations, estimators, largest, near_terms, parameters, uniform};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const CASES: u32 = 40;

const ENGINE: oracle::Engine = |parameters, rows| {
    let gpu = Gpu::new(&device()?, parameters, rows).expect("a model that fits");
    Some(Box::new(gpu))
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]
    #[test]
    fn a_step_of_bits(
        n in 1usize..70, d_in in 1usize..40, d_sae in 1usize..140, estimator in estimators(),
        entropy_weight in 0f64..0.1, covariance_weight in prop_oneof![Just(0.0), 0f64..0.1], seed: u64,
    ) {
        oracle::a_step_of_bits(ENGINE, [n, d_in, d_sae], estimator, [entropy_weight, covariance_weight], seed)?;
    }

    #[test]
    fn a_step_of_values(n in 1usize..40, d_in in 1usize..20, d_sae in 1usize..50, d_out in 1usize..20, which in 0usize..6, seed: u64) {
        oracle::a_step_of_values(ENGINE, [n, d_in, d_sae, d_out], which, seed)?;
    }

    #[test]
    fn encoding_and_decoding(n in 0usize..70, d_in in 1usize..40, d_sae in 1usize..140, seed: u64) {
        oracle::encoding_and_decoding(ENGINE, [n, d_in, d_sae], seed)?;
    }

    #[test]
    fn a_clipped_step(
        n in 1usize..70, d_in in 1usize..40, d_sae in 1usize..140, d_out in 1usize..40, activation in activations(),
        share in 0.05f64..2.0, seed: u64,
    ) {
        oracle::a_clipped_step(ENGINE, [n, d_in, d_sae, d_out], activation, share, seed)?;
    }

    #[test]
    fn idle_features(n in 1usize..70, d_in in 1usize..40, d_sae in 1usize..140, activation in activations(), seed: u64) {
        oracle::idle_features(ENGINE, [n, d_in, d_sae], activation, seed)?;
    }
}

#[test]
fn a_step_is_adam_on_the_gradients_of_its_trace() {
    oracle::a_step_is_adam_on_the_gradients_of_its_trace(ENGINE);
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    oracle::a_norm_that_is_not_finite_changes_nothing(ENGINE);
}

#[test]
fn going_on_from_a_state_changes_no_bit() {
    let half: oracle::Engine = |parameters, rows| {
        let device = device().filter(|device| device.report().half_floats)?;
        let gpu = Gpu::new(&device, parameters, rows).expect("a model that fits");
        Some(Box::new(gpu.with_precision(Precision::F16).expect("half floats")))
    };
    // several blocks
    let split: oracle::Engine = |parameters, rows| {
        let small = open_limited(device()?.report().index, 65_536).expect("a device");
        Some(Box::new(Gpu::new(&small, parameters, rows).expect("a model that fits")))
    };
    oracle::going_on_from_a_state(ENGINE, ENGINE);
    oracle::going_on_from_a_state(half, half);
    oracle::going_on_from_a_state(split, split);
}

#[test]
fn a_state_of_another_shape_is_refused() {
    oracle::a_state_of_another_shape_is_refused(ENGINE);
}

/// Factors keep eleven bits, and gradients as small as those of a large batch must not vanish.
#[test]
fn f16_products_are_near_those_of_f32() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (n, d_in, d_sae) = (512, 48, 96);
    let start = parameters(&mut rng, d_in, d_sae, d_in);
    let x = uniform(&mut rng, n, d_in);
    // an error of about 1e-3: its gradient in half floats would be 0
    let target = x.mapv(|x| x + 1e-3);
    let batch = Batch { x: x.view(), target: Target::States(target.view()) };
    let objective = Objective { entropy_weight: 1e-7, covariance_weight: 1e-9, ..Objective::default() };
    let architecture = Architecture::binary(Estimator::Sigmoid { width: 0.5 });
    let Some(device) = device() else { return };
    if !device.report().half_floats {
        println!("skipped: {} has no half floats", device.report().name);
        return;
    }
    let mut start = start;
    start.w_dec.fill(0.0);
    start.w_dec.iter_mut().enumerate().for_each(|(at, w)| *w = 1e-4 * (at % 7) as f32);
    let trace = |precision| {
        let mut gpu = Gpu::new(&device, &start, n).unwrap().with_precision(precision).unwrap();
        gpu.trace(&architecture, &objective, batch).unwrap()
    };
    let (f32, f16) = (trace(Precision::F32), trace(Precision::F16));
    let mut stepped = Gpu::new(&device, &start, n).unwrap().with_precision(Precision::F16).unwrap();
    stepped.step(&architecture, &objective, &Adam::new(1e-2), batch).unwrap();
    let first = stepped.moments().unwrap().first.w_enc.mapv(f64::from);
    near_terms("a step's moments", &first, &(0.1 * &f16.gradient.w_enc), 1, 0.0);
    // what gradients are lifted by for their products is not in their norm
    let clipping = Adam { clip_norm: 1.0, ..Adam::new(1e-2) };
    let norm = f16.gradient.flat().into_iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
    let mut clipped = Gpu::new(&device, &start, n).unwrap().with_precision(Precision::F16).unwrap();
    let stats = clipped.step(&architecture, &objective, &clipping, batch).unwrap();
    let of_step = stats.gradient_norm.expect("a norm");
    assert!((of_step - norm).abs() < 1e-4 * norm, "{of_step} {norm}");
    let off = |a: &Array2<f64>, b: &Array2<f64>| largest(&(a - b)) / largest(a);
    assert!(off(&f32.z, &f16.z) > 1e-5 && off(&f32.z, &f16.z) < 1e-3);
    let flipped = f32.h.iter().zip(&f16.h).filter(|(a, b)| a != b).count();
    assert!(flipped < n * d_sae / 500, "{flipped} codes");
    assert!((f32.stats.mse - f16.stats.mse).abs() < 1e-2 * f32.stats.mse);
    for (a, b) in [
        (&f32.grad_z, &f16.grad_z),
        (&f32.gradient.w_enc, &f16.gradient.w_enc),
        (&f32.gradient.w_dec, &f16.gradient.w_dec),
    ] {
        let apart =
            (a - b).iter().map(|d| d * d).sum::<f64>().sqrt() / a.iter().map(|d| d * d).sum::<f64>().sqrt();
        assert!(apart < 2e-2 && apart > 1e-6, "{apart}");
    }
}

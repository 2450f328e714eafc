//! The CPU's step against the plain f64 loops, over odd shapes.

mod oracle;

use bae_model::reference::Reference;
use bae_model::{Adam, Architecture, Backend, Batch, Cpu, Estimator, Objective, Precision, Target};
use ndarray::Array2;
use oracle::{activations, estimators, largest, parameters, uniform};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const CASES: u32 = 150;

const ENGINE: oracle::Engine = |parameters, _| Some(Box::new(Cpu::new(parameters, 2)));

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

/// Gradients that are kept for their norm, and not too large, are those that are used up at once.
#[test]
fn clipping_at_a_norm_that_is_not_reached_changes_no_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for (n, d_in, d_sae) in [(1, 1, 1), (33, 17, 70), (40, 9, 1100)] {
        let start = parameters(&mut rng, d_in, d_sae, d_in);
        let x = uniform(&mut rng, n, d_in);
        let batch = Batch { x: x.view(), target: Target::Input };
        let objective = Objective { entropy_weight: 1e-3, covariance_weight: 1e-4, ..Objective::default() };
        for width in [0.1, 2.0] {
            let architecture = Architecture::binary(Estimator::Rectangle { width });
            let states = [f64::INFINITY, 1e9].map(|clip_norm| {
                let adam = Adam { clip_norm, weight_decay: 0.1, ..Adam::new(1e-2) };
                let mut cpu = Cpu::new(&start, 2);
                (0..5).for_each(|_| _ = cpu.step(&architecture, &objective, &adam, batch).expect("a step"));
                cpu.state().unwrap()
            });
            assert!(states[0] == states[1], "{n} {d_in} {d_sae} {width}");
        }
    }
}

#[test]
fn a_norm_that_is_not_finite_changes_nothing() {
    oracle::a_norm_that_is_not_finite_changes_nothing(ENGINE);
    oracle::a_norm_that_is_not_finite_changes_nothing(|parameters, _| {
        Some(Box::new(Reference::new(parameters)))
    });
}

#[test]
fn going_on_from_a_state_changes_no_bit() {
    let bf16: oracle::Engine =
        |parameters, _| Some(Box::new(Cpu::new(parameters, 2).with_precision(Precision::Bf16)));
    let bf16_alone: oracle::Engine =
        |parameters, _| Some(Box::new(Cpu::new(parameters, 1).with_precision(Precision::Bf16)));
    oracle::going_on_from_a_state(ENGINE, ENGINE);
    oracle::going_on_from_a_state(ENGINE, |parameters, _| Some(Box::new(Cpu::new(parameters, 1))));
    oracle::going_on_from_a_state(ENGINE, |parameters, _| Some(Box::new(Cpu::new(parameters, 5))));
    oracle::going_on_from_a_state(bf16, bf16_alone);
}

#[test]
fn a_state_of_another_shape_is_refused() {
    oracle::a_state_of_another_shape_is_refused(ENGINE);
    oracle::a_state_of_another_shape_is_refused(|parameters, _| Some(Box::new(Reference::new(parameters))));
}

/// Factors keep eight bits, so a sum is off by about 2⁻⁸ of its terms' size, and few codes change.
#[test]
fn bf16_products_are_near_those_of_f32() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let (n, d_in, d_sae) = (64, 48, 96);
    let start = parameters(&mut rng, d_in, d_sae, d_in);
    let x = uniform(&mut rng, n, d_in);
    let batch = Batch { x: x.view(), target: Target::Input };
    let architecture = Architecture::binary(Estimator::Identity);
    let trace = |precision| {
        let mut cpu = Cpu::new(&start, 2).with_precision(precision);
        cpu.trace(&architecture, &Objective::default(), batch).unwrap()
    };
    let (f32, bf16) = (trace(Precision::F32), trace(Precision::Bf16));
    let off = |a: &Array2<f64>, b: &Array2<f64>| largest(&(a - b)) / largest(a);
    assert!(off(&f32.z, &bf16.z) > 1e-5 && off(&f32.z, &bf16.z) < 0.01);
    let flipped = f32.h.iter().zip(&bf16.h).filter(|(a, b)| a != b).count();
    assert!(flipped < n * d_sae / 100, "{flipped} codes");
    assert!((f32.stats.mse - bf16.stats.mse).abs() < 0.02 * f32.stats.mse);
}

#[test]
fn wrong_widths_and_nan_are_named() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut cpu = Cpu::new(&parameters(&mut rng, 4, 6, 4), 1);
    let architecture = Architecture::binary(Estimator::Identity);
    let wide = uniform(&mut rng, 3, 5);
    let error = cpu.encode(&architecture, wide.view()).unwrap_err().to_string();
    assert!(error.contains("width 5") && error.contains('4'), "{error}");
    let mut x = uniform(&mut rng, 3, 4);
    x[[2, 1]] = f32::NAN;
    let batch = Batch { x: x.view(), target: Target::Input };
    let before = cpu.parameters();
    let error =
        cpu.step(&architecture, &Objective::default(), &Adam::new(0.1), batch).unwrap_err().to_string();
    assert!(error.contains("row 2") && error.contains("not a number"), "{error}");
    assert_eq!(cpu.parameters(), before);
    let fine = uniform(&mut rng, 3, 4);
    let (none, few) = (uniform(&mut rng, 0, 4), uniform(&mut rng, 2, 4));
    let mut refuse = |batch: Batch| {
        cpu.step(&architecture, &Objective::default(), &Adam::new(0.1), batch).unwrap_err().to_string()
    };
    let of = |target| Batch { x: fine.view(), target };
    assert!(refuse(Batch { x: none.view(), target: Target::Input }).contains("no rows"));
    assert!(refuse(of(Target::States(few.view()))).contains("3 rows and 2 targets"));
    assert!(refuse(of(Target::States(wide.view()))).contains("width 5"));
    assert!(refuse(of(Target::Labels(&[0, 1, 4]))).contains("label"));
    assert_eq!(cpu.parameters(), before);
    let codes = bae_codes::BitMatrix::zeros(1, 7);
    assert!(cpu.decode(&architecture, &codes).is_err());
}

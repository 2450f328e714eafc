//! The GPU's step against the plain f64 loops, over odd shapes.

mod device;

use bae_gpu::Gpu;
use bae_model::{
    Activation, Adam, Architecture, Backend, Batch, Cpu, Estimator, Objective, OutputActivation, Parameters,
    Precision, Target, reference::Reference,
};
use device::device;
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn uniform(rng: &mut ChaCha8Rng, rows: usize, columns: usize) -> Array2<f32> {
    Array2::from_shape_simple_fn((rows, columns), || rng.random::<f32>() * 2.0 - 1.0)
}

fn parameters(rng: &mut ChaCha8Rng, d_in: usize, d_sae: usize, d_out: usize) -> Parameters {
    Parameters {
        w_enc: uniform(rng, d_in, d_sae),
        b_enc: uniform(rng, 1, d_sae).remove_axis(ndarray::Axis(0)),
        w_dec: uniform(rng, d_sae, d_out),
        b_dec: uniform(rng, 1, d_out).remove_axis(ndarray::Axis(0)),
    }
}

/// A model on the device, if there is one.
fn gpu(parameters: &Parameters, rows: usize) -> Option<Gpu> {
    device().map(|device| Gpu::new(&device, parameters, rows).expect("a model that fits"))
}

fn estimators() -> impl Strategy<Value = Estimator> {
    prop_oneof![
        Just(Estimator::Identity),
        (0.05f64..3.0).prop_map(|width| Estimator::Sigmoid { width }),
        (0.05f64..3.0).prop_map(|width| Estimator::Rectangle { width }),
        Just(Estimator::ReferenceSigmoid),
        Just(Estimator::Squarewave),
    ]
}

fn largest(values: &Array2<f64>) -> f64 {
    values.iter().fold(0.0, |a, b| a.max(b.abs()))
}

/// Within the error that f32 sums of `length` terms of at least size `least` allow.
fn near_terms(what: &str, got: &Array2<f64>, want: &Array2<f64>, length: usize, least: f64) {
    let size = largest(want).max(least);
    let bound = 4.0 * f64::from(f32::EPSILON) * (length as f64 + 8.0) * size;
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() <= bound, "{what}: {got}, expected {want} within {bound}");
    }
}

fn near(what: &str, got: &Array2<f64>, want: &Array2<f64>, length: usize) {
    near_terms(what, got, want, length, 1e-3);
}

fn row(values: &Array1<f64>) -> Array2<f64> {
    values.clone().insert_axis(ndarray::Axis(0))
}

/// Pre-activations further from an edge of the step than f32 can blur.
fn decided(z: &Array2<f64>, estimator: Estimator) -> bool {
    z.iter().all(|&z| match estimator {
        Estimator::Squarewave => (z - z.round()).abs() > 1e-4,
        _ => z.abs() > 1e-4 && estimator.window().is_none_or(|window| (z.abs() - window).abs() > 1e-4),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_step_of_bits(
        n in 1usize..70, d_in in 1usize..40, d_sae in 1usize..140, estimator in estimators(),
        entropy_weight in 0f64..0.1, covariance_weight in prop_oneof![Just(0.0), 0f64..0.1], seed: u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let start = parameters(&mut rng, d_in, d_sae, d_in);
        let x = uniform(&mut rng, n, d_in);
        let batch = Batch { x: x.view(), target: Target::Input };
        let objective = Objective { entropy_weight, covariance_weight, ..Objective::default() };
        let architecture = Architecture::binary(estimator);
        let want = Reference::new(&start).trace(&architecture, &objective, batch).unwrap();
        prop_assume!(decided(&want.z, estimator));
        let Some(mut gpu) = gpu(&start, n) else { return Ok(()) };
        let got = gpu.trace(&architecture, &objective, batch).unwrap();
        prop_assert_eq!(&got.h, &want.h);
        near("z", &got.z, &want.z, d_in);
        near("y", &got.y, &want.y, d_sae);
        near("grad y", &got.grad_y, &want.grad_y, d_sae);
        near("grad h", &got.grad_h, &want.grad_h, d_in);
        near("grad z", &got.grad_z, &want.grad_z, 8 * (d_in + d_sae));
        near("W_enc", &got.gradient.w_enc, &want.gradient.w_enc, 8 * (n + d_in + d_sae));
        near("b_enc", &row(&got.gradient.b_enc), &row(&want.gradient.b_enc), 8 * (n + d_in + d_sae));
        near("W_dec", &got.gradient.w_dec, &want.gradient.w_dec, n + d_sae);
        near("b_dec", &row(&got.gradient.b_dec), &row(&want.gradient.b_dec), n + d_sae);
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * b.abs().max(1e-6);
        prop_assert!(close(got.stats.mse, want.stats.mse) && close(got.stats.loss, want.stats.loss));
        prop_assert_eq!(got.stats.entropy_bits, want.stats.entropy_bits);
        prop_assert!((got.stats.covariance - want.stats.covariance).abs() <= 1e-9 * want.stats.covariance);
    }

    #[test]
    fn a_step_of_values(n in 1usize..40, d_in in 1usize..20, d_sae in 1usize..50, d_out in 1usize..20, which in 0usize..6, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let start = parameters(&mut rng, d_in, d_sae, d_out);
        let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
        let activation = [
            Activation::None, Activation::Relu, Activation::Sigmoid, Activation::Tanh,
            Activation::TopK(1 + d_sae / 3), Activation::JumpRelu(0.2),
        ][which];
        let architecture = Architecture { activation, output: OutputActivation::Tanh };
        let objective = Objective { l1_weight: 1e-3, ..Objective::default() };
        let batch = Batch { x: x.view(), target: Target::States(target.view()) };
        let want = Reference::new(&start).trace(&architecture, &objective, batch).unwrap();
        prop_assume!(want.z.iter().all(|z| z.abs() > 1e-4 && (z - 0.2).abs() > 1e-4));
        let Some(mut gpu) = gpu(&start, n) else { return Ok(()) };
        let got = gpu.trace(&architecture, &objective, batch).unwrap();
        near("h", &got.h, &want.h, d_in);
        near("y", &got.y, &want.y, d_sae + d_in);
        // where the outputs saturate, 1 − y² keeps the rounding of y while the gradient vanishes
        let terms = largest(&want.grad_y) * largest(&want.h).max(1.0);
        near_terms("W_enc", &got.gradient.w_enc, &want.gradient.w_enc, 4 * (n + d_sae + d_in), terms);
        near_terms("W_dec", &got.gradient.w_dec, &want.gradient.w_dec, 4 * (n + d_sae + d_in), terms);
    }

    #[test]
    fn encoding_and_decoding(n in 0usize..70, d_in in 1usize..40, d_sae in 1usize..140, seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let start = parameters(&mut rng, d_in, d_sae, d_in);
        let x = uniform(&mut rng, n, d_in);
        let architecture = Architecture::binary(Estimator::Identity);
        let Some(gpu) = gpu(&start, n) else { return Ok(()) };
        let reference = Reference::new(&start);
        let codes = gpu.encode(&architecture, x.view()).unwrap();
        prop_assert_eq!((codes.rows(), codes.features()), (n, d_sae));
        let want = reference.decode(&architecture, &codes).unwrap().mapv(f64::from);
        near("decoded", &gpu.decode(&architecture, &codes).unwrap().mapv(f64::from), &want, d_sae);
        prop_assert_eq!(gpu.covariance(&codes).unwrap(), Cpu::new(&start, 1).covariance(&codes).unwrap());
        if codes != reference.encode(&architecture, x.view()).unwrap() {
            let z = bae_model::reference::pre_activations(&start.map(f64::from), x.view());
            prop_assert!(!decided(&z, Estimator::Identity), "codes differ although no pre-activation is near 0");
        }
    }
}

/// Adam on the gradients that looking into a step shows, and outputs of another width.
#[test]
fn a_step_is_adam_on_the_gradients_of_its_trace() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let (n, d_in, d_sae, d_out) = (40, 9, 300, 5);
    let start = parameters(&mut rng, d_in, d_sae, d_out);
    let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
    let batch = Batch { x: x.view(), target: Target::States(target.view()) };
    let objective = Objective { entropy_weight: 1e-3, covariance_weight: 1e-4, ..Objective::default() };
    let architecture = Architecture::binary(Estimator::Rectangle { width: 2.0 });
    let Some(mut gpu) = gpu(&start, n) else { return };
    let gradient = gpu.trace(&architecture, &objective, batch).unwrap().gradient;
    gpu.step(&architecture, &objective, &Adam::new(1e-2), batch).unwrap();
    let after = gpu.parameters().unwrap();
    for ((start, after), gradient) in start.flat().iter().zip(after.flat()).zip(gradient.flat()) {
        for ((&start, &after), &g) in start.iter().zip(after).zip(gradient) {
            // the first step goes by the gradient's sign
            let want = f64::from(start) - 1e-2 * g / (g.abs() + 1e-8);
            assert!((f64::from(after) - want).abs() < 1e-6, "{after} {want} {g}");
        }
    }
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

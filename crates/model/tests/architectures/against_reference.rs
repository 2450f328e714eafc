use crate::oracle::{near_terms, uniform};
use crate::{Decisions, count, kind, start};
use bae_model::architectures::{BatchTopK, Kind, Pass, Revival, TopK};
use bae_model::reference::Reference;
use bae_model::{Adam, Architecture, Backend, Batch, ModelError, Objective, Sae, Target, Trace};
use ndarray::{Array1, Array2};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn row(values: &Array1<f64>) -> Array2<f64> {
    values.clone().insert_axis(ndarray::Axis(0))
}

/// Everything of a step, within what f32 allows.
fn near(got: &Trace, want: &Trace, [n, d_in, d_sae, d_out]: [usize; 4]) {
    let largest = |values: &Array2<f64>| crate::oracle::largest(values).max(1.0);
    near_terms("z", &got.z, &want.z, d_in, 1.0);
    near_terms("h", &got.h, &want.h, d_in, largest(&want.z));
    near_terms("y", &got.y, &want.y, d_in + d_sae, largest(&want.h));
    let unit = largest(&want.h) * largest(&want.y) / (n * d_out) as f64;
    let length = 8 * (n + d_in + d_sae + d_out);
    near_terms("grad y", &got.grad_y, &want.grad_y, length, unit);
    near_terms("grad z", &got.grad_z, &want.grad_z, length, unit);
    let (of, expected) = (&got.gradient, &want.gradient);
    assert_eq!(of.shapes(), expected.shapes());
    near_terms("W_enc", &of.w_enc, &expected.w_enc, length, unit);
    near_terms("b_enc", &row(&of.b_enc), &row(&expected.b_enc), length, unit);
    near_terms("W_dec", &of.w_dec, &expected.w_dec, length, unit);
    near_terms("b_dec", &row(&of.b_dec), &row(&expected.b_dec), length, unit);
    for ((name, of), (_, expected)) in of.per_feature.iter().zip(&expected.per_feature) {
        near_terms(name, &row(of), &row(expected), length, unit * 30.0);
    }
    for (name, got, want) in [
        ("mse", got.stats.mse, want.stats.mse),
        ("nested", got.stats.nested, want.stats.nested),
        ("auxiliary", got.stats.auxiliary, want.stats.auxiliary),
        ("sparsity", got.stats.sparsity, want.stats.sparsity),
        ("entropy", got.stats.entropy_bits, want.stats.entropy_bits),
        ("loss", got.stats.loss, want.stats.loss),
    ] {
        assert!((got - want).abs() <= 1e-4 * want.abs().max(1e-2), "{name}: {got}, expected {want}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn steps(
        n in 1usize..50, d_in in 1usize..30, d_sae in 1usize..100, d_out in 1usize..30, which in 0..count(), k in 1usize..40,
        width in 0.05f64..2.0, clipping in any::<bool>(), sparsity_weight in 0f64..0.1, entropy_weight in 0f64..0.1, seed: u64,
    ) {
        let kind = kind(which, k, width);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let state = start(&mut rng, kind, [d_in, d_sae, d_out]);
        let architecture = Architecture::of(kind);
        let objective = Objective { sparsity_weight, entropy_weight, ..Objective::default() };
        // where an update goes by the gradient's size, and not by its sign alone
        let clip_norm = if clipping { 0.1 } else { f64::INFINITY };
        let adam = Adam { epsilon: 1.0, clip_norm, ..Adam::new(0.5) };
        let (mut sae, mut reference) = (Sae::new(&state.parameters, 2), Reference::new(&state.parameters));
        sae.restore(&state).unwrap();
        reference.restore(&state).unwrap();
        for step in 0..3 {
            let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
            let batch = Batch { x: x.view(), target: Target::States(target.view()) };
            let want = reference.trace(&architecture, &objective, batch).unwrap();
            let got = sae.trace(&architecture, &objective, batch).unwrap();
            let at = reference.idle().unwrap();
            let parameters = reference.parameters().unwrap().map(f64::from);
            let decide =
                |z: &Array2<f64>| Decisions::of(kind, &parameters, &objective, z, &want.grad_h, (step, &at));
            if !decide(&got.z).same(&decide(&want.z)) {
                break;
            }
            near(&got, &want, [n, d_in, d_sae, d_out]);
            let of_reference = reference.step(&architecture, &objective, &adam, batch).unwrap();
            let of_engine = sae.step(&architecture, &objective, &adam, batch).unwrap();
            prop_assert_eq!(of_engine.loss, got.stats.loss);
            prop_assert_eq!(of_engine.gradient_norm.is_some(), clipping);
            if let (Some(got), Some(want)) = (of_engine.gradient_norm, of_reference.gradient_norm) {
                prop_assert!((got - want).abs() < 1e-4 * want.max(1e-2), "norm {got}, expected {want}");
            }
            prop_assert_eq!(sae.idle().unwrap(), reference.idle().unwrap());
            let (got, want) = (sae.parameters(), reference.parameters().unwrap());
            for ((got, want), (name, _)) in got.flat().iter().zip(want.flat()).zip(want.shapes()) {
                for (got, want) in got.iter().zip(want) {
                    prop_assert!((got - want).abs() <= 2e-4 * want.abs().max(1.0), "{name}: {got}, expected {want}");
                }
            }
        }
    }

    #[test]
    fn encoding_and_decoding(n in 0usize..40, d_in in 1usize..30, d_sae in 1usize..100, d_out in 1usize..30, which in 0..count(), seed: u64) {
        let kind = kind(which, 5, 0.5);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let state = start(&mut rng, kind, [d_in, d_sae, d_out]);
        let (applied, parameters) = kind.applied(state.parameters);
        let Some(kind) = applied.kind() else { return Ok(()) };
        let sae = Sae::new(&parameters, 2);
        let x = uniform(&mut rng, n, d_in);
        let codes = sae.values(&applied, x.view()).unwrap();
        prop_assert_eq!((codes.rows(), codes.features()), (n, d_sae));
        prop_assert_eq!(&sae.encode(&applied, x.view()).unwrap(), &codes.active());
        let wide = parameters.map(f64::from);
        let z = bae_model::reference::pre_activations(&wide, x.view());
        let want = bae_model::sae::reference::codes(&wide, kind, &z, Pass::Applied);
        let mut got = Array2::zeros((n, d_sae));
        let (ends, features, values) = codes.lists();
        for row in 0..n {
            for at in if row == 0 { 0 } else { ends[row - 1] }..ends[row] {
                got[[row, features[at] as usize]] = f64::from(values[at]);
            }
        }
        // a value near a threshold may be on one side of it here and on the other there
        let apart = got.iter().zip(&want).filter(|(got, want)| (*got - *want).abs() > 1e-4 * want.abs().max(1.0)).count();
        prop_assert!(apart * 500 <= got.len() || apart <= 1, "{apart} codes of {}", got.len());
        let y = sae.decode_values(&applied, &codes).unwrap().mapv(f64::from);
        let want = got.dot(&wide.w_dec) + &wide.b_dec;
        near_terms("decoded", &y, &want, d_sae, crate::oracle::largest(&got).max(1.0));
    }
}

#[test]
fn what_no_step_can_learn_from_is_named() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for which in 0..count() {
        let kind = kind(which, 3, 0.5);
        let state = start(&mut rng, kind, [4, 6, 4]);
        let architecture = Architecture::of(kind);
        let mut sae = Sae::new(&state.parameters, 1);
        let (x, none, wide) = (uniform(&mut rng, 3, 4), uniform(&mut rng, 0, 4), uniform(&mut rng, 3, 5));
        let mut bad = x.clone();
        bad[[2, 1]] = f32::NAN;
        let mut refuse = |batch: Batch, adam: Adam| {
            let error = sae.step(&architecture, &Objective::default(), &adam, batch).unwrap_err();
            assert_eq!(sae.parameters(), state.parameters, "{kind:?}");
            assert_eq!(sae.idle().unwrap(), vec![0; 6]);
            error
        };
        let adam = Adam::new(1e-2);
        assert!(matches!(
            refuse(Batch { x: bad.view(), target: Target::Input }, adam),
            ModelError::NotFinite { row: 2, feature: 0 }
        ));
        assert!(matches!(
            refuse(Batch { x: x.view(), target: Target::Labels(&[0, 1, 2]) }, adam),
            ModelError::Unavailable(_)
        ));
        assert!(matches!(refuse(Batch { x: none.view(), target: Target::Input }, adam), ModelError::Empty));
        assert!(matches!(
            refuse(Batch { x: wide.view(), target: Target::Input }, adam),
            ModelError::Shape { .. }
        ));
        let clipping = Adam { clip_norm: 1.0, ..adam };
        let mut target = x.clone();
        target[[1, 1]] = f32::INFINITY;
        assert!(matches!(
            refuse(Batch { x: x.view(), target: Target::States(target.view()) }, clipping),
            ModelError::GradientNotFinite
        ));
    }
}

#[test]
fn of_equal_pre_activations_the_first_are_kept() {
    let z = Array2::from_shape_vec((3, 3), vec![1.0, 1.0, 0.5, 1.0, 2.0, 0.0, -1.0, 1.0, 1.0]).unwrap();
    let revival = Revival { weight: 0.0, dead_after: 0 };
    let parameters = bae_model::Parameters::zeros(3, 3, 3);
    let tensors = bae_model::sae::reference::tensors(&parameters);
    for (kind, want) in [
        (Kind::TopK(TopK { k: 1, revival }), vec![vec![0], vec![1], vec![1]]),
        (Kind::TopK(TopK { k: 5, revival }), vec![vec![0, 1, 2], vec![0, 1], vec![1, 2]]),
        (Kind::BatchTopK(BatchTopK { k: 1, revival }), vec![vec![0, 1], vec![1], vec![]]),
        (Kind::BatchTopK(BatchTopK { k: 5, revival }), vec![vec![0, 1, 2], vec![0, 1], vec![1, 2]]),
    ] {
        let entries = kind.coding::<f64>().encode(z.view(), &tensors, Pass::Step(0));
        let got: Vec<Vec<u32>> = (0..3).map(|row| entries.features[entries.row(row)].to_vec()).collect();
        assert_eq!(got, want, "{kind:?}");
    }
}

//! Relatives of the Binary Autoencoder, against itself where they are the same.

use crate::oracle::{largest, near_terms, parameters, uniform};
use crate::{count, kind, start};
use bae_codes::BitMatrix;
use bae_model::architectures::{BaeStochastic, BaeThreshold, KBit, Kind, Ternary};
use bae_model::reference::Reference;
use bae_model::{
    Architecture, Backend, Batch, Cpu, Estimator, Normalisation, Objective, Parameters, Sae, Target, Trace,
};
use ndarray::{Array1, Array2};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const WIDTH: f64 = 0.4;

struct Setting {
    parameters: Parameters,
    x: Array2<f32>,
    objective: Objective,
}

impl Setting {
    fn new() -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let objective = Objective { entropy_weight: 0.05, ..Objective::default() };
        Self { parameters: parameters(&mut rng, 9, 40, 9), x: uniform(&mut rng, 30, 9), objective }
    }

    fn trace(&self, mut backend: impl Backend, architecture: Architecture) -> Trace {
        let batch = Batch { x: self.x.view(), target: Target::Input };
        backend.trace(&architecture, &self.objective, batch).unwrap()
    }

    fn binary(&self) -> Trace {
        self.trace(
            Reference::new(&self.parameters),
            Architecture::binary(Estimator::Sigmoid { width: WIDTH }),
        )
    }

    /// By the engine of values, with these thresholds or b_enc.
    fn values(&self, kind: Kind, change: impl Fn(&mut Parameters)) -> Trace {
        let mut parameters = self.parameters.clone();
        change(&mut parameters);
        self.trace(Sae::new(&parameters, 2), Architecture::of(kind))
    }
}

/// The encoder's gradients are `share` of those of bits, all else is the same.
fn same(got: &Trace, want: &Trace, share: f64) {
    assert_eq!(got.h, want.h);
    assert_eq!(got.stats.entropy_bits, want.stats.entropy_bits);
    assert!((got.stats.loss - want.stats.loss).abs() < 1e-5 * want.stats.loss);
    let size = largest(&want.grad_z).max(1e-3);
    near_terms("grad z", &got.grad_z, &(&want.grad_z * share), 100, size);
    near_terms("W_enc", &got.gradient.w_enc, &(&want.gradient.w_enc * share), 100, size);
    near_terms("W_dec", &got.gradient.w_dec, &want.gradient.w_dec, 100, size);
    let row = |values: &Array1<f64>| values.clone().insert_axis(ndarray::Axis(0));
    near_terms("b_enc", &row(&got.gradient.b_enc), &row(&(&want.gradient.b_enc * share)), 100, size);
}

#[test]
fn one_bit_with_its_threshold_at_a_half_is_a_bit() {
    let setting = Setting::new();
    let got =
        setting.values(Kind::KBit(KBit { bits: 1, width: WIDTH }), |parameters| parameters.b_enc += 0.5);
    same(&got, &setting.binary(), 1.0);
}

#[test]
fn a_learnt_threshold_is_part_of_the_bias() {
    let setting = Setting::new();
    let thresholds = uniform(&mut ChaCha8Rng::seed_from_u64(2), 1, 40).row(0).to_owned();
    let kind = Kind::BaeThreshold(BaeThreshold { temperature: WIDTH });
    let learnt = |parameters: &mut Parameters| {
        parameters.per_feature = vec![("threshold", thresholds.clone())];
        parameters.b_enc += &thresholds;
    };
    let got = setting.values(kind, learnt);
    same(&got, &setting.binary(), 1.0 / (4.0 * WIDTH));
    assert_eq!(got.gradient.of_features("threshold"), &-&got.gradient.b_enc);

    let mut parameters = setting.parameters.clone();
    learnt(&mut parameters);
    let (applied, saved) = kind.applied(parameters.clone());
    let codes = Cpu::new(&saved, 2).encode(&applied, setting.x.view()).unwrap();
    assert_eq!(codes, Sae::new(&parameters, 2).encode(&Architecture::of(kind), setting.x.view()).unwrap());
}

/// As the temperature falls, fewer bits are drawn against their pre-activation.
#[test]
fn bits_that_are_drawn_coldly_are_bits() {
    let setting = Setting::new();
    let kind = |temperature| Kind::BaeStochastic(BaeStochastic { temperature, seed: 1 });
    let flipped = |temperature| {
        let got = setting.values(kind(temperature), |_| ());
        got.h.iter().zip(&setting.binary().h).filter(|(a, b)| a != b).count()
    };
    assert_eq!(flipped(1e-9), 0);
    let (cold, warm, count) = (flipped(0.1), flipped(3.0), 30 * 40);
    assert!(0 < cold && cold < warm && warm < count / 2, "{cold} {warm}");
    let (applied, saved) = kind(0.5).applied(setting.parameters.clone());
    let codes = Cpu::new(&saved, 1).encode(&applied, setting.x.view()).unwrap();
    let of = Sae::new(&setting.parameters, 1).encode(&Architecture::of(kind(0.5)), setting.x.view()).unwrap();
    assert_eq!(codes, of);
}

/// h = round(z) within bounds; the gradient that arrives passes through each threshold's window.
#[test]
fn levels_are_the_nearest_whole_numbers() {
    let mut setting = Setting::new();
    setting.parameters.w_enc *= 4.0;
    for (kind, lowest, highest) in [
        (Kind::Ternary(Ternary { width: WIDTH }), -1, 1),
        (Kind::KBit(KBit { bits: 2, width: WIDTH }), 0, 3),
        (Kind::KBit(KBit { bits: 4, width: 0.02 }), 0, 15),
    ] {
        setting.objective.entropy_weight = 0.0;
        let trace = setting.values(kind, |_| ());
        let (low, high) = (f64::from(lowest), f64::from(highest));
        assert_eq!(trace.h, trace.z.mapv(|z| z.round().clamp(low, high) + 0.0));
        let width = if high > 3.0 { 0.02 } else { WIDTH };
        let open = |z: f64| -> f64 {
            (lowest..highest)
                .map(|step| Estimator::Sigmoid { width }.backward(1.0, z - f64::from(step) - 0.5))
                .sum()
        };
        // what arrives at codes that are 0 and out of every window is left out
        let want = &trace.grad_h * &trace.z.mapv(open);
        near_terms("grad z", &trace.grad_z, &want, 10, largest(&want));
        // the entropy penalty pulls each step by the same number in all rows
        let of_levels: f64 = trace.h.columns().into_iter().map(|h| entropy(&h.to_vec())).sum();
        assert!(
            (trace.stats.entropy_bits - of_levels).abs() < 1e-4,
            "{} {of_levels}",
            trace.stats.entropy_bits
        );
        assert!(of_levels <= 40.0 * f64::from(highest - lowest + 1).log2() && of_levels > 10.0);
        setting.objective.entropy_weight = 0.1;
        let pulled = setting.values(kind, |_| ());
        let pull = &pulled.grad_z - &trace.grad_z;
        for feature in 0..40 {
            let column = trace.h.column(feature).to_vec();
            for (row, z) in trace.z.column(feature).iter().enumerate() {
                let want: f64 = (lowest..highest)
                    .map(|step| {
                        let slope = |level: i32| {
                            let share =
                                column.iter().filter(|h| **h == f64::from(level)).count() as f64 / 30.0;
                            -(share + 1e-10).log2() - share / ((share + 1e-10) * std::f64::consts::LN_2)
                        };
                        let pull = 0.1 / 30.0 * (slope(step + 1) - slope(step));
                        Estimator::Sigmoid { width }.backward(pull, z - f64::from(step) - 0.5)
                    })
                    .sum();
                assert!((pull[[row, feature]] - want).abs() < 1e-4 * want.abs().max(0.02), "{row} {feature}");
            }
        }
    }
}

fn entropy(values: &[f64]) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    values.iter().for_each(|h| *counts.entry(*h as i64).or_insert(0) += 1);
    let p = |count: &i32| f64::from(*count) / values.len() as f64;
    counts.values().map(|count| -p(count) * p(count).log2()).sum()
}

/// What learns in normalised rows does the same to raw ones once the normalisation is folded into it.
#[test]
fn folding_a_normalisation_changes_no_code() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for which in 0..count() {
        let kind = kind(which, 5, WIDTH);
        let parameters = start(&mut rng, kind, [9, 40, 9]).parameters;
        let raw = uniform(&mut rng, 30, 9) * 3.0 + 2.0;
        let normalisation = Normalisation {
            centre: Array1::from_shape_fn(9, |at| 1.0 + at as f32 / 9.0),
            scale: Array1::from_shape_fn(9, |at| 2.0 + at as f32),
        };
        let mut normalised = raw.clone();
        normalisation.apply(normalised.view_mut());
        let codes = |parameters: Parameters, x: &Array2<f32>| -> (BitMatrix, Vec<f32>) {
            let (applied, parameters) = kind.applied(parameters);
            let codes = match applied.kind() {
                Some(_) => Sae::new(&parameters, 1).values(&applied, x.view()),
                None => Cpu::new(&parameters, 1).values(&applied, x.view()),
            };
            let codes = codes.unwrap();
            (codes.active(), codes.lists().2.to_vec())
        };
        let (want, values) = codes(parameters.clone(), &normalised);
        let (got, folded) = codes(normalisation.fold(&parameters), &raw);
        assert_eq!(got, want, "{kind:?}");
        assert!(values.iter().zip(&folded).all(|(a, b)| (a - b).abs() < 1e-4), "{kind:?}");
    }
}

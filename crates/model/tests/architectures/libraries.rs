//! Steps made by SAELens' and dictionary_learning's own trainers (`__test__/neighbours`, whose README says what is in a case).
//!
//! Their squared error is summed over the width, ours is its mean: all losses and gradients are larger there by d_out, and so is the norm
//! that they clip at. Adam then does the same with its epsilon divided by d_out.

use bae_model::architectures::{
    BatchTopK, Gated, JumpRelu, Kind, Matryoshka, Relu, Revival, Threshold, TopK,
};
use bae_model::reference::Reference;
use bae_model::{
    Adam, Architecture, Backend, Batch, Moments, Objective, Parameters, Sae, StepStats, Target, Trace,
    TrainingState,
};
use ndarray::{Array1, Array2, Axis};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

struct Case {
    name: &'static str,
    json: Value,
    file: Vec<u8>,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let path = format!("{}/../../__test__/neighbours/steps/{name}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(format!("{path}.json")).expect("a readable file");
        let file = std::fs::read(format!("{path}.safetensors")).expect("a readable file");
        Self { name, json: serde_json::from_str(&text).expect("JSON"), file }
    }

    fn setting(&self, name: &str) -> f64 {
        self.json["settings"][name].as_f64().unwrap_or_else(|| panic!("no setting {name}"))
    }

    fn adam(&self) -> Adam {
        let of = |name: &str| self.json["adam"][name].as_f64().expect("a number");
        let clip_norm = self.json["clip_gradient_norm"].as_f64().expect("a norm") / self.width();
        let (beta1, beta2, epsilon) = (of("beta1"), of("beta2"), of("eps") / self.width());
        Adam { beta1, beta2, epsilon, clip_norm, ..Adam::new(of("lr")) }
    }

    /// d_out.
    fn width(&self) -> f64 {
        self.json["d_in"].as_f64().expect("a width")
    }

    fn window(&self) -> u32 {
        self.json["dead_feature_window"].as_u64().unwrap_or(0) as u32
    }

    fn values(&self, tensor: &str) -> (Vec<usize>, Vec<f64>) {
        let all = SafeTensors::deserialize(&self.file).expect("safetensors");
        let view = all.tensor(tensor).unwrap_or_else(|_| panic!("{}: no tensor {tensor}", self.name));
        let bytes = view.data();
        let values = match view.dtype() {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&b| f64::from_le_bytes(b)).collect(),
            Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
            other => panic!("{tensor} has type {other:?}"),
        };
        (view.shape().to_vec(), values)
    }

    fn number(&self, tensor: &str) -> f64 {
        self.values(tensor).1[0]
    }

    fn vector(&self, tensor: &str) -> Array1<f64> {
        self.values(tensor).1.into()
    }

    fn matrix(&self, tensor: &str) -> Array2<f64> {
        let (shape, values) = self.values(tensor);
        Array2::from_shape_vec((shape[0], shape[1]), values).expect("a matrix")
    }

    /// Parameters under SAELens' names.
    fn parameters(&self, prefix: &str, kind: Kind) -> Parameters<f64> {
        let gate = if matches!(kind, Kind::Gated(_)) { "b_gate" } else { "b_enc" };
        let mut parameters = Parameters {
            w_enc: self.matrix(&format!("{prefix}W_enc")),
            b_enc: self.vector(&format!("{prefix}{gate}")),
            w_dec: self.matrix(&format!("{prefix}W_dec")),
            b_dec: self.vector(&format!("{prefix}b_dec")),
            per_feature: vec![],
        };
        let names: &[&'static str] = match kind {
            Kind::JumpRelu(_) => &["threshold"],
            Kind::Gated(_) => &["r_mag", "b_mag"],
            _ => &[],
        };
        parameters.per_feature =
            names.iter().map(|&name| (name, self.vector(&format!("{prefix}{name}")))).collect();
        if matches!(kind, Kind::BatchTopK(_) | Kind::Matryoshka(_)) {
            parameters.per_feature.push(("threshold", Array1::zeros(parameters.d_sae())));
        }
        parameters
    }

    /// Within a few times what the library itself loses by computing in f32.
    fn near(&self, what: &str, measure: &str, got: &[f64], want: &[f64]) {
        let lost = self.json["float32_deviation"][measure].as_f64().expect("a number");
        assert_eq!(got.len(), want.len(), "{}: {what}", self.name);
        for (at, (got, want)) in got.iter().zip(want).enumerate() {
            let bound = 8.0 * lost + 1e-6 * want.abs();
            assert!(
                (got - want).abs() <= bound,
                "{}: {what}[{at}] is {got}, expected {want} within {bound}",
                self.name
            );
        }
    }

    fn near_parameters(&self, what: &str, measure: &str, got: &Parameters<f64>, want: &Parameters<f64>) {
        for ((got, want), (name, _)) in got.flat().iter().zip(want.flat()).zip(want.shapes()) {
            self.near(&format!("{what} {name}"), measure, got, want);
        }
    }
}

/// Three steps of SAELens against the reference and the engine. `sparsity`: the setting that weighs the penalty; `terms`: losses there
/// and the same here.
fn sae_lens(name: &'static str, kind: impl Fn(&Case) -> Kind, sparsity: Option<&str>, terms: &[Term]) {
    let case = Case::open(name);
    let (kind, d, adam) = (kind(&case), case.width(), case.adam());
    let architecture = Architecture::of(kind);
    let objective = Objective {
        sparsity_weight: sparsity.map_or(0.0, |name| case.setting(name) / d),
        ..Objective::default()
    };
    let parameters = case.parameters("initial.", kind).map(|v| v as f32);
    let dead = |step: usize| case.vector(&format!("dead.{step}"));
    let idle = dead(0).iter().map(|&dead| if dead == 1.0 { case.window() + 1 } else { 0 }).collect();
    let start = TrainingState { moments: Moments::new(&parameters), parameters, idle };
    let engines: [Box<dyn Backend>; 2] =
        [Box::new(Reference::new(&start.parameters)), Box::new(Sae::new(&start.parameters, 2))];
    for mut engine in engines {
        engine.restore(&start).unwrap();
        for step in 0..3 {
            let x = case.matrix(&format!("batch.{step}")).mapv(|v| v as f32);
            let batch = Batch { x: x.view(), target: Target::Input };
            let now: Vec<f64> = engine
                .idle()
                .unwrap()
                .iter()
                .map(|&idle| f64::from(u8::from(idle > case.window())))
                .collect();
            assert_eq!(now, dead(step).to_vec(), "{name}: features that are dead in step {step}");
            let Trace { h, gradient, .. } = engine.trace(&architecture, &objective, batch).unwrap();
            let fired = h.mapv(|h| f64::from(u8::from(h != 0.0)));
            assert_eq!(fired, case.matrix(&format!("fired.{step}")), "{name}: codes of step {step}");
            if step == 0 {
                let mut want = case.parameters("gradient.", kind);
                // a running estimate here, no parameter there
                if matches!(kind, Kind::BatchTopK(_) | Kind::Matryoshka(_)) {
                    want.per_feature = gradient.per_feature.clone();
                }
                case.near_parameters("gradient", "gradient", &gradient.map(|g| g * d), &want);
            }
            let before = engine.parameters().unwrap();
            let stats = engine.step(&architecture, &objective, &adam, batch).unwrap();
            for (term, ours) in terms.iter().chain([&TOTAL]) {
                let want = case.vector(&format!("loss.{term}"))[step];
                case.near(
                    &format!("{term} of step {step}"),
                    "loss",
                    &[ours(&stats, &objective) * d],
                    &[want],
                );
            }
            let norm = case.json["gradient_norms"][step].as_f64().expect("a norm");
            let got = stats.gradient_norm.expect("a norm") * d;
            assert!((got - norm).abs() < 1e-5 * norm, "{name}: norm {got}, expected {norm}");
            let after = engine.parameters().unwrap();
            let mut want = case.parameters(&format!("after.{step}."), kind);
            if matches!(kind, Kind::BatchTopK(_) | Kind::Matryoshka(_)) {
                // theirs begins at 0, ours at the first step's smallest value
                let theirs = |step: usize| case.number(&format!("topk_threshold.{step}"));
                let rate = case.setting("topk_threshold_lr");
                let last = if step == 0 { 0.0 } else { theirs(step - 1) };
                let least = (theirs(step) - (1.0 - rate) * last) / rate;
                let ours = |old: f32| if step == 0 { least } else { 0.99 * f64::from(old) + 0.01 * least };
                want.per_feature[0].1 = before.of_features("threshold").mapv(ours);
            }
            case.near_parameters(&format!("after step {step}"), "parameters", &after.map(f64::from), &want);
        }
    }
}

/// A loss of theirs, and the same of ours.
type Term = (&'static str, fn(&StepStats, &Objective) -> f64);

const TOTAL: Term = ("total", |stats, _| stats.loss);
const MSE: Term = ("mse_loss", |stats, _| stats.mse);
const AUXILIARY: Term = ("auxiliary_reconstruction_loss", |stats, _| stats.auxiliary);
const L1: Term = ("l1_loss", |stats, objective| stats.sparsity * objective.sparsity_weight);

fn revival(case: &Case) -> Revival {
    Revival { weight: case.setting("aux_loss_coefficient"), dead_after: case.window() }
}

fn top_k(case: &Case) -> Kind {
    Kind::TopK(TopK { k: case.setting("k") as usize, revival: revival(case) })
}

#[test]
fn sae_lens_standard() {
    sae_lens("sae_lens_standard", |_| Kind::Relu(Relu { by_norm: true }), Some("l1_coefficient"), &[MSE, L1]);
}

#[test]
fn sae_lens_topk() {
    sae_lens("sae_lens_topk", top_k, None, &[MSE, AUXILIARY]);
}

/// Fewer dead features than could take part.
#[test]
fn sae_lens_topk_few_dead() {
    sae_lens("sae_lens_topk_few_dead", top_k, None, &[MSE, AUXILIARY]);
}

#[test]
fn sae_lens_topk_clipped() {
    sae_lens("sae_lens_topk_clipped", top_k, None, &[MSE, AUXILIARY]);
}

#[test]
fn sae_lens_batchtopk() {
    let kind =
        |case: &Case| Kind::BatchTopK(BatchTopK { k: case.setting("k") as usize, revival: revival(case) });
    sae_lens("sae_lens_batchtopk", kind, None, &[MSE, AUXILIARY]);
}

#[test]
fn sae_lens_matryoshka_batchtopk() {
    let kind = |case: &Case| {
        let (k, revival) = (case.setting("k") as usize, revival(case));
        Kind::Matryoshka(Matryoshka { k, nested: 3, revival })
    };
    sae_lens("sae_lens_matryoshka_batchtopk", kind, None, &[MSE, AUXILIARY]);
}

#[test]
fn sae_lens_jumprelu() {
    let kind = |case: &Case| Kind::JumpRelu(JumpRelu { bandwidth: case.setting("jumprelu_bandwidth") });
    let l0: Term = ("l0_loss", L1.1);
    sae_lens("sae_lens_jumprelu", kind, Some("l0_coefficient"), &[MSE, l0]);
}

#[test]
fn sae_lens_gated() {
    sae_lens("sae_lens_gated", |_| Kind::Gated(Gated), Some("l1_coefficient"), &[MSE, L1, AUXILIARY]);
}

/// Parameters of dictionary_learning, whose decoder's bias is subtracted from x: here the encoder's bias holds it.
struct Shifted {
    bias: Array1<f64>,
    parameters: Parameters<f64>,
}

impl Shifted {
    fn read(case: &Case, prefix: &str, [bias, b_enc]: [&str; 2]) -> Self {
        let of = |name: &str| format!("{prefix}{name}");
        let w_enc = case.matrix(&of("encoder.weight")).t().as_standard_layout().into_owned();
        let w_dec = case.matrix(&of("decoder.weight")).t().as_standard_layout().into_owned();
        let bias = case.vector(&of(bias));
        let b_enc = case.vector(&of(b_enc)) - bias.dot(&w_enc);
        let parameters = Parameters { b_dec: bias.clone(), b_enc, w_enc, w_dec, per_feature: vec![] };
        Self { bias, parameters }
    }

    /// Gradient of the encoder as they have it, from `trace`.
    fn encoder(&self, trace: &Trace) -> Array2<f64> {
        let sums = trace.grad_z.sum_axis(Axis(0)).insert_axis(Axis(0));
        &trace.gradient.w_enc - &self.bias.clone().insert_axis(Axis(1)).dot(&sums)
    }
}

/// A trace of step `step` by the reference and by the engine.
fn traces(
    case: &Case,
    kind: Kind,
    objective: &Objective,
    parameters: &Parameters<f64>,
    step: usize,
) -> [Trace; 2] {
    let x = case.matrix(&format!("batch.{step}")).mapv(|v| v as f32);
    let batch = Batch { x: x.view(), target: Target::Input };
    let architecture = Architecture::of(kind);
    let start = parameters.map(|v| v as f32);
    let engines: [Box<dyn Backend>; 2] = [Box::new(Reference::new(&start)), Box::new(Sae::new(&start, 2))];
    let traces = engines.map(|mut engine| engine.trace(&architecture, objective, batch).unwrap());
    for trace in &traces {
        let fired = trace.h.mapv(|h| f64::from(u8::from(h != 0.0)));
        assert_eq!(fired, case.matrix(&format!("fired.{step}")), "{}: codes of step {step}", case.name);
    }
    traces
}

/// The parameters that step `step` starts from.
fn before(step: usize) -> String {
    if step == 0 { "initial.".into() } else { format!("after.{}.", step - 1) }
}

fn turned(values: &Array2<f64>) -> Vec<f64> {
    values.t().iter().copied().collect()
}

/// The penalty with norms; Adam then moves one bias there and two here, so that only the first step's gradient is compared.
#[test]
fn dictionary_learning_standard() {
    let case = Case::open("dictionary_learning_standard_april_update");
    let (kind, d) = (Kind::Relu(Relu { by_norm: true }), case.width());
    let objective = Objective { sparsity_weight: case.setting("l1_penalty") / d, ..Objective::default() };
    for step in 0..3 {
        let shifted = Shifted::read(&case, &before(step), ["bias", "encoder.bias"]);
        for trace in traces(&case, kind, &objective, &shifted.parameters, step) {
            let of = |term: &str| [case.vector(&format!("loss.{term}"))[step]];
            case.near("mse_loss", "loss", &[trace.stats.mse * d], &of("mse_loss"));
            case.near("sparsity_loss", "loss", &[trace.stats.sparsity], &of("sparsity_loss"));
            case.near("loss", "loss", &[trace.stats.loss * d], &of("loss"));
            if step == 0 {
                let near = |name: &str, got: Vec<f64>| {
                    let got: Vec<f64> = got.iter().map(|g| g * d).collect();
                    case.near(name, "gradient", &got, &case.values(&format!("gradient.{name}")).1);
                };
                near("encoder.weight", turned(&shifted.encoder(&trace)));
                near("encoder.bias", trace.gradient.b_enc.to_vec());
                near("decoder.weight", turned(&trace.gradient.w_dec));
                near(
                    "bias",
                    (&trace.gradient.b_dec - &shifted.parameters.w_enc.dot(&trace.gradient.b_enc)).to_vec(),
                );
            }
        }
    }
}

/// Their auxiliary loss is divided by the variance of what is left over; the rest is the same.
#[test]
fn dictionary_learning_topk() {
    let case = Case::open("dictionary_learning_topk");
    let revival = Revival { weight: 0.0, dead_after: 0 };
    let kind = Kind::TopK(TopK { k: case.setting("k") as usize, revival });
    for step in 0..3 {
        let shifted = Shifted::read(&case, &before(step), ["b_dec", "encoder.bias"]);
        for trace in traces(&case, kind, &Objective::default(), &shifted.parameters, step) {
            let want = case.vector("loss.l2_loss")[step];
            case.near("l2_loss", "loss", &[trace.stats.mse * case.width()], &[want]);
        }
    }
}

/// Their penalty pulls the mean number of features towards a target, through the thresholds alone; the rest is the same.
#[test]
fn dictionary_learning_jumprelu() {
    let case = Case::open("dictionary_learning_jumprelu");
    let (kind, d) = (Kind::JumpRelu(JumpRelu { bandwidth: case.setting("bandwidth") }), case.width());
    for step in 0..3 {
        let parameters = case.parameters(&before(step), kind);
        let [reference, engine] = traces(&case, kind, &Objective::default(), &parameters, step);
        for trace in [&reference, &engine] {
            case.near("l2_loss", "loss", &[trace.stats.mse * d], &[case.vector("loss.l2_loss")[step]]);
            let sum = trace.stats.mse * d
                + case.setting("sparsity_penalty")
                    * (trace.stats.sparsity / case.setting("target_l0") - 1.0).powi(2);
            case.near("loss", "loss", &[sum], &[case.vector("loss.loss")[step]]);
            if step == 0 {
                let mut want = case.parameters("gradient.", kind);
                want.per_feature =
                    trace.gradient.per_feature.iter().map(|(name, g)| (*name, g * d)).collect();
                case.near_parameters("gradient", "gradient", &trace.gradient.map(|g| g * d), &want);
            }
        }
    }
}

/// The decoder is a constant to their second reconstruction, as in the paper, and their penalty goes without norms: it is added here by hand.
/// What reaches encoder, gates and magnitudes is the same.
#[test]
fn dictionary_learning_gated() {
    let case = Case::open("dictionary_learning_gated");
    let (kind, d, weight) = (Kind::Gated(Gated), case.width(), case.setting("l1_penalty"));
    for step in 0..3 {
        let mut shifted = Shifted::read(&case, &before(step), ["decoder_bias", "gate_bias"]);
        let of = |name: &str| case.vector(&format!("{}{name}", before(step)));
        let gain = of("r_mag").mapv(f64::exp);
        let moved = shifted.bias.dot(&shifted.parameters.w_enc) * &gain;
        shifted.parameters.per_feature = vec![("r_mag", of("r_mag")), ("b_mag", of("mag_bias") - &moved)];
        for mut trace in traces(&case, kind, &Objective::default(), &shifted.parameters, step) {
            let rows = trace.z.nrows() as f64;
            let sparsity = trace.z.mapv(|z| z.max(0.0)).sum() / rows;
            let of = |term: &str| [case.vector(&format!("loss.{term}"))[step]];
            case.near("mse_loss", "loss", &[trace.stats.mse * d], &of("mse_loss"));
            case.near("sparsity_loss", "loss", &[sparsity], &of("sparsity_loss"));
            case.near("aux_loss", "loss", &[trace.stats.auxiliary * d], &of("aux_loss"));
            case.near("loss", "loss", &[trace.stats.loss * d + weight * sparsity], &of("loss"));
            if step == 0 {
                let of_penalty = trace.z.mapv(|z| if z > 0.0 { weight / rows / d } else { 0.0 });
                let x = case.matrix("batch.0");
                trace.gradient.w_enc += &x.t().dot(&of_penalty);
                trace.gradient.b_enc += &of_penalty.sum_axis(Axis(0));
                trace.grad_z += &of_penalty;
                let near = |name: &str, got: Vec<f64>| {
                    let got: Vec<f64> = got.iter().map(|g| g * d).collect();
                    case.near(name, "gradient", &got, &case.values(&format!("gradient.{name}")).1);
                };
                let [r_mag, b_mag] = ["r_mag", "b_mag"].map(|name| trace.gradient.of_features(name));
                near("encoder.weight", turned(&shifted.encoder(&trace)));
                near("gate_bias", trace.gradient.b_enc.to_vec());
                near("mag_bias", b_mag.to_vec());
                near("r_mag", (r_mag - &(&moved * b_mag)).to_vec());
            }
        }
    }
}

/// What is applied: the threshold decides, whatever the batch.
#[test]
fn batchtopk_is_applied_by_its_threshold() {
    let kind = Kind::BatchTopK(BatchTopK { k: 1, revival: Revival { weight: 0.0, dead_after: 0 } });
    let parameters = Parameters {
        w_enc: Array2::eye(3),
        b_enc: Array1::zeros(3),
        w_dec: Array2::eye(3),
        b_dec: Array1::zeros(3),
        per_feature: vec![("threshold", Array1::from(vec![0.5f32; 3]))],
    };
    let (applied, parameters) = kind.applied(parameters);
    assert_eq!(applied, Architecture::of(Kind::Threshold(Threshold)));
    let x = Array2::from_shape_vec((2, 3), vec![0.4f32, 0.6, 0.5, 0.9, 0.8, 0.7]).unwrap();
    let codes = Sae::new(&parameters, 1).values(&applied, x.view()).unwrap();
    assert_eq!(codes.lists(), (&[1, 4][..], &[1, 0, 1, 2][..], &[0.6, 0.9, 0.8, 0.7][..]));
}

//! Sections 2, 3, 4 and 6: steps, validation and training.

use crate::fixture::{Case, stacked, wide};
use bae_model::{
    Activation, Adam, Architecture, Backend, Batch, Estimator, Objective, OutputActivation, Target, Trace,
    reference::Reference,
};
use ndarray::Array2;

fn architecture(case: &Case) -> Architecture {
    let activation = match case.text("inner", "").as_str() {
        "" => Activation::Binary(match case.text("binarization", "sign_s").as_str() {
            "sign" => Estimator::Identity,
            "sign_s" => Estimator::ReferenceSigmoid,
            "squarewave" => Estimator::Squarewave,
            other => panic!("binarization {other}"),
        }),
        "none" => Activation::None,
        "relu" => Activation::Relu,
        "sigmoid" => Activation::Sigmoid,
        "tanh" => Activation::Tanh,
        "topk" => Activation::TopK(case.number("topk", 0.0) as usize),
        "jumprelu" => Activation::JumpRelu(case.number("theta", 0.0)),
        other => panic!("inner activation {other}"),
    };
    let output = match case.text("output_activation", "none").as_str() {
        "none" => OutputActivation::None,
        "relu" => OutputActivation::Relu,
        "sigmoid" => OutputActivation::Sigmoid,
        "tanh" => OutputActivation::Tanh,
        other => panic!("output activation {other}"),
    };
    Architecture { activation, output }
}

fn objective(case: &Case) -> Objective {
    Objective {
        entropy_weight: case.number("entropy_weight", 0.0),
        covariance_weight: case.number("cov_weight", 0.0),
        entropy_threshold: case.number("threshold", 0.0),
        l1_weight: case.number("l1_weight", 0.0),
        sparsity_weight: 0.0,
        as_published: true,
    }
}

/// x with the target or labels of the same ending, if there are any.
pub struct Rows {
    pub x: Array2<f32>,
    target: Option<Array2<f32>>,
    labels: Option<Vec<u32>>,
}

impl Rows {
    pub fn read(case: &Case, x: &str, target: &str) -> Self {
        Self {
            x: case.matrix(x),
            target: case.has(target).then(|| case.matrix(target)),
            labels: case
                .has("in.labels")
                .then(|| case.values("in.labels").1.iter().map(|&l| l as u32).collect()),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let target = match (&self.target, &self.labels) {
            (Some(target), _) => Target::States(target.view()),
            (None, Some(labels)) => Target::Labels(labels),
            (None, None) => Target::Input,
        };
        Batch { x: self.x.view(), target }
    }
}

/// A pass by the reference as published, before anything is learnt.
pub fn published(case: &Case, batch: Batch) -> Trace {
    let mut reference = Reference::new(&case.parameters());
    reference.trace(&architecture(case), &objective(case), batch).expect("a pass")
}

pub fn step_functions(case: &Case) {
    let (x, upstream) = (case.values("in.x").1, case.values("in.upstream").1);
    for (name, estimator) in [
        ("sign", Estimator::Identity),
        ("sign_s", Estimator::ReferenceSigmoid),
        ("squarewave", Estimator::Squarewave),
    ] {
        let forward: Vec<f64> = x.iter().map(|&x| estimator.step(x)).collect();
        let backward: Vec<f64> = upstream.iter().zip(&x).map(|(&g, &z)| estimator.backward(g, z)).collect();
        let mut row: Vec<f32> = upstream.iter().map(|&g| g as f32).collect();
        estimator.backward_slice(
            bae_kernels::Isa::best(),
            &mut row,
            &x.iter().map(|&z| z as f32).collect::<Vec<f32>>(),
        );
        case.expect("step", &format!("{name}.forward"), &forward);
        case.expect("f64", &format!("{name}.backward"), &backward);
        case.expect(
            "f32",
            &format!("{name}.backward"),
            &row.iter().map(|&g| f64::from(g)).collect::<Vec<_>>(),
        );
    }
}

pub fn one_step(case: &Case) {
    let rows = Rows::read(case, "in.x", "in.target");
    let objective = objective(case);
    for (who, mut backend) in case.backends() {
        let trace = backend.trace(&architecture(case), &objective, rows.batch()).expect("a step");
        let stats = trace.stats;
        let gated = objective.gated(stats.entropy_bits);
        for (tensor, value) in [
            ("loss.direct", stats.mse),
            ("loss.entropy_raw", stats.entropy_bits),
            ("loss.entropy", gated),
            ("loss.cov", stats.covariance),
            ("loss.l1", stats.l1),
            ("loss.total", stats.loss),
            ("val.direct", stats.mse),
            ("val.entropy", stats.entropy_bits),
            ("val.cov", stats.covariance),
            ("val.l1", stats.l1),
            ("train_accuracy", stats.accuracy.unwrap_or(f64::NAN)),
        ] {
            case.expect(who, tensor, &[value]);
        }
        for (tensor, values) in [
            ("z", &trace.z),
            ("h", &trace.h),
            ("y", &trace.y),
            ("grad.y", &trace.grad_y),
            ("grad.h", &trace.grad_h),
            ("grad.z", &trace.grad_z),
        ] {
            case.expect(who, tensor, values);
        }
        case.expect_parameters(who, "grad.", &trace.gradient);
    }
}

/// Means over batches, whatever their sizes: the published validation.
struct Validation {
    direct: f64,
    entropy: f64,
    covariance: f64,
    l1: f64,
    h: Vec<Array2<f64>>,
}

fn validate(case: &Case, backend: &mut dyn Backend, batches: &[Rows]) -> Validation {
    let mut sums = Validation { direct: 0.0, entropy: 0.0, covariance: 0.0, l1: 0.0, h: vec![] };
    let count = batches.len() as f64;
    for rows in batches {
        let trace = backend.trace(&architecture(case), &objective(case), rows.batch()).expect("a pass");
        sums.direct += trace.stats.mse / count;
        sums.entropy += trace.stats.entropy_bits / count;
        sums.covariance += trace.stats.covariance / count;
        sums.l1 += trace.stats.l1 / count;
        sums.h.push(trace.h);
    }
    sums
}

pub fn numbered(case: &Case, x: &str, target: &str) -> Vec<Rows> {
    (0..)
        .map_while(|i| {
            let name = format!("{x}.{i}");
            case.has(&name).then(|| Rows::read(case, &name, &format!("{target}.{i}")))
        })
        .collect()
}

pub fn validation(case: &Case) {
    let batches = numbered(case, "in.val", "in.val_target");
    let all: Vec<Array2<f32>> = batches.iter().map(|rows| rows.x.clone()).collect();
    let views: Vec<_> = all.iter().map(|x| x.view()).collect();
    let all = Rows { x: ndarray::concatenate(ndarray::Axis(0), &views).unwrap(), target: None, labels: None };
    for (who, mut backend) in case.backends() {
        let means = validate(case, &mut *backend, &batches);
        case.expect(who, "h", &stacked(&means.h));
        case.expect(who, "val.direct", &[means.direct]);
        case.expect(who, "val.entropy", &[means.entropy]);
        case.expect(who, "val.cov", &[means.covariance]);
        let full = backend.trace(&architecture(case), &objective(case), all.batch()).expect("a pass").stats;
        case.expect(who, "full.direct", &[full.mse]);
        case.expect(who, "full.entropy", &[full.entropy_bits]);
        case.expect(who, "full.cov", &[full.covariance]);
    }
}

pub fn run(case: &Case) {
    let batches = numbered(case, "in.batch", "in.target");
    let validations = numbered(case, "in.val", "in.val_target");
    let adam = Adam { weight_decay: case.number("weight_decay", 0.0), ..Adam::new(case.number("lr", 5e-4)) };
    let order: Vec<Vec<usize>> = serde_json::from_value(case.json["order"].clone()).expect("an order");
    for (who, mut backend) in case.backends() {
        let mut losses: [Vec<f64>; 5] = Default::default();
        let mut means: [Vec<f64>; 4] = Default::default();
        let mut codes = vec![];
        for (epoch, order) in order.iter().enumerate() {
            let mut objective = objective(case);
            if epoch < case.number("entropy_start_epoch", 0.0) as usize {
                objective.entropy_weight = 0.0;
            }
            if epoch < case.number("l1_start_epoch", 0.0) as usize {
                objective.l1_weight = 0.0;
            }
            for &at in order {
                let batch = batches[at].batch();
                if case.has("codes") {
                    codes.push(backend.trace(&architecture(case), &objective, batch).expect("a step").h);
                }
                let stats = backend.step(&architecture(case), &objective, &adam, batch).expect("a step");
                let gated = objective.gated(stats.entropy_bits);
                let values = [stats.loss, stats.mse, gated, stats.covariance, stats.l1];
                losses.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
                if losses[0].len() == 1 {
                    case.expect_parameters(
                        who,
                        "step1.",
                        &backend.parameters().expect("a copy").map(f64::from),
                    );
                }
            }
            let v = validate(case, &mut *backend, &validations);
            means
                .iter_mut()
                .zip([v.direct, v.entropy, v.covariance, v.l1])
                .for_each(|(all, value)| all.push(value));
        }
        for (name, values) in ["total", "direct", "entropy", "cov", "l1"].iter().zip(&losses) {
            case.expect(who, &format!("loss.{name}"), values);
        }
        for (name, values) in ["direct", "entropy", "cov", "l1"].iter().zip(&means) {
            case.expect(who, &format!("val.{name}"), values);
        }
        if case.has("codes") {
            case.expect(who, "codes", &stacked(&codes));
        }
        case.expect_parameters(who, "end.", &backend.parameters().expect("a copy").map(f64::from));
        let moments = backend.moments().expect("a copy");
        case.expect_parameters(who, "adam_m.", &moments.first.map(f64::from));
        case.expect_parameters(who, "adam_v.", &moments.second.map(f64::from));
    }
}

/// Codes of hidden states, by both engines, which must agree.
pub fn codes(case: &Case, x: &Array2<f32>) -> bae_codes::BitMatrix {
    let mut all =
        case.backends().into_iter().map(|(_, backend)| backend.encode(&architecture(case), x.view()));
    let first = all.next().expect("an engine").expect("finite");
    assert!(all.all(|codes| codes.expect("finite") == first), "engines disagree on codes");
    first
}

/// Outputs of codes on each engine.
pub fn outputs(case: &Case, codes: &bae_codes::BitMatrix) -> Vec<(&'static str, Array2<f64>)> {
    let decode =
        |backend: Box<dyn Backend>| wide(&backend.decode(&architecture(case), codes).expect("a width"));
    case.backends().into_iter().map(|(who, backend)| (who, decode(backend))).collect()
}

/// Real-valued codes on each engine.
pub fn values(case: &Case, x: &Array2<f32>) -> Vec<(&'static str, Array2<f64>)> {
    let rows = Rows { x: x.clone(), target: None, labels: None };
    case.backends()
        .into_iter()
        .map(|(who, mut backend)| {
            (who, backend.trace(&architecture(case), &objective(case), rows.batch()).expect("a pass").h)
        })
        .collect()
}

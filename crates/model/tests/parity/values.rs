//! Sections 6 and 4 once more, by the engine of codes that hold values, as far as its architectures compute what was published.

use crate::fixture::Case;
use crate::training::{Rows, numbered, published};
use bae_model::architectures::{JumpRelu, Kind, Relu, Revival, TopK};
use bae_model::reference::Reference;
use bae_model::{
    Adam, Architecture, Backend, Batch, ModelError, Objective, OutputActivation, Parameters, Sae,
};
use ndarray::{Array1, Array2, Axis};

/// The architecture, if there is one.
fn kind(case: &Case) -> Option<Kind> {
    match case.text("inner", "").as_str() {
        "relu" => Some(Kind::Relu(Relu { by_norm: false })),
        "topk" => {
            let revival = Revival { weight: 0.0, dead_after: 0 };
            Some(Kind::TopK(TopK { k: case.number("topk", 0.0) as usize, revival }))
        }
        "jumprelu" => Some(Kind::JumpRelu(JumpRelu { bandwidth: 1e-3 })),
        _ => None,
    }
}

fn architecture(case: &Case, kind: Kind) -> Architecture {
    let output = match case.text("output_activation", "none").as_str() {
        "relu" => OutputActivation::Relu,
        "sigmoid" => OutputActivation::Sigmoid,
        "tanh" => OutputActivation::Tanh,
        _ => OutputActivation::None,
    };
    Architecture { output, ..Architecture::of(kind) }
}

fn engines(case: &Case, kind: Kind) -> [(&'static str, Box<dyn Backend>); 2] {
    let mut parameters: Parameters = case.parameters();
    if let Kind::JumpRelu(_) = kind {
        let threshold = Array1::from_elem(parameters.d_sae(), case.number("theta", 0.0) as f32);
        parameters.per_feature.push(("threshold", threshold));
    }
    [("reference", Box::new(Reference::new(&parameters))), ("sae", Box::new(Sae::new(&parameters, 2)))]
}

/// Whether ours keeps what was published: never more than k of a row, and nothing below 0.
fn agrees(kind: Kind, published: &Array2<f64>) -> bool {
    let Kind::TopK(TopK { k, .. }) = kind else { return true };
    let on = |row: ndarray::ArrayView1<f64>| row.iter().filter(|h| **h != 0.0).count() <= k;
    published.iter().all(|h| *h >= 0.0) && published.rows().into_iter().all(on)
}

/// The sum of |h| over the batch, which was published with every architecture, is ours for ReLU: there the penalty is its mean over rows.
fn objective(kind: Kind, l1_weight: f64, rows: usize) -> Objective {
    let by_step = matches!(kind, Kind::Relu(_));
    Objective { sparsity_weight: if by_step { l1_weight * rows as f64 } else { 0.0 }, ..Objective::default() }
}

pub fn one_step(case: &Case) {
    let Some(kind) = kind(case) else { return };
    let rows = Rows::read(case, "in.x", "in.target");
    let (n, l1_weight) = (rows.x.nrows(), case.number("l1_weight", 0.0));
    let objective = objective(kind, l1_weight, n);
    let of_published = published(case, rows.batch());
    for (who, mut engine) in engines(case, kind) {
        let trace = engine.trace(&architecture(case, kind), &objective, rows.batch());
        if of_published.z.iter().any(|z| z.is_nan()) {
            assert!(matches!(trace, Err(ModelError::NotFinite { .. })), "{who}: a NaN is an error here");
            continue;
        }
        if !agrees(kind, &of_published.h) {
            println!("{}: keeps ties or values below 0, on the published path only", case.name());
            continue;
        }
        let mut trace = trace.expect("a step");
        let l1: f64 = trace.h.iter().map(|h| h.abs()).sum();
        if objective.sparsity_weight == 0.0 {
            // these have no such penalty here: it is added by hand
            let pull = trace.h.mapv(|h| l1_weight * if h == 0.0 { 0.0 } else { h.signum() });
            trace.gradient.w_enc += &rows.x.mapv(f64::from).t().dot(&pull);
            trace.gradient.b_enc += &pull.sum_axis(Axis(0));
            trace.grad_z += &pull;
            trace.stats.loss += l1_weight * l1;
        }
        for (tensor, value) in [
            ("loss.direct", trace.stats.mse),
            ("loss.l1", l1),
            ("loss.total", trace.stats.loss),
            ("val.direct", trace.stats.mse),
        ] {
            case.expect(who, tensor, &[value]);
        }
        for (tensor, values) in [
            ("z", &trace.z),
            ("h", &trace.h),
            ("y", &trace.y),
            ("grad.y", &trace.grad_y),
            ("grad.z", &trace.grad_z),
        ] {
            case.expect(who, tensor, values);
        }
        case.expect_parameters(who, "grad.", &trace.gradient);
    }
}

pub fn run(case: &Case) {
    let Some(kind) = kind(case) else { return };
    let architecture = architecture(case, kind);
    let (batches, validations) =
        (numbered(case, "in.batch", "in.target"), numbered(case, "in.val", "in.val_target"));
    let adam = Adam { weight_decay: case.number("weight_decay", 0.0), ..Adam::new(case.number("lr", 5e-4)) };
    let order: Vec<Vec<usize>> = serde_json::from_value(case.json["order"].clone()).expect("an order");
    if !batches.iter().chain(&validations).all(|rows| agrees(kind, &published(case, rows.batch()).h)) {
        println!("{}: keeps ties or values below 0, on the published path only", case.name());
        return;
    }
    for (who, mut engine) in engines(case, kind) {
        let mut losses: [Vec<f64>; 3] = Default::default();
        let mut means: [Vec<f64>; 2] = Default::default();
        let l1 = |engine: &mut dyn Backend, batch: Batch| {
            engine.trace(&architecture, &Objective::default(), batch).expect("a pass").h.sum()
        };
        for (epoch, order) in order.iter().enumerate() {
            let late = epoch >= case.number("l1_start_epoch", 0.0) as usize;
            let l1_weight = if late { case.number("l1_weight", 0.0) } else { 0.0 };
            assert!(
                l1_weight == 0.0 || matches!(kind, Kind::Relu(_)),
                "only ReLU learns by the sum of |h| here"
            );
            for &at in order {
                let batch = batches[at].batch();
                losses[2].push(l1(&mut *engine, batch));
                let objective = objective(kind, l1_weight, batch.x.nrows());
                let stats = engine.step(&architecture, &objective, &adam, batch).expect("a step");
                losses[0].push(stats.loss);
                losses[1].push(stats.mse);
                if losses[0].len() == 1 {
                    case.expect_parameters(
                        who,
                        "step1.",
                        &engine.parameters().expect("a copy").map(f64::from),
                    );
                }
            }
            let count = validations.len() as f64;
            let mse = |rows: &Rows, engine: &mut dyn Backend| {
                engine.trace(&architecture, &Objective::default(), rows.batch()).expect("a pass").stats.mse
            };
            means[0].push(validations.iter().map(|rows| mse(rows, &mut *engine) / count).sum());
            means[1].push(validations.iter().map(|rows| l1(&mut *engine, rows.batch()) / count).sum());
        }
        for (name, values) in ["total", "direct", "l1"].iter().zip(&losses) {
            case.expect(who, &format!("loss.{name}"), values);
        }
        case.expect(who, "val.direct", &means[0]);
        case.expect(who, "val.l1", &means[1]);
        case.expect_parameters(who, "end.", &engine.parameters().expect("a copy").map(f64::from));
        let moments = engine.moments().expect("a copy");
        case.expect_parameters(who, "adam_m.", &moments.first.map(f64::from));
        case.expect_parameters(who, "adam_v.", &moments.second.map(f64::from));
    }
}

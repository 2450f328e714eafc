//! Gradients of the reference by differences of its loss.

use crate::oracle::uniform;
use crate::{count, kind, start};
use bae_model::architectures::{Kind, Pass};
use bae_model::sae::reference;
use bae_model::{Architecture, Batch, Objective, Parameters, Target, Trace};
use ndarray::Array2;
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The loss, and what was decided on the way to it: where that changes there is no derivative.
fn loss(
    kind: Kind,
    parameters: &Parameters<f64>,
    objective: &Objective,
    batch: Batch,
    idle: &[u32],
    residual: &Array2<f64>,
) -> (f64, Vec<u32>) {
    let Trace { z, stats, .. } =
        reference::trace(parameters, &Architecture::of(kind), kind, objective, batch, (0, idle));
    let coding = kind.coding::<f64>();
    let tensors = reference::tensors(parameters);
    let entries = coding.encode(z.view(), &tensors, Pass::Step(0));
    let mut decided = entries.features.clone();
    decided.extend(entries.h.iter().map(|h| u32::from(*h != 0.0)));
    let mut loss = stats.loss;
    if let Some(auxiliary) = coding.auxiliary(z.view(), &tensors, idle) {
        decided.extend(&auxiliary.codes.features);
        if auxiliary.of_residual {
            // what is left over is a constant there
            let mut error = -residual;
            for row in 0..z.nrows() {
                for at in auxiliary.codes.row(row) {
                    let feature = auxiliary.codes.features[at] as usize;
                    error.row_mut(row).scaled_add(auxiliary.codes.z[at], &parameters.w_dec.row(feature));
                }
            }
            loss += auxiliary.weight * error.iter().map(|e| e * e).sum::<f64>() / error.len() as f64
                - stats.auxiliary;
        }
    }
    (loss, decided)
}

/// Tensors whose gradient is the loss's derivative, and no estimator's.
fn exact(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Relu(_) | Kind::TopK(_) | Kind::BatchTopK(_) | Kind::Matryoshka(_) | Kind::Gated(_) => {
            &["W_enc", "b_enc", "W_dec", "b_dec", "r_mag", "b_mag"]
        }
        Kind::Threshold(_) | Kind::JumpRelu(_) => &["W_enc", "b_enc", "W_dec", "b_dec"],
        #[allow(unreachable_patterns, reason = "what comes next may have an estimator everywhere")]
        _ => &["W_dec", "b_dec"],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn gradients(n in 1usize..6, d_in in 1usize..5, d_sae in 1usize..20, d_out in 1usize..5, which in 0..count(), k in 1usize..6, seed: u64) {
        let kind = kind(which, k, 0.3);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let state = start(&mut rng, kind, [d_in, d_sae, d_out]);
        let parameters = state.parameters.map(f64::from);
        let (x, target) = (uniform(&mut rng, n, d_in), uniform(&mut rng, n, d_out));
        let batch = Batch { x: x.view(), target: Target::States(target.view()) };
        let objective = Objective { sparsity_weight: 0.1, ..Objective::default() };
        let trace = reference::trace(&parameters, &Architecture::of(kind), kind, &objective, batch, (0, &state.idle));
        let residual = target.mapv(f64::from) - &trace.y;
        let loss = |parameters: &Parameters<f64>| loss(kind, parameters, &objective, batch, &state.idle, &residual);
        let (here, decided) = loss(&parameters);
        prop_assert!((here - trace.stats.loss).abs() < 1e-12);
        let step = 1e-5;
        for (tensor, (name, _)) in parameters.shapes().into_iter().enumerate() {
            if !exact(kind).contains(&name) {
                continue;
            }
            for at in 0..parameters.flat()[tensor].len() {
                let moved = |by: f64| {
                    let mut moved = parameters.clone();
                    moved.flat_mut()[tensor][at] += by;
                    loss(&moved)
                };
                let ((above, up), (below, down)) = (moved(step), moved(-step));
                if up == decided && down == decided {
                    let (got, want) = (trace.gradient.flat()[tensor][at], (above - below) / (2.0 * step));
                    prop_assert!((got - want).abs() < 1e-7 * want.abs().max(1.0), "{name}[{at}] of {kind:?}: {got}, by differences {want}");
                }
            }
        }
    }
}

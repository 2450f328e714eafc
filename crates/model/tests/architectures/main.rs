//! Architectures whose codes hold values: the engine against the plain f64 loops, those against differences of the loss, the same bits
//! everywhere, and steps of the libraries that the field trains with.
//!
//! All but the last go over every architecture that the library knows by name: a new one is tested without a line here.

mod against_reference;
mod differences;
mod libraries;
#[path = "../oracle/mod.rs"]
#[allow(dead_code, reason = "this takes the drawing of numbers and the bounds of rounding")]
mod oracle;
mod relatives;
mod same_bits;

use bae_model::architectures::{Begin, Column, Entries, Kind, Pass, Settings, Threshold};
use bae_model::{Moments, Objective, Parameters, TrainingState, sae};
use ndarray::{Array1, Array2};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Those that learn by steps.
fn learning(k: usize, width: f64) -> Vec<Kind> {
    let (k, gradient_width) = (Some(k), Some(width));
    let bits = Some(2);
    let settings = Settings { d_sae: usize::MAX, k, bits, gradient_width, dead_after: DEAD_AFTER, seed: 7 };
    let all = Kind::names().map(|(name, _)| Kind::named(name, settings).expect("a name").expect("settings"));
    all.filter(|kind| kind.recipe().start != Begin::Fitted).collect()
}

/// An architecture by its place in the list, with these settings; what others become when they are saved stands at its end.
pub fn kind(which: usize, k: usize, width: f64) -> Kind {
    learning(k, width).get(which).copied().unwrap_or(Kind::Threshold(Threshold))
}

/// How many there are.
pub fn count() -> usize {
    learning(1, 1.0).len() + 1
}

/// Steps after which features are dead.
pub const DEAD_AFTER: u32 = 3;

/// A state to start from: some features are never on, and some have been idle for long.
pub fn start(rng: &mut ChaCha8Rng, kind: Kind, [d_in, d_sae, d_out]: [usize; 3]) -> TrainingState {
    let mut parameters = oracle::parameters(rng, d_in, d_sae, d_out);
    parameters.b_enc.iter_mut().enumerate().for_each(|(at, b)| *b += [0.0, 0.0, -50.0, -0.5, 0.0][at % 5]);
    parameters.per_feature = kind
        .coding::<f32>()
        .per_feature()
        .iter()
        .map(|(name, value)| {
            (*name, Array1::from_shape_simple_fn(d_sae, || value + 0.3 * rng.random::<f32>()))
        })
        .collect();
    let idle = (0..d_sae).map(|_| if rng.random::<f32>() < 0.4 { DEAD_AFTER + 1 } else { 0 }).collect();
    TrainingState { moments: Moments::new(&parameters), parameters, idle }
}

/// What an architecture decides at these pre-activations: which entries there are, which codes are on, what dead features take part,
/// and the gradients that it passes.
pub struct Decisions {
    pattern: Vec<(Vec<usize>, Vec<u32>)>,
    on: Vec<bool>,
    passed: Array2<f64>,
}

impl Decisions {
    /// Those of the reference. `grad_h`: what arrives at the codes.
    pub fn of(
        kind: Kind,
        parameters: &Parameters<f64>,
        objective: &Objective,
        z: &Array2<f64>,
        grad_h: &Array2<f64>,
        (step, idle): (u64, &[u32]),
    ) -> Self {
        let coding = kind.coding::<f64>();
        let tensors = sae::reference::tensors(parameters);
        let entries = coding.encode(z.view(), &tensors, Pass::Step(step));
        let mut passed = Array2::zeros(z.dim());
        for feature in 0..z.ncols() {
            let places: Vec<(usize, usize)> = (0..z.nrows())
                .filter_map(|row| {
                    entries.row(row).find(|&at| entries.features[at] as usize == feature).map(|at| (row, at))
                })
                .collect();
            let of = |values: &[f64]| places.iter().map(|&(_, at)| values[at]).collect::<Vec<f64>>();
            let (of_z, of_h) = (of(&entries.z), of(&entries.h));
            let row = parameters.w_dec.row(feature);
            let norm = row.dot(&row).sqrt();
            let rows = z.nrows();
            let column = Column { feature, z: &of_z, h: &of_h, rows, norm, tensors: &tensors, objective };
            let mut gradient: Vec<f64> = places.iter().map(|&(row, _)| grad_h[[row, feature]]).collect();
            coding.backward(&column, &mut gradient);
            places.iter().zip(gradient).for_each(|(&(row, _), g)| passed[[row, feature]] = g);
        }
        let on = entries.h.iter().map(|h| *h != 0.0).collect();
        let auxiliary = coding.auxiliary(z.view(), &tensors, idle).map(|auxiliary| auxiliary.codes);
        let lists = |entries: Entries<f64>| (entries.ends, entries.features);
        Self { pattern: [Some(entries), auxiliary].into_iter().flatten().map(lists).collect(), on, passed }
    }

    /// Whether rounding of the pre-activations changes nothing but by rounding.
    pub fn same(&self, other: &Self) -> bool {
        let unit = oracle::largest(&self.passed).max(1e-3);
        self.pattern == other.pattern
            && self.on == other.on
            && oracle::largest(&(&self.passed - &other.passed)) < 1e-4 * unit
    }
}

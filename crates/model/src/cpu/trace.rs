//! A step with everything in between, for tests and for looking into.

use super::step::{Backward, PanelGradients};
use super::weights::Weights;
use crate::{Parameters, Trace};
use bae_kernels::batch::PANEL;
use ndarray::{Array1, Array2};
use rayon::prelude::*;

/// Runs the backward pass without an update and lays everything out as rows.
pub(super) fn look_into(weights: &Weights, backward: &Backward) -> Trace {
    let Weights { d_in, d_sae, d_out, .. } = *weights;
    let forward = backward.forward;
    let n = forward.codes.samples();
    let panels: Vec<PanelGradients> = weights
        .panels(1)
        .enumerate()
        .map(|(at, panel)| {
            let mut gradients = PanelGradients::default();
            let features = at * PANEL..d_sae.min((at + 1) * PANEL);
            backward.panels(at, panel.decoder, &mut gradients, &mut Default::default());
            backward.decoder(features, &mut gradients, &mut Default::default());
            gradients
        })
        .collect();
    let by_panel = |rows: usize, value: &dyn Fn(usize, usize) -> f32| {
        Array2::from_shape_fn((rows, d_sae), |(row, feature)| {
            f64::from(value(feature / PANEL, row * PANEL + feature % PANEL))
        })
    };
    let (y, grad_y) = forward.outputs.as_ref().expect("outputs were kept");
    let gradient = Parameters {
        w_enc: by_panel(d_in, &|panel, at| panels[panel].encoder[at]),
        b_enc: Array1::from_shape_fn(d_sae, |feature| {
            f64::from(panels[feature / PANEL].b_enc[feature % PANEL])
        }),
        w_dec: Array2::from_shape_fn((d_sae, d_out), |(feature, column)| {
            f64::from(panels[feature / PANEL].decoder[feature % PANEL * d_out + column])
        }),
        b_dec: forward.b_dec.iter().map(|&g| f64::from(g)).collect(),
        per_feature: vec![],
    };
    Trace {
        z: by_panel(n, &|panel, at| backward.z(panel)[at]),
        h: Array2::from_shape_fn((n, d_sae), |(row, feature)| {
            f64::from(forward.codes.panel(feature / PANEL)[row] >> (feature % PANEL) & 1)
        }),
        y: y.mapv(f64::from),
        grad_y: grad_y.mapv(f64::from),
        grad_h: by_panel(n, &|panel, at| panels[panel].grad_h[at]),
        grad_z: by_panel(n, &|panel, at| panels[panel].grad_z[at]),
        gradient,
        stats: forward.stats,
    }
}

//! Pre-activations and their bits, some panels at a time.

use super::Poisoned;
use super::left::Left;
use super::step::{PanelGradients, PanelPool};
use super::weights::{Panels, Weights};
use crate::{Estimator, activation};
use bae_kernels::Isa;
use bae_kernels::batch::{PANEL, pack_panel};
use rayon::prelude::*;

/// Codes of the rows `x`, as words `[panel][n]`; pre-activations go to `z` `[panel][n][32]` if it is given.
pub(super) fn encode(
    isa: Isa,
    estimator: Estimator,
    weights: &Weights,
    x: &Left,
    pool: &PanelPool,
    z: Option<&mut [f32]>,
) -> Result<Vec<u32>, Poisoned> {
    let n = x.rows();
    let panels = weights.d_sae.div_ceil(PANEL);
    let mut words = vec![0u32; panels * n];
    if n == 0 {
        return Ok(words);
    }
    let group = group(panels, rayon::current_num_threads()).min(TOGETHER);
    let groups = weights.panels(group).zip(words.par_chunks_mut(group * n)).enumerate().with_max_len(1);
    let of_group =
        |at: usize, panels: Panels<&[f32]>, z: &mut [f32], rounded: &mut Vec<u32>, words: &mut [u32]| {
            pre_activations(isa, &panels, x, rounded, z);
            let each = z.chunks_exact(n * PANEL).zip(words.chunks_exact_mut(n)).enumerate();
            each.filter_map(|(panel, (z, words))| {
                let first = (at * group + panel) * PANEL;
                bits(isa, estimator, weights.d_sae - first, z, words);
                find_poison(estimator, weights.d_sae - first, z).map(|(row, feature)| (row, first + feature))
            })
            .min()
        };
    let poison = match z {
        Some(z) => groups
            .zip(z.par_chunks_mut(group * n * PANEL))
            .filter_map(|((at, (panels, words)), z)| {
                pool.with(|memory| of_group(at, panels, z, &mut memory.rounded, words))
            })
            .min(),
        None => groups
            .filter_map(|(at, (panels, words))| {
                pool.with(|PanelGradients { grad_z, rounded, .. }| {
                    grad_z.resize(words.len() * PANEL, 0.0);
                    of_group(at, panels, grad_z, rounded, words)
                })
            })
            .min(),
    };
    match poison {
        Some((row, feature)) => Err(Poisoned { row, feature }),
        None => Ok(words),
    }
}

/// Panels that read the rows of a batch together, at most: as many as stay in the second-level cache. Changes no bit.
pub(super) const TOGETHER: usize = 4;

/// Panels to a task: as many as share rows in the cache, fewer where threads would be left without work. Changes no bit.
pub(super) fn group(panels: usize, threads: usize) -> usize {
    (panels / (8 * threads)).clamp(1, 8)
}

/// z = x W_enc + b_enc of some panels, `[panel][n][32]`.
fn pre_activations(isa: Isa, panels: &Panels<&[f32]>, x: &Left, rounded: &mut Vec<u32>, z: &mut [f32]) {
    let (biases, _) = panels.b_enc.as_chunks::<PANEL>();
    let (rows, _) = z.as_chunks_mut::<PANEL>();
    for (rows, bias) in rows.chunks_exact_mut(x.rows()).zip(biases) {
        rows.fill(*bias);
    }
    x.add_panels(isa, panels.encoder, rounded, z);
}

/// The first row and feature of a panel whose pre-activation no bit can stand for, among its first `features`.
fn find_poison(estimator: Estimator, features: usize, z: &[f32]) -> Option<(usize, usize)> {
    let bad = |z: &f32| if estimator == Estimator::Squarewave { !z.is_finite() } else { z.is_nan() };
    // a fold without early exit: compilers turn it into vector code
    if !z.iter().fold(false, |any, z| any | bad(z)) {
        return None;
    }
    let rows = z.as_chunks::<PANEL>().0.iter().enumerate();
    let mut found = rows.filter_map(|(row, z)| Some((row, z.iter().take(features).position(bad)?)));
    found.next()
}

/// The step function of one panel, packed; the squarewave's padding is not 0 by itself.
fn bits(isa: Isa, estimator: Estimator, features: usize, z: &[f32], words: &mut [u32]) {
    if estimator != Estimator::Squarewave {
        return pack_panel(isa, z, words);
    }
    for (word, row) in words.iter_mut().zip(z.chunks_exact(PANEL)) {
        let bit = |at: usize| u32::from(activation::squarewave(row[at])) << at;
        *word = (0..PANEL.min(features)).fold(0, |word, at| word | bit(at));
    }
}

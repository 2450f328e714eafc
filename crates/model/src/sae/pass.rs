//! Forward: pre-activations, codes, reconstructions.

use super::weights::Weights;
use crate::architectures::{Auxiliary, Coding, Entries, Pass};
use crate::{Batch, ModelError};
use bae_kernels::Isa;
use bae_kernels::product::add_product;
use bae_kernels::sparse::{self, Lists};
use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// All that the forward pass leaves behind.
pub(super) struct Forward {
    /// Pre-activations, `[n, d_sae]`.
    pub z: Array2<f32>,
    pub codes: Entries<f32>,
    /// What each prefix of the features decodes to, before the output activation; the last is of all of them. `[n, d_out]`
    pub outputs: Vec<Array2<f32>>,
    /// Features after which those end.
    pub prefixes: Vec<usize>,
    pub auxiliary: Option<Auxiliary<f32>>,
}

impl Forward {
    pub fn new(
        isa: Isa,
        coding: &dyn Coding<f32>,
        weights: &Weights,
        idle: &[u32],
        batch: Batch,
        pass: Pass,
    ) -> Result<Self, ModelError> {
        let z = pre_activations(isa, weights, batch.x)?;
        let tensors = weights.feature_tensors();
        let codes = coding.encode(z.view(), &tensors.with(weights), pass);
        let prefixes = coding.prefixes(weights.d_sae);
        let mut outputs: Vec<Array2<f32>> = vec![];
        for (at, &end) in prefixes.iter().enumerate() {
            let y = match outputs.last() {
                None if prefixes.len() == 1 => decode(isa, lists(&codes), weights, &weights.b_dec),
                None => decode(isa, lists(&codes.of_features(0..end)), weights, &weights.b_dec),
                Some(before) => {
                    let mut y = before.clone();
                    add_decoded(isa, lists(&codes.of_features(prefixes[at - 1]..end)), weights, &mut y);
                    y
                }
            };
            outputs.push(y);
        }
        let auxiliary = coding.auxiliary(z.view(), &tensors.with(weights), idle);
        Ok(Self { z, codes, outputs, prefixes, auxiliary })
    }
}

/// z = x W_enc + b_enc, `[n, d_sae]`.
///
/// # Errors
/// [`ModelError::NotFinite`].
pub(super) fn pre_activations(
    isa: Isa,
    weights: &Weights,
    x: ArrayView2<f32>,
) -> Result<Array2<f32>, ModelError> {
    let mut z = broadcast(&weights.b_enc, x.nrows());
    add_product(isa, x, weights.encoder_view().reversed_axes(), z.view_mut());
    let rows = z.axis_iter(ndarray::Axis(0)).into_par_iter().enumerate();
    let bad = rows.filter_map(|(row, z)| z.iter().position(|z| z.is_nan()).map(|feature| (row, feature)));
    match bad.min() {
        Some((row, feature)) => Err(ModelError::NotFinite { row, feature }),
        None => Ok(z),
    }
}

/// `rows` times the same row.
fn broadcast(row: &[f32], rows: usize) -> Array2<f32> {
    let mut all = Array2::zeros((rows, row.len()));
    all.axis_iter_mut(ndarray::Axis(0)).into_par_iter().for_each(|mut to| to.assign(&ndarray::aview1(row)));
    all
}

pub(super) fn lists(codes: &Entries<f32>) -> Lists<'_> {
    (&codes.ends, &codes.features, &codes.h)
}

/// bias + h W_dec, `[n, d_out]`.
pub(super) fn decode(isa: Isa, codes: Lists, weights: &Weights, bias: &[f32]) -> Array2<f32> {
    let mut y = broadcast(bias, codes.0.len());
    add_decoded(isa, codes, weights, &mut y);
    y
}

/// y += h W_dec: for each row one chain over its features.
pub(super) fn add_decoded(isa: Isa, codes: Lists, weights: &Weights, y: &mut Array2<f32>) {
    let y = y.as_slice_mut().expect("row-major");
    sparse::add_decoded(isa, codes, &weights.decoder, weights.d_out, y);
}

/// Codes as a matrix, `[n, d_sae]`.
pub(super) fn dense(codes: &Entries<f32>, d_sae: usize) -> Array2<f64> {
    let mut h = Array2::zeros((codes.rows(), d_sae));
    for row in 0..codes.rows() {
        for at in codes.row(row) {
            h[[row, codes.features[at] as usize]] = f64::from(codes.h[at]);
        }
    }
    h
}

use crate::Parameters;
use crate::architectures::Tensors;
use ndarray::{Array1, Array2, ArrayView2};
use rayon::prelude::*;

/// Weights, or anything of the same shapes, feature by feature.
#[derive(Clone)]
pub(super) struct Weights {
    pub d_in: usize,
    pub d_sae: usize,
    pub d_out: usize,
    /// `[d_sae][d_in]`: the encoder turned round.
    pub encoder: Vec<f32>,
    /// `[d_sae][d_out]`
    pub decoder: Vec<f32>,
    pub b_enc: Vec<f32>,
    pub b_dec: Vec<f32>,
    pub per_feature: Vec<(&'static str, Vec<f32>)>,
}

/// Copies of what an architecture may look at while the weights change.
pub(super) struct FeatureTensors {
    b_enc: Vec<f32>,
    per_feature: Vec<Vec<f32>>,
}

impl FeatureTensors {
    /// With encoder and decoder of `weights`.
    pub fn with<'a>(&'a self, weights: &'a Weights) -> Tensors<'a, f32> {
        Tensors { encoder: weights.encoder_view(), decoder: weights.decoder_view(), ..self.alone() }
    }

    /// Without encoder and decoder.
    pub fn alone(&self) -> Tensors<'_, f32> {
        let none = ArrayView2::from_shape((0, 0), &[]).expect("no rows");
        let per_feature = self.per_feature.iter().map(|v| v.as_slice()).collect();
        Tensors { b_enc: &self.b_enc, per_feature, encoder: none, decoder: none }
    }
}

impl Weights {
    /// All values 0, in the shapes of `self`.
    pub fn zeros_like(&self) -> Self {
        Self {
            encoder: vec![0.0; self.encoder.len()],
            decoder: vec![0.0; self.decoder.len()],
            b_enc: vec![0.0; self.d_sae],
            b_dec: vec![0.0; self.d_out],
            per_feature: self.per_feature.iter().map(|(name, v)| (*name, vec![0.0; v.len()])).collect(),
            ..*self
        }
    }

    pub fn feature_tensors(&self) -> FeatureTensors {
        let per_feature = self.per_feature.iter().map(|(_, values)| values.clone()).collect();
        FeatureTensors { b_enc: self.b_enc.clone(), per_feature }
    }

    pub fn encoder_view(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.d_sae, self.d_in), &self.encoder).expect("rows of the encoder")
    }

    pub fn decoder_view(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.d_sae, self.d_out), &self.decoder).expect("rows of the decoder")
    }

    /// All that is not encoder and decoder: their biases, and what the architecture has for each feature.
    pub fn small_mut(&mut self) -> Vec<&mut [f32]> {
        let more = self.per_feature.iter_mut().map(|(_, values)| values.as_mut_slice());
        [self.b_enc.as_mut_slice(), &mut self.b_dec].into_iter().chain(more).collect()
    }

    /// All values.
    pub fn flat_mut(&mut self) -> Vec<&mut [f32]> {
        let more = self.per_feature.iter_mut().map(|(_, values)| values.as_mut_slice());
        let four = [&mut self.encoder, &mut self.b_enc, &mut self.decoder, &mut self.b_dec];
        four.into_iter().map(Vec::as_mut_slice).chain(more).collect()
    }

    /// The 2-norm of all values; sums in f64, of each feature by itself and then over the features in order.
    pub fn norm(&self) -> f64 {
        let squares = |values: &[f32]| values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
        let rows = |values: &[f32], width: usize| -> f64 {
            values.par_chunks(width.max(1)).map(squares).collect::<Vec<_>>().iter().sum()
        };
        let more: f64 = self.per_feature.iter().map(|(_, values)| squares(values)).sum();
        let all = rows(&self.encoder, self.d_in) + rows(&self.decoder, self.d_out);
        (all + squares(&self.b_enc) + squares(&self.b_dec) + more).sqrt()
    }
}

impl From<&Parameters> for Weights {
    fn from(from: &Parameters) -> Self {
        Self {
            d_in: from.d_in(),
            d_sae: from.d_sae(),
            d_out: from.d_out(),
            encoder: from.w_enc.t().iter().copied().collect(),
            decoder: from.w_dec.iter().copied().collect(),
            b_enc: from.b_enc.to_vec(),
            b_dec: from.b_dec.to_vec(),
            per_feature: from.per_feature.iter().map(|(name, values)| (*name, values.to_vec())).collect(),
        }
    }
}

impl From<&Weights> for Parameters {
    fn from(from: &Weights) -> Self {
        let turned = from.encoder_view().reversed_axes();
        Self {
            w_enc: Array2::from_shape_vec((from.d_in, from.d_sae), turned.iter().copied().collect())
                .expect("rows of the encoder"),
            b_enc: Array1::from(from.b_enc.clone()),
            w_dec: from.decoder_view().to_owned(),
            b_dec: Array1::from(from.b_dec.clone()),
            per_feature: from
                .per_feature
                .iter()
                .map(|(name, values)| (*name, Array1::from(values.clone())))
                .collect(),
        }
    }
}

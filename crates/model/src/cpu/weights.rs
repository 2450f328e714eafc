//! Parameters as the step reads them.

use crate::Parameters;
use bae_kernels::batch::PANEL;
use ndarray::{Array1, Array2};
use rayon::prelude::*;

/// Parameters, moments or gradients with the encoder cut into panels of 32 features, as products take it.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    pub d_in: usize,
    pub d_sae: usize,
    pub d_out: usize,
    /// `[panel][d_in][32]`; features that fill up the last panel are 0.
    encoder: Vec<f32>,
    /// `[32 · panels]`.
    b_enc: Vec<f32>,
    /// `[d_sae][d_out]`.
    decoder: Vec<f32>,
    /// `[d_out]`.
    pub b_dec: Vec<f32>,
}

/// What belongs to the features of one or several neighbouring panels (the last one may have fewer decoder rows).
pub(super) struct Panels<T> {
    /// `[panel][d_in][32]`.
    pub encoder: T,
    /// `[panel][32]`.
    pub b_enc: T,
    /// `[features][d_out]`.
    pub decoder: T,
}

impl Weights {
    /// All values 0, in the shapes of `self`.
    pub fn zeros_like(&self) -> Self {
        Self {
            encoder: vec![0.0; self.encoder.len()],
            b_enc: vec![0.0; self.b_enc.len()],
            decoder: vec![0.0; self.decoder.len()],
            b_dec: vec![0.0; self.b_dec.len()],
            ..*self
        }
    }

    /// All decoder rows, `[d_sae][d_out]`.
    pub fn decoder(&self) -> &[f32] {
        &self.decoder
    }

    /// Groups of `group` panels, to read in parallel.
    pub fn panels(&self, group: usize) -> impl IndexedParallelIterator<Item = Panels<&[f32]>> {
        let encoder = self.encoder.par_chunks(group * self.encoder_panel());
        let decoder = self.decoder.par_chunks(group * self.decoder_panel());
        let parts = encoder.zip(self.b_enc.par_chunks(group * PANEL)).zip(decoder);
        parts.map(|((encoder, b_enc), decoder)| Panels { encoder, b_enc, decoder })
    }

    /// Groups of `group` panels, to write in parallel.
    pub fn panels_mut(&mut self, group: usize) -> impl IndexedParallelIterator<Item = Panels<&mut [f32]>> {
        let (encoder_group, decoder_group) = (group * self.encoder_panel(), group * self.decoder_panel());
        let encoder = self.encoder.par_chunks_mut(encoder_group);
        let parts = encoder.zip(self.b_enc.par_chunks_mut(group * PANEL));
        let parts = parts.zip(self.decoder.par_chunks_mut(decoder_group));
        parts.map(|((encoder, b_enc), decoder)| Panels { encoder, b_enc, decoder })
    }

    /// The 2-norm of all values; sums in f64, of each panel by itself and then over the panels in order.
    pub fn norm(&self) -> f64 {
        let of_panel = |Panels { encoder, b_enc, decoder }: Panels<&[f32]>| {
            squares(encoder) + squares(b_enc) + squares(decoder)
        };
        let panels: Vec<f64> = self.panels(1).map(of_panel).collect();
        (panels.iter().sum::<f64>() + squares(&self.b_dec)).sqrt()
    }

    /// The values of the four tensors, in the order of [`crate::TENSORS`].
    pub fn flat_mut(&mut self) -> [&mut [f32]; 4] {
        [&mut self.encoder, &mut self.b_enc, &mut self.decoder, &mut self.b_dec]
    }

    /// Values of a panel of the encoder.
    pub fn encoder_panel(&self) -> usize {
        (self.d_in * PANEL).max(1)
    }

    /// Values of a panel of the decoder.
    pub fn decoder_panel(&self) -> usize {
        (self.d_out * PANEL).max(1)
    }
}

/// Σ v² in f64: eight chains, the same on every machine, of which compilers make vector code.
fn squares(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, &v)| *sum += f64::from(v) * f64::from(v));
    }
    sums.iter_mut().zip(rest).for_each(|(sum, &v)| *sum += f64::from(v) * f64::from(v));
    sums.iter().sum()
}

impl From<&Parameters> for Weights {
    fn from(from: &Parameters) -> Self {
        let (d_in, d_sae, d_out) = (from.d_in(), from.d_sae(), from.d_out());
        let padded = d_sae.next_multiple_of(PANEL);
        let mut encoder = vec![0.0; padded * d_in];
        encoder.par_chunks_mut((d_in * PANEL).max(1)).enumerate().for_each(|(panel, to)| {
            let first = panel * PANEL;
            let count = PANEL.min(d_sae - first);
            for (to, row) in to.chunks_exact_mut(PANEL).zip(from.w_enc.rows()) {
                to[..count].copy_from_slice(&row.as_slice().expect("row-major")[first..first + count]);
            }
        });
        let mut b_enc = from.b_enc.to_vec();
        b_enc.resize(padded, 0.0);
        let (decoder, b_dec) = (from.w_dec.iter().copied().collect(), from.b_dec.to_vec());
        Self { d_in, d_sae, d_out, encoder, b_enc, decoder, b_dec }
    }
}

impl From<&Weights> for Parameters {
    fn from(from: &Weights) -> Self {
        let mut w_enc = Array2::zeros((from.d_in, from.d_sae));
        if from.d_sae > 0 {
            let rows = w_enc.as_slice_mut().expect("row-major").par_chunks_mut(from.d_sae).enumerate();
            rows.for_each(|(row, to)| {
                for (panel, to) in to.chunks_mut(PANEL).enumerate() {
                    let values = &from.encoder[panel * from.encoder_panel() + row * PANEL..];
                    to.copy_from_slice(&values[..to.len()]);
                }
            });
        }
        let decoder = Array2::from_shape_vec((from.d_sae, from.d_out), from.decoder.clone());
        Parameters {
            w_enc,
            b_enc: Array1::from(from.b_enc[..from.d_sae].to_vec()),
            w_dec: decoder.expect("rows of the decoder"),
            b_dec: Array1::from(from.b_dec.clone()),
            per_feature: vec![],
        }
    }
}

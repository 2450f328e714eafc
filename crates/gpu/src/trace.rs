//! A step that changes nothing, with everything in between: for tests and for looking into.

use crate::device::locked;
use crate::engine::{Gpu, Subject, not_finite};
use crate::memory::{Block, Gradients, floats, poison, read_floats, read_words};
use crate::pass::{Against, Kept, KeptBlock, Pass};
use crate::recording::Recording;
use crate::shaders::{NONE, Params, results};
use bae_codes::BitMatrix;
use bae_model::{Architecture, Batch, ModelError, Objective, Parameters, Trace};
use ndarray::{Array1, Array2, s};

impl Gpu {
    /// Forward and backward, copied from the device.
    pub(crate) fn look_into(
        &self,
        architecture: &Architecture,
        objective: &Objective,
        batch: Batch,
    ) -> Result<Trace, ModelError> {
        self.check_batch(architecture, batch)?;
        let device = &*self.device;
        let mut state = locked(&self.state);
        let state = &mut *state;
        state.prepare(device, batch.x.nrows(), architecture.estimator().is_none())?;
        state.upload(device, batch)?;
        let (rows, d_in, d_out) = (batch.x.nrows(), self.widths.d_in, self.widths.d_out);
        let poison = poison(device)?;
        let keep = |name: &str, count: usize| floats(device, name, count);
        let kept_block = |block: &Block| {
            Ok(KeptBlock {
                z: keep("pre-activations", rows * block.features)?,
                grad_h: keep("gradients", rows * block.features)?,
            })
        };
        let kept = Kept {
            grad_y: keep("gradients", rows * d_out)?,
            blocks: state.weights.blocks.iter().map(kept_block).collect::<Result<_, ModelError>>()?,
        };
        let gradients = Gradients::new(device, &state.weights)?;
        let params = Params { keep: 1, ..self.params(architecture, objective, batch) };
        let scratch = state.scratch.as_ref().expect("prepared");
        let weights = &state.weights;
        let mut recording = Recording::new(device);
        let pass = Pass {
            against: Against::of(batch),
            half: self.half,
            gradients: Some(&gradients),
            kept: Some(&kept),
            ..Pass::new(&self.device, weights, scratch, &poison, params, architecture)
        };
        pass.record(&mut recording)?;
        recording.submit(&mut state.params, None)?;

        let entry = read_words(device, &poison, 1)?[0];
        if entry != NONE {
            return Err(not_finite(entry, self.widths.d_sae));
        }
        let mut words = [0u32; results::COUNT];
        words.copy_from_slice(&read_words(device, &scratch.results, results::COUNT)?);
        let matrix = |buffer: &wgpu::Buffer, rows: usize, columns: usize| {
            let values = read_floats(device, buffer, rows * columns)?;
            let values = values.into_iter().map(f64::from).collect();
            Ok::<_, ModelError>(Array2::from_shape_vec((rows, columns), values).expect("as many as read"))
        };
        let row = |buffer: &wgpu::Buffer, columns: usize| {
            Ok::<Array1<f64>, ModelError>(matrix(buffer, 1, columns)?.row(0).to_owned())
        };
        let wide = || Array2::<f64>::zeros((rows, self.widths.d_sae));
        let (mut z, mut grad_h, mut grad_z, mut h) = (wide(), wide(), wide(), wide());
        let mut gradient = Parameters::<f64>::zeros(d_in, self.widths.d_sae, d_out);
        let blocks = weights.blocks.iter().zip(&gradients.blocks).zip(&kept.blocks).zip(&scratch.z);
        for (((block, of_block), kept), scratch_z) in blocks {
            let range = block.first..block.first + block.features;
            let width = block.features;
            z.slice_mut(s![.., range.clone()]).assign(&matrix(&kept.z, rows, width)?);
            grad_h.slice_mut(s![.., range.clone()]).assign(&matrix(&kept.grad_h, rows, width)?);
            grad_z.slice_mut(s![.., range.clone()]).assign(&matrix(scratch_z, rows, width)?);
            gradient.w_enc.slice_mut(s![.., range.clone()]).assign(&matrix(&of_block.w_enc, d_in, width)?);
            gradient.w_dec.slice_mut(s![range.clone(), ..]).assign(&matrix(&of_block.w_dec, width, d_out)?);
            gradient.b_enc.slice_mut(s![range]).assign(&row(&of_block.b_enc, width)?);
        }
        gradient.b_dec = row(&gradients.b_dec, d_out)?;
        let binary = architecture.estimator().is_some();
        if binary {
            let codes = read_words(device, &scratch.codes, self.widths.d_sae.div_ceil(32) * rows)?;
            let codes = BitMatrix::from_panels(rows, self.widths.d_sae, &codes);
            h = Array2::from_shape_fn(h.dim(), |(row, j)| f64::from(u8::from(codes.get(row, j))));
        } else if let Some([values, _]) = &scratch.values {
            h = matrix(values, rows, self.widths.d_sae)?;
        }
        Ok(Trace {
            z,
            h,
            y: matrix(&scratch.y, rows, d_out)?,
            grad_y: matrix(&kept.grad_y, rows, d_out)?,
            grad_h,
            grad_z,
            gradient,
            stats: self.stats(&words, &Subject::of(architecture, objective, batch, false)),
        })
    }
}

//! What a step runs on the device, in order.

use crate::device::Device;
use crate::memory::{Block, BlockGradients, Gradients, Scratch, Tensor, Weights};
use crate::recording::{Part, Recording};
use crate::shaders::{self, Params, Tile};
use bae_model::{Activation, Architecture, Batch, ModelError, Target};

/// What one forward and backward pass works on.
pub struct Pass<'a> {
    pub device: &'a Device,
    pub weights: &'a Weights,
    pub scratch: &'a Scratch,
    pub poison: &'a wgpu::Buffer,
    pub params: Params,
    pub against: Against,
    pub architecture: &'a Architecture,
    /// Whether products of values round their factors to half floats.
    pub half: bool,
    /// Where gradients go when they are not to be used up at once.
    pub gradients: Option<&'a Gradients>,
    /// Where a trace's intermediates go.
    pub kept: Option<&'a Kept>,
}

/// What outputs are compared with.
#[derive(Clone, Copy, PartialEq)]
pub enum Against {
    Input,
    States,
    Labels,
}

impl Against {
    pub fn of(batch: Batch) -> Self {
        match batch.target {
            Target::Input => Against::Input,
            Target::States(_) => Against::States,
            Target::Labels(_) => Against::Labels,
        }
    }
}

/// What a trace shows beside what every step leaves behind.
pub struct Kept {
    pub grad_y: wgpu::Buffer,
    pub blocks: Vec<KeptBlock>,
}

pub struct KeptBlock {
    pub z: wgpu::Buffer,
    pub grad_h: wgpu::Buffer,
}

impl<'a> Pass<'a> {
    /// On hidden states that are to be reconstructed.
    pub fn new(
        device: &'a Device,
        weights: &'a Weights,
        scratch: &'a Scratch,
        poison: &'a wgpu::Buffer,
        params: Params,
        architecture: &'a Architecture,
    ) -> Self {
        let (against, half, gradients, kept) = (Against::Input, false, None, None);
        Self { device, weights, scratch, poison, params, against, architecture, half, gradients, kept }
    }

    /// The tile of a product of this shape: large ones where there are enough to fill a device.
    fn tile(&self, rows: usize, columns: usize) -> Tile {
        const FULL: usize = 96;
        let large = Tile::Large.side() as usize;
        let fits = Tile::Large.fits(self.device.report().workgroup_bytes);
        let fills = rows.div_ceil(large) * columns.div_ceil(large) >= FULL;
        if fits && fills { Tile::Large } else { Tile::Small }
    }

    /// Forward, backward and update; gradients instead of the update where there is a place for them.
    pub fn record(&self, to: &mut Recording) -> Result<(), ModelError> {
        to.half(self.half);
        to.clear(&self.scratch.results);
        match self.architecture.activation {
            Activation::Binary(_) => {
                self.codes(to)?;
                self.counts(to)?;
            }
            _ => self.values(to)?,
        }
        self.outputs(to)?;
        self.errors(to)?;
        to.part(Part::Adam);
        let b_dec = self.gradients.map(|gradients| &gradients.b_dec);
        self.bias(to, &shaders::BIAS_OF_OUTPUTS, self.weights.widths.d_out, &self.weights.b_dec, b_dec)?;
        for (at, block) in self.weights.blocks.iter().enumerate() {
            self.backward(to, at, block, self.gradients.map(|gradients| &gradients.blocks[at]))?;
        }
        Ok(())
    }

    /// Adam with the gradients that lie there, clipped; `params` are those of the update.
    pub fn clipped_update(&self, to: &mut Recording, params: Params) -> Result<(), ModelError> {
        let Scratch { partials, results, .. } = self.scratch;
        let gradients = self.gradients.expect("a place for gradients");
        let blocks = self.weights.blocks.iter().zip(&gradients.blocks).flat_map(|(block, gradients)| {
            [
                (&block.w_enc, &gradients.w_enc),
                (&block.b_enc, &gradients.b_enc),
                (&block.w_dec, &gradients.w_dec),
            ]
        });
        let tensors: Vec<_> = blocks.chain([(&self.weights.b_dec, &gradients.b_dec)]).collect();
        let counting = |tensor: &Tensor| {
            let groups = shaders::sharing(tensor.length);
            (Params { count: tensor.length as u32, partials: groups as u32, ..params }, [groups, 1, 1])
        };
        to.part(Part::Adam);
        for (tensor, gradient) in &tensors {
            let (params, groups) = counting(tensor);
            to.params(&params);
            to.run(&shaders::GRADIENT_SQUARES, groups, &[gradient, partials])?;
            to.run(&shaders::GRADIENT_TOTAL, [1, 1, 1], &[partials, results, self.poison])?;
        }
        for (tensor, gradient) in &tensors {
            let (params, groups) = counting(tensor);
            let [values, first, second] = self.updated(tensor, None);
            to.params(&params);
            let buffers = [gradient, results, self.poison, values, first, second];
            to.run(&shaders::CLIPPED_ADAM, groups, &buffers)?;
        }
        Ok(())
    }

    /// Counts the steps for which features are not on, once it is known whether this one changes anything.
    pub fn idle(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { ones, values, .. } = self.scratch;
        let real = values.as_ref().filter(|_| self.architecture.estimator().is_none());
        let (shader, codes) = match real {
            Some([h, _]) => (&shaders::IDLE_VALUES, h),
            None => (&shaders::IDLE, ones),
        };
        to.part(Part::Turn);
        to.params(&self.params);
        let groups = [self.weights.widths.d_sae.div_ceil(64), 1, 1];
        to.run(shader, groups, &[codes, self.poison, &self.weights.idle])
    }

    fn rows(&self) -> usize {
        self.params.rows as usize
    }

    fn block(&self, block: &Block) -> Params {
        self.params.block(self.weights, block)
    }

    /// Pre-activations and codes.
    pub fn codes(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { x, z, codes, .. } = self.scratch;
        for (block, z) in self.weights.blocks.iter().zip(z) {
            to.params(&self.block(block));
            to.part(Part::Encode);
            self.encode(to, x, block, z)?;
            to.part(Part::Turn);
            let groups = [self.rows().div_ceil(64), block.features.div_ceil(32), 1];
            to.run(&shaders::BINARIZE, groups, &[z, codes, self.poison])?;
        }
        Ok(())
    }

    fn encode(
        &self,
        to: &mut Recording,
        x: &wgpu::Buffer,
        block: &Block,
        z: &wgpu::Buffer,
    ) -> Result<(), ModelError> {
        let shape = [self.rows(), block.features];
        let tile = self.tile(shape[0], shape[1]);
        let buffers = [x, &block.w_enc.values, &block.b_enc.values, z];
        to.product(&shaders::ENCODE, tile, shape, &buffers)
    }

    /// What is counted of the codes.
    fn counts(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { codes, tables, pull, live, results, live_codes, live_ones, .. } = self.scratch;
        let (rows, panels) = (self.rows(), self.params.panels as usize);
        to.params(&self.params);
        self.turn(to)?;
        to.run(&shaders::ENTROPY, [1, 1, 1], &[&self.scratch.ones, tables, pull, live, results])?;
        to.part(Part::Penalties);
        to.clear(live_ones);
        to.run(&shaders::LIVE_CODES, [rows.div_ceil(64), panels, 1], &[codes, live, live_codes, live_ones])
    }

    pub fn turn(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { codes, turned, ones, .. } = self.scratch;
        to.part(Part::Turn);
        to.clear(ones);
        let groups = [self.params.panels as usize, (self.params.row_words as usize).div_ceil(4), 1];
        to.run(&shaders::TURN, groups, &[codes, turned, ones])
    }

    /// Codes that are real values.
    fn values(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { x, z, partials, results, values, .. } = self.scratch;
        let [h, least] = values.as_ref().expect("prepared");
        let block = &self.weights.blocks[0];
        to.params(&self.block(block));
        to.part(Part::Encode);
        self.encode(to, x, block, &z[0])?;
        if let Activation::TopK(_) = self.architecture.activation {
            to.run(&shaders::LARGEST, [self.rows(), 1, 1], &[&z[0], least])?;
        }
        let groups = [block.features.div_ceil(64), self.rows(), 1];
        to.run(&shaders::ACTIVATE, groups, &[&z[0], least, h, partials, self.poison])?;
        to.run(&shaders::SIZES_TOTAL, [1, 1, 1], &[partials, results])
    }

    pub fn outputs(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { codes, y, values, .. } = self.scratch;
        to.part(Part::Decode);
        let b_dec = &self.weights.b_dec.values;
        let shape = [self.rows(), self.weights.widths.d_out];
        let tile = self.tile(shape[0], shape[1]);
        for block in &self.weights.blocks {
            to.params(&self.block(block));
            let w_dec = &block.w_dec.values;
            match values {
                Some([h, _]) if self.architecture.estimator().is_none() => {
                    to.product(&shaders::DECODE_VALUES, tile, shape, &[h, w_dec, b_dec, y])?;
                }
                _ => to.product(&shaders::DECODE, tile, shape, &[codes, w_dec, b_dec, y])?,
            }
        }
        Ok(())
    }

    fn errors(&self, to: &mut Recording) -> Result<(), ModelError> {
        let Scratch { x, target, y, errors, column_partials, partials, results, nothing, .. } = self.scratch;
        let (rows, d_out) = (self.rows(), self.weights.widths.d_out);
        let grad_y = self.kept.map_or(&nothing[0], |kept| &kept.grad_y);
        to.part(Part::Errors);
        to.params(&self.params);
        let columns = [d_out.div_ceil(32), rows.div_ceil(64), 1];
        let target = match self.against {
            Against::Input => x,
            Against::States => target,
            Against::Labels => {
                let labels = target;
                to.run(&shaders::CROSS_ENTROPY, [rows, 1, 1], &[y, labels, errors, grad_y, partials])?;
                to.run(&shaders::CROSS_ENTROPY_TOTAL, [1, 1, 1], &[partials, results])?;
                to.run(&shaders::HITS_TOTAL, [1, 1, 1], &[partials, results])?;
                return to.run(&shaders::SUMS_OF_OUTPUTS, columns, &[errors, column_partials]);
            }
        };
        to.run(&shaders::ERRORS, columns, &[y, target, errors, grad_y, column_partials, partials])?;
        to.run(&shaders::SQUARES_TOTAL, [1, 1, 1], &[partials, results])
    }

    /// Signs of a block's covariances, and their sizes.
    pub fn signs(&self, to: &mut Recording, block: &Block) -> Result<(), ModelError> {
        let Scratch { turned, ones, planes, zeros, sums, partial, results, .. } = self.scratch;
        to.part(Part::Covariance);
        to.clear(zeros);
        if block.first == 0 {
            to.clear(sums);
        }
        let shape = [block.features, self.weights.widths.d_sae];
        let tile = self.tile(shape[0], shape[1]);
        let side = tile.side() as usize;
        let partials = shape.map(|size| size.div_ceil(side)).iter().product::<usize>() as u32;
        to.params(&Params { partials, ..self.block(block) });
        to.product(&shaders::SIGNS, tile, shape, &[turned, ones, planes, zeros, sums, partial])?;
        to.run(&shaders::ABSOLUTE_TOTAL, [1, 1, 1], &[partial, results])
    }

    fn backward(
        &self,
        to: &mut Recording,
        at: usize,
        block: &Block,
        gradients: Option<&BlockGradients>,
    ) -> Result<(), ModelError> {
        let scratch = self.scratch;
        let Scratch { x, turned, pull, sums, signed_counts, errors, column_partials, nothing, .. } = scratch;
        let (z, rows) = (&scratch.z[at], self.rows());
        let shape = [rows, block.features];
        let tile = self.tile(shape[0], shape[1]);
        let kept = self.kept.map(|kept| &kept.blocks[at]);
        let grad_h = kept.map_or(&nothing[0], |kept| &kept.grad_h);
        let w_dec = &block.w_dec.values;
        if let Some(kept) = kept {
            to.copy(z, &kept.z, 4 * (rows * block.features) as u64);
        }
        let real = self.architecture.estimator().is_none();
        if !real {
            self.signs(to, block)?;
            if self.params.covariance_scale != 0.0 {
                let Scratch { live_codes, live_ones, live, planes, zeros, .. } = scratch;
                to.part(Part::Penalties);
                // the tiles that have zeros are those of the signs
                let tile = self.tile(block.features, self.weights.widths.d_sae);
                let buffers = [live_codes, live_ones, live, planes, zeros, signed_counts];
                to.product(&shaders::SIGNED_COUNTS, tile, shape, &buffers)?;
            }
        }
        to.part(Part::GradH);
        to.params(&self.block(block));
        let values = scratch.values.as_ref().filter(|_| real);
        if let Some([h, least]) = values {
            let buffers = [errors, w_dec, h, least, z, grad_h];
            to.product(&shaders::GRAD_Z_VALUES, tile, shape, &buffers)?;
        } else {
            let buffers = [errors, w_dec, pull, signed_counts, sums, z, grad_h];
            to.product(&shaders::GRAD_Z, tile, shape, &buffers)?;
        }
        to.part(Part::Adam);
        let groups = [block.features.div_ceil(32), rows.div_ceil(64), 1];
        to.run(&shaders::SUMS_OF_FEATURES, groups, &[z, column_partials])?;
        let b_enc = gradients.map(|gradients| &gradients.b_enc);
        self.bias(to, &shaders::BIAS_OF_FEATURES, block.features, &block.b_enc, b_enc)?;

        to.part(Part::GradEncoder);
        let shape = [self.weights.widths.d_in, block.features];
        let w_enc = gradients.map(|gradients| &gradients.w_enc);
        let [values_of, first, second] = self.updated(&block.w_enc, w_enc);
        let buffers = [x, z, self.poison, values_of, first, second];
        to.product(&shaders::GRAD_ENCODER, self.tile(shape[0], shape[1]), shape, &buffers)?;

        to.part(Part::GradDecoder);
        let shape = [block.features, self.weights.widths.d_out];
        let tile = self.tile(shape[0], shape[1]);
        let w_dec = gradients.map(|gradients| &gradients.w_dec);
        let [values_of, first, second] = self.updated(&block.w_dec, w_dec);
        let (shader, codes) = match values {
            Some([h, _]) => (&shaders::GRAD_DECODER_VALUES, h),
            None => (&shaders::GRAD_DECODER, turned),
        };
        to.product(shader, tile, shape, &[codes, errors, self.poison, values_of, first, second])
    }

    fn bias(
        &self,
        to: &mut Recording,
        shader: &shaders::Shader,
        columns: usize,
        tensor: &Tensor,
        gradient: Option<&wgpu::Buffer>,
    ) -> Result<(), ModelError> {
        let [values, first, second] = self.updated(tensor, gradient);
        let buffers = [&self.scratch.column_partials, self.poison, values, first, second];
        to.run(shader, [columns.div_ceil(64), 1, 1], &buffers)
    }

    /// What Adam changes; or where a gradient goes instead.
    fn updated<'b>(
        &'b self,
        tensor: &'b Tensor,
        gradient: Option<&'b wgpu::Buffer>,
    ) -> [&'b wgpu::Buffer; 3] {
        let [_, one, two] = &self.scratch.nothing;
        match (gradient, &tensor.moments) {
            (Some(gradient), _) => [gradient, one, two],
            (None, Some([first, second])) => [&tensor.values, first, second],
            (None, None) => unreachable!("moments are made before a step"),
        }
    }
}

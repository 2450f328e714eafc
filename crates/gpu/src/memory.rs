//! What lives on the device: parameters with their moments, in blocks of features that a shader can see, and what a step
//! needs besides.

use crate::device::Device;
use crate::shaders::{DEPTH, NONE, PARTIALS, Params, results};
use bae_codes::entropy;
use bae_model::{ModelError, Moments, Parameters, TrainingState};
use ndarray::{Array1, Array2, s};

/// Values with their moments, which are made by the first step.
pub struct Tensor {
    pub values: wgpu::Buffer,
    pub moments: Option<[wgpu::Buffer; 2]>,
    pub length: usize,
}

impl Tensor {
    fn new(device: &Device, name: &str, values: &[f32]) -> Result<Self, ModelError> {
        let tensor =
            Self { values: floats(device, name, values.len())?, moments: None, length: values.len() };
        device.watched(|| device.queue.write_buffer(&tensor.values, 0, bytemuck::cast_slice(values)))?;
        Ok(tensor)
    }

    fn make_moments(&mut self, device: &Device) -> Result<(), ModelError> {
        if self.moments.is_none() {
            let make = |name| floats(device, name, self.length);
            self.moments = Some([make("first moments")?, make("second moments")?]);
        }
        Ok(())
    }

    /// Writes the values, or the first or second moments.
    fn write(&mut self, device: &Device, which: Which, values: &[f32]) -> Result<(), ModelError> {
        if !matches!(which, Which::Values) {
            self.make_moments(device)?;
        }
        let buffer = self.of(which).expect("just made");
        device.watched(|| device.queue.write_buffer(buffer, 0, bytemuck::cast_slice(values)))
    }

    /// The values, or the first or second moments.
    fn read(&self, device: &Device, which: Which) -> Result<Vec<f32>, ModelError> {
        match self.of(which) {
            Some(buffer) => read_floats(device, buffer, self.length),
            None => Ok(vec![0.0; self.length]),
        }
    }

    /// Where they are; moments may not be made yet.
    fn of(&self, which: Which) -> Option<&wgpu::Buffer> {
        match which {
            Which::Values => Some(&self.values),
            Which::First => self.moments.as_ref().map(|[first, _]| first),
            Which::Second => self.moments.as_ref().map(|[_, second]| second),
        }
    }
}

#[derive(Clone, Copy)]
enum Which {
    Values,
    First,
    Second,
}

/// Some of a model's features: encoder columns `[d_in, features]`, their biases, decoder rows `[features, d_out]`.
pub struct Block {
    pub first: usize,
    pub features: usize,
    pub w_enc: Tensor,
    pub b_enc: Tensor,
    pub w_dec: Tensor,
}

/// Widths of a model.
#[derive(Clone, Copy, Debug)]
pub struct Widths {
    /// Of a hidden state.
    pub d_in: usize,
    /// Of a code: features.
    pub d_sae: usize,
    /// Of an output.
    pub d_out: usize,
}

/// A model on a device.
pub struct Weights {
    pub widths: Widths,
    pub blocks: Vec<Block>,
    pub b_dec: Tensor,
    /// Steps since each feature was last on.
    pub idle: wgpu::Buffer,
}

/// Blocks begin at multiples of this many features: the largest tile.
const WHOLE: usize = 128;

impl Weights {
    /// Uploads parameters, split so that batches of `rows` fit the device's bindings.
    pub fn new(device: &Device, parameters: &Parameters, rows: usize) -> Result<Self, ModelError> {
        let d_sae = parameters.d_sae();
        let widths = Widths { d_in: parameters.d_in(), d_sae, d_out: parameters.d_out() };
        let size = widths.block_features(device, rows)?;
        let mut blocks = vec![];
        for first in (0..d_sae).step_by(size) {
            let end = d_sae.min(first + size);
            let w_enc = parameters.w_enc.slice(s![.., first..end]);
            let w_enc = w_enc.as_standard_layout();
            let w_dec = parameters.w_dec.slice(s![first..end, ..]);
            let b_enc = parameters.b_enc.slice(s![first..end]);
            blocks.push(Block {
                first,
                features: end - first,
                w_enc: Tensor::new(device, "W_enc", w_enc.as_slice().expect("row-major"))?,
                b_enc: Tensor::new(device, "b_enc", b_enc.as_slice().expect("row-major"))?,
                w_dec: Tensor::new(device, "W_dec", w_dec.as_slice().expect("row-major"))?,
            });
        }
        let b_dec = Tensor::new(device, "b_dec", parameters.b_dec.as_slice().expect("row-major"))?;
        Ok(Self { widths, blocks, b_dec, idle: floats(device, "idle features", d_sae)? })
    }

    /// Memory for the moments, before the first step.
    pub fn make_moments(&mut self, device: &Device) -> Result<(), ModelError> {
        for block in &mut self.blocks {
            for tensor in [&mut block.w_enc, &mut block.b_enc, &mut block.w_dec] {
                tensor.make_moments(device)?;
            }
        }
        self.b_dec.make_moments(device)
    }

    /// Features of the largest block.
    pub fn block_features(&self) -> usize {
        self.blocks.iter().map(|block| block.features).max().unwrap_or(0)
    }

    /// The parameters, copied from the device.
    pub fn parameters(&self, device: &Device) -> Result<Parameters, ModelError> {
        self.read(device, Which::Values)
    }

    /// The moments after so many steps, copied from the device.
    pub fn moments(&self, device: &Device, steps: u64) -> Result<Moments, ModelError> {
        Ok(Moments {
            first: self.read(device, Which::First)?,
            second: self.read(device, Which::Second)?,
            steps,
        })
    }

    /// Steps since each feature was last on, copied from the device.
    pub fn idle(&self, device: &Device) -> Result<Vec<u32>, ModelError> {
        read_words(device, &self.idle, self.widths.d_sae)
    }

    /// Copies a state of these widths to the device.
    pub fn restore(&mut self, device: &Device, state: &TrainingState) -> Result<(), ModelError> {
        self.write(device, Which::Values, &state.parameters)?;
        self.write(device, Which::First, &state.moments.first)?;
        self.write(device, Which::Second, &state.moments.second)?;
        device.watched(|| device.queue.write_buffer(&self.idle, 0, bytemuck::cast_slice(&state.idle)))
    }

    fn write(&mut self, device: &Device, which: Which, from: &Parameters) -> Result<(), ModelError> {
        for block in &mut self.blocks {
            let range = block.first..block.first + block.features;
            let w_enc = from.w_enc.slice(s![.., range.clone()]);
            let flat = from.flat();
            let (b_enc, w_dec) = (flat[1], flat[2]);
            let d_out = self.widths.d_out;
            block.w_enc.write(device, which, w_enc.as_standard_layout().as_slice().expect("row-major"))?;
            block.b_enc.write(device, which, &b_enc[range.clone()])?;
            block.w_dec.write(device, which, &w_dec[range.start * d_out..range.end * d_out])?;
        }
        self.b_dec.write(device, which, from.flat()[3])
    }

    fn read(&self, device: &Device, which: Which) -> Result<Parameters, ModelError> {
        let Widths { d_in, d_sae, d_out } = self.widths;
        let mut all = Parameters::zeros(d_in, d_sae, d_out);
        for block in &self.blocks {
            let range = block.first..block.first + block.features;
            let matrix = |tensor: &Tensor, shape| {
                Ok(Array2::from_shape_vec(shape, tensor.read(device, which)?).expect("as many as stored"))
            };
            all.w_enc.slice_mut(s![.., range.clone()]).assign(&matrix(&block.w_enc, (d_in, block.features))?);
            all.w_dec
                .slice_mut(s![range.clone(), ..])
                .assign(&matrix(&block.w_dec, (block.features, d_out))?);
            all.b_enc.slice_mut(s![range]).assign(&Array1::from(block.b_enc.read(device, which)?));
        }
        all.b_dec = Array1::from(self.b_dec.read(device, which)?);
        Ok(all)
    }
}

/// Gradients of all parameters, where they are not used up as they are made.
pub struct Gradients {
    pub blocks: Vec<BlockGradients>,
    pub b_dec: wgpu::Buffer,
}

/// As [`Block`].
pub struct BlockGradients {
    pub w_enc: wgpu::Buffer,
    pub b_enc: wgpu::Buffer,
    pub w_dec: wgpu::Buffer,
}

impl Gradients {
    pub fn new(device: &Device, weights: &Weights) -> Result<Self, ModelError> {
        let like = |tensor: &Tensor| floats(device, "gradients", tensor.length);
        let of_block = |block: &Block| {
            Ok(BlockGradients {
                w_enc: like(&block.w_enc)?,
                b_enc: like(&block.b_enc)?,
                w_dec: like(&block.w_dec)?,
            })
        };
        Ok(Self {
            blocks: weights.blocks.iter().map(of_block).collect::<Result<_, ModelError>>()?,
            b_dec: like(&weights.b_dec)?,
        })
    }
}

impl Widths {
    /// Features of a block, so that none of its buffers is larger than a shader can see.
    pub fn block_features(self, device: &Device, rows: usize) -> Result<usize, ModelError> {
        let Widths { d_in, d_sae, d_out } = self;
        let limit = device.report().max_binding_bytes as usize;
        let planes = 2 * d_sae.div_ceil(32).next_multiple_of(DEPTH as usize);
        let widest = d_in.max(d_out).max(rows).max(planes).max(1);
        let fits = limit / 4 / widest;
        if d_sae <= fits {
            return Ok(d_sae.max(1));
        }
        let whole = fits / WHOLE * WHOLE;
        if whole == 0 {
            return Err(ModelError::Unavailable(format!(
                "{WHOLE} features with {widest} values each take {} bytes, and shaders of {} see at most {limit} bytes of a buffer; choose a smaller batch or model, or the CPU",
                WHOLE * widest * 4,
                device.report().name
            )));
        }
        Ok(whole)
    }
}

/// Memory that every step uses again, for batches of up to `rows` rows.
pub struct Scratch {
    pub rows: usize,
    pub x: wgpu::Buffer,
    pub target: wgpu::Buffer,
    /// Pre-activations of each block, and in the backward pass their gradients.
    pub z: Vec<wgpu::Buffer>,
    pub codes: wgpu::Buffer,
    pub turned: wgpu::Buffer,
    pub ones: wgpu::Buffer,
    pub pull: wgpu::Buffer,
    pub live: wgpu::Buffer,
    pub live_codes: wgpu::Buffer,
    pub live_ones: wgpu::Buffer,
    pub planes: wgpu::Buffer,
    pub zeros: wgpu::Buffer,
    pub sums: wgpu::Buffer,
    pub partial: wgpu::Buffer,
    pub signed_counts: wgpu::Buffer,
    pub y: wgpu::Buffer,
    pub errors: wgpu::Buffer,
    pub column_partials: wgpu::Buffer,
    pub partials: wgpu::Buffer,
    pub results: wgpu::Buffer,
    pub tables: wgpu::Buffer,
    /// Rows that `tables` are for.
    tables_rows: usize,
    /// Bound where nothing is read or written.
    pub nothing: [wgpu::Buffer; 3],
    /// Codes that are real values and the k-th largest of each row, if the model has such codes.
    pub values: Option<[wgpu::Buffer; 2]>,
}

impl Scratch {
    pub fn new(
        device: &Device,
        weights: &Weights,
        rows: usize,
        real_valued: bool,
    ) -> Result<Self, ModelError> {
        Self::sized(device, weights, rows, rows, real_valued)
    }

    /// For work on the codes of many rows, without hidden states, pre-activations or outputs.
    pub fn for_codes(device: &Device, weights: &Weights, rows: usize) -> Result<Self, ModelError> {
        Self::sized(device, weights, rows, 1, false)
    }

    fn sized(
        device: &Device,
        weights: &Weights,
        code_rows: usize,
        rows: usize,
        real_valued: bool,
    ) -> Result<Self, ModelError> {
        let Widths { d_in, d_sae, d_out } = weights.widths;
        let (panels, block) = (d_sae.div_ceil(32), weights.block_features());
        let words = |name: &str, count: usize| floats(device, name, count);
        let plane_words = panels.next_multiple_of(DEPTH as usize);
        let tiles = block.div_ceil(64) * d_sae.div_ceil(64);
        let chunks = rows.div_ceil(64);
        let sizes = if real_valued { block.div_ceil(64) * rows } else { 0 };
        let z: Result<_, _> =
            weights.blocks.iter().map(|block| words("pre-activations", rows * block.features)).collect();
        Ok(Self {
            rows,
            x: words("hidden states", rows * d_in)?,
            target: words("targets", rows * d_out)?,
            z: z?,
            codes: words("codes", panels * code_rows)?,
            turned: words("codes by feature", 32 * panels * code_rows.div_ceil(32))?,
            ones: words("ones", 32 * panels)?,
            pull: words("entropy gradients", 32 * panels)?,
            live: words("live features", panels)?,
            live_codes: words("live codes", panels * rows)?,
            live_ones: words("live ones", rows)?,
            planes: words("signs", 2 * block * plane_words)?,
            zeros: words("tiles with zeros", tiles)?,
            sums: words("sums of signs", 32 * panels)?,
            partial: words("partial covariances", 2 * tiles)?,
            signed_counts: words("signed counts", rows * block)?,
            y: words("outputs", rows * d_out)?,
            errors: words("errors", rows * d_out)?,
            column_partials: words("partial columns", chunks * block.max(d_out))?,
            partials: words(
                "partial sums",
                (d_out.div_ceil(32) * chunks).max(2 * rows).max(sizes).max(PARTIALS),
            )?,
            results: words("results", results::COUNT)?,
            tables: words("tables", 3 * (rows + 1))?,
            tables_rows: 0,
            nothing: [words("nothing", 1)?, words("nothing", 1)?, words("nothing", 1)?],
            values: if real_valued {
                Some([words("codes", rows * block)?, words("k-th largest", rows)?])
            } else {
                None
            },
        })
    }

    /// Makes `tables` those of batches of so many rows: of each count of ones the entropy, as whole units of 2^-40 bits, and
    /// its derivative.
    pub fn tables_for(&mut self, device: &Device, rows: usize) -> Result<(), ModelError> {
        if self.tables_rows != rows {
            let tables = tables(rows);
            device.watched(|| device.queue.write_buffer(&self.tables, 0, bytemuck::cast_slice(&tables)))?;
            self.tables_rows = rows;
        }
        Ok(())
    }
}

/// Low words, high words, and derivatives of the entropy of 0 to `rows` ones.
pub fn tables(rows: usize) -> Vec<u32> {
    let share = |ones: usize| ones as f64 / rows as f64;
    let fixed = |ones| (entropy::smoothed(share(ones)) * ENTROPY_UNIT).round() as i64 as u64;
    let all = || 0..=rows;
    let low = all().map(|ones| fixed(ones) as u32);
    let high = all().map(|ones| (fixed(ones) >> 32) as u32);
    let slope = all().map(|ones| (entropy::smoothed_derivative(share(ones)) as f32).to_bits());
    low.chain(high).chain(slope).collect()
}

/// Units of the entropies on the device in a bit. What the loss takes for the entropy of a feature has 24 bits, and none
/// below this unit for up to 2^16 rows: its sum is exact.
pub const ENTROPY_UNIT: f64 = (1u64 << 40) as f64;

/// The place where shaders note an entry that is not a number.
pub fn poison(device: &Device) -> Result<wgpu::Buffer, ModelError> {
    let buffer = floats(device, "poison", 1)?;
    clear_poison(device, &buffer)?;
    Ok(buffer)
}

/// Forgets what was noted.
pub fn clear_poison(device: &Device, buffer: &wgpu::Buffer) -> Result<(), ModelError> {
    device.watched(|| device.queue.write_buffer(buffer, 0, bytemuck::bytes_of(&NONE)))
}

/// A buffer for so many words of 32 bits that shaders see as one.
pub fn floats(device: &Device, name: &str, count: usize) -> Result<wgpu::Buffer, ModelError> {
    let (bytes, limit) = (4 * count as u64, device.report().max_binding_bytes);
    if bytes > limit {
        return Err(ModelError::Unavailable(format!(
            "{name}: {bytes} bytes, and shaders of {} see at most {limit} bytes of a buffer; choose a smaller batch or model, or the CPU",
            device.report().name
        )));
    }
    device.buffer(name, bytes)
}

pub fn read_floats(device: &Device, buffer: &wgpu::Buffer, count: usize) -> Result<Vec<f32>, ModelError> {
    let mut values = vec![0f32; count];
    device.download(buffer, 4 * count as u64, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

pub fn read_words(device: &Device, buffer: &wgpu::Buffer, count: usize) -> Result<Vec<u32>, ModelError> {
    let mut values = vec![0u32; count];
    device.download(buffer, 4 * count as u64, bytemuck::cast_slice_mut(&mut values))?;
    Ok(values)
}

impl Params {
    /// For a block of a model.
    pub fn block(self, weights: &Weights, block: &Block) -> Self {
        Self {
            first: block.first as u32,
            features: block.features as u32,
            last_block: u32::from(block.first + block.features == weights.widths.d_sae),
            ..self
        }
    }
}

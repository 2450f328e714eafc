//! What the tests of shaders share: one shader run alone on the best device there is, odd shapes, random numbers, and the bound.

#[path = "../../tests/device/mod.rs"]
mod device;

use super::{Access, Params, Shader, Tile};
use crate::device::Device;
use crate::memory::floats;
use crate::recording::Recording;
use bae_model::OutputActivation;
use bytemuck::Pod;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use device::device;

/// Tiles that the device has workgroup memory for.
pub fn tiles(device: &Device) -> impl Iterator<Item = Tile> {
    let bytes = device.report().workgroup_bytes;
    [Tile::Small, Tile::Large].into_iter().filter(move |tile| tile.fits(bytes))
}

/// What a shader's binding holds before and, if it is written, after.
pub enum Values<'a> {
    Read(&'a [u8]),
    Write(&'a mut [u8]),
}

/// Values that a shader reads.
pub fn read<T: Pod>(values: &[T]) -> Values<'_> {
    Values::Read(bytemuck::cast_slice(values))
}

/// Values that a shader writes.
pub fn write<T: Pod>(values: &mut [T]) -> Values<'_> {
    Values::Write(bytemuck::cast_slice_mut(values))
}

/// Runs a shader that is no product.
pub fn run<const N: usize>(
    device: &Device,
    shader: &Shader,
    groups: [usize; 3],
    params: Params,
    values: [Values; N],
) {
    alone(device, shader, params, values, |recording, buffers| {
        recording.run(shader, groups, buffers).expect("a shader that is valid");
    });
}

/// Runs a product that makes `rows` × `columns`.
pub fn product<const N: usize>(
    device: &Device,
    shader: &Shader,
    tile: Tile,
    shape: [usize; 2],
    params: Params,
    values: [Values; N],
) {
    alone(device, shader, params, values, |recording, buffers| {
        recording.product(shader, tile, shape, buffers).expect("a shader that is valid");
    });
}

/// What lies behind the values in each buffer, as an earlier and larger batch leaves it: not to be used, nor written.
const BEHIND: [u32; 4096] = [1e30f32.to_bits(); 4096];

fn alone<const N: usize>(
    device: &Device,
    shader: &Shader,
    params: Params,
    values: [Values; N],
    record: impl FnOnce(&mut Recording, &[&wgpu::Buffer]),
) {
    let upload = |values: &Values| {
        let (bytes, access): (&[u8], _) = match values {
            Values::Read(bytes) => (bytes, Access::Read),
            Values::Write(bytes) => (bytes, Access::Write),
        };
        let all = [bytes, bytemuck::cast_slice(&BEHIND)].concat();
        let buffer = floats(device, shader.name, all.len() / 4).expect("memory");
        device.watched(|| device.queue.write_buffer(&buffer, 0, &all)).expect("a copy");
        (buffer, access)
    };
    let (buffers, access): (Vec<_>, Vec<_>) = values.iter().map(upload).unzip();
    assert_eq!(access, shader.access, "{}", shader.name);
    let mut recording = Recording::new(device);
    recording.params(&params);
    record(&mut recording, &buffers.iter().collect::<Vec<_>>());
    recording.submit(&mut None, None).expect("a device that works");
    for (values, buffer) in values.into_iter().zip(&buffers) {
        if let Values::Write(bytes) = values {
            let mut all = vec![0u32; bytes.len() / 4 + BEHIND.len()];
            let length = size_of_val(all.as_slice()) as u64;
            device.download(buffer, length, bytemuck::cast_slice_mut(&mut all)).expect("a device that works");
            let (values, behind) = all.split_at(bytes.len() / 4);
            bytes.copy_from_slice(bytemuck::cast_slice(values));
            assert!(behind == BEHIND, "{} writes behind its values", shader.name);
        }
    }
}

/// A batch and a model's widths, and the block of features that a shader is to work on.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub d_in: usize,
    pub d_sae: usize,
    pub d_out: usize,
    pub first: usize,
    pub features: usize,
}

impl Shape {
    /// As shaders know it.
    pub fn params(self) -> Params {
        let Shape { rows, d_in, d_sae, d_out, first, features } = self;
        Params {
            first: first as u32,
            features: features as u32,
            last_block: u32::from(first + features == d_sae),
            ..Params::new(rows, d_in, d_sae, d_out)
        }
    }

    /// Words of 32 features.
    pub fn panels(self) -> usize {
        self.d_sae.div_ceil(32)
    }

    /// Words of 32 rows.
    pub fn row_words(self) -> usize {
        self.rows.div_ceil(32)
    }

    /// Its blocks of so many features.
    pub fn blocks(self, size: usize) -> Vec<Shape> {
        let block = |first| Shape { first, features: size.min(self.d_sae - first), ..self };
        (0..self.d_sae).step_by(size).map(block).collect()
    }

    /// All ways of splitting it that are tested: not, and into blocks of the largest tile.
    pub fn splits(self) -> Vec<Vec<Shape>> {
        let whole = vec![self];
        if self.d_sae > 128 { vec![whole, self.blocks(128)] } else { vec![whole] }
    }
}

/// Each of 1, 31, 32, 33 and 1000 rows; the same widths for each side of a model, one of them long at a time; and one where
/// workgroups and tiles are full.
pub fn shapes() -> Vec<Shape> {
    [
        [1, 1000, 33, 32],
        [31, 33, 1000, 7],
        [32, 1, 129, 1000],
        [33, 31, 1, 65],
        [65, 32, 31, 1],
        [1000, 7, 161, 31],
        [64, 64, 128, 64],
    ]
    .map(|[rows, d_in, d_sae, d_out]| Shape { rows, d_in, d_sae, d_out, first: 0, features: d_sae })
    .to_vec()
}

/// Whole shapes and their blocks.
pub fn blocks() -> Vec<Shape> {
    shapes().into_iter().flat_map(Shape::splits).flatten().collect()
}

/// All activations of the output.
pub const OUTPUTS: [OutputActivation; 4] =
    [OutputActivation::None, OutputActivation::Relu, OutputActivation::Sigmoid, OutputActivation::Tanh];

/// Random numbers, the same each time.
pub fn random() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(7)
}

/// Numbers between -1 and 1.
pub fn uniform(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
}

/// Numbers between -`size` and `size`.
pub fn scaled(rng: &mut ChaCha8Rng, count: usize, size: f32) -> Vec<f32> {
    uniform(rng, count).into_iter().map(|value| value * size).collect()
}

/// Codes as [panel][row]. Of seven features one is never on and one always. In some tiles, two are independent of each other
/// where the rows are a multiple of four: their covariance is exactly 0, as it is in the other tiles by chance alone.
pub fn random_codes(rng: &mut ChaCha8Rng, shape: Shape) -> Vec<u32> {
    let mut codes = vec![0; shape.panels() * shape.rows];
    for feature in 0..shape.d_sae {
        let share: f32 = rng.random();
        for row in 0..shape.rows {
            let on = match feature % 7 {
                0 => false,
                1 => true,
                2 if feature / 64 % 3 == 1 => row % 2 == 0,
                3 if feature / 64 % 3 == 1 => row / 2 % 2 == 0,
                _ => rng.random::<f32>() < share,
            };
            codes[feature / 32 * shape.rows + row] |= u32::from(on) << (feature % 32);
        }
    }
    codes
}

/// A bit of codes as [panel][row].
pub fn code(codes: &[u32], rows: usize, row: usize, feature: usize) -> bool {
    bit(codes, feature / 32 * rows + row, feature)
}

/// Bit `at` mod 32 of a word.
pub fn bit(words: &[u32], word: usize, at: usize) -> bool {
    words[word] >> (at % 32) & 1 == 1
}

/// Within the bound of f32 sums of so many terms, each about as large as `term` at most.
pub fn near(what: &str, got: &[f32], want: &[f64], length: usize, term: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (at, (&got, &want)) in got.iter().zip(want).enumerate() {
        let bound = 4.0 * f64::from(f32::EPSILON) * (length as f64 + 8.0) * want.abs().max(term);
        let got = f64::from(got);
        assert!((got - want).abs() <= bound, "{what} [{at}]: {got}, expected {want} within {bound}");
    }
}

/// The twin of adam.wgsl: what becomes of parameters and their moments, in that order.
pub fn adam(params: &Params, poison: u32, gradient: &[f64], tensors: &[Vec<f32>; 3]) -> [Vec<f64>; 3] {
    let mut changed =
        tensors.each_ref().map(|tensor| tensor.iter().map(|&v| f64::from(v)).collect::<Vec<_>>());
    if params.update == 0 {
        changed[0] = gradient.to_vec();
        return changed;
    }
    if poison != super::NONE {
        return changed;
    }
    let number = f64::from;
    let [parameters, first, second] = &mut changed;
    for at in 0..gradient.len() {
        let g = gradient[at] + number(params.weight_decay) * parameters[at];
        first[at] = number(params.beta1) * first[at] + number(params.one_minus_beta1) * g;
        second[at] = number(params.beta2) * second[at] + number(params.one_minus_beta2) * g * g;
        let root = second[at].sqrt() + number(params.epsilon);
        parameters[at] -= number(params.step_size) * first[at] / root;
    }
    changed
}

/// Runs what ends in adam.wgsl in its three modes, and compares with [`adam`] of the gradient, a sum of so many terms: an
/// update, a gradient that is kept, and a batch that is not to change anything.
pub fn updates(
    rng: &mut ChaCha8Rng,
    params: Params,
    what: &str,
    gradient: &[f64],
    length: usize,
    run: impl Fn(Params, &[u32], &mut [Vec<f32>; 3]),
) {
    let rule = bae_model::Adam { weight_decay: 0.1, ..bae_model::Adam::new(0.1) };
    let updating = params.adam(&rule, 3);
    for (params, poison) in [(updating, super::NONE), (updating, 5), (params, super::NONE)] {
        let count = gradient.len();
        let second = uniform(rng, count).iter().map(|value| value.abs() + 0.01).collect();
        let before = [uniform(rng, count), uniform(rng, count), second];
        let mut after = before.clone();
        run(params, &[poison], &mut after);
        let want = adam(&params, poison, gradient, &before);
        let what = format!("{what}, update {}, poison {poison}", params.update);
        for (after, want) in after.iter().zip(&want) {
            near(&what, after, want, length, 1.0);
        }
        if poison != super::NONE {
            assert_eq!(after, before, "{what}");
        }
    }
}

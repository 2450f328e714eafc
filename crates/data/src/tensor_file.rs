use std::path::{Path, PathBuf};

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use ndarray::{Array2, ArrayViewMut2};
use safetensors::Dtype;

use crate::dataset::Source;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::{npy, safetensors_file};

/// How a number is stored; always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F16,
    BF16,
    F32,
    F64,
}

impl Element {
    pub(crate) fn of_safetensors(dtype: Dtype) -> Option<Self> {
        match dtype {
            Dtype::F16 => Some(Self::F16),
            Dtype::BF16 => Some(Self::BF16),
            Dtype::F32 => Some(Self::F32),
            Dtype::F64 => Some(Self::F64),
            _ => None,
        }
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::BF16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }

    /// Numbers of little-endian bytes.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F16 => {
                let bits: Vec<u16> = words(bytes).map(u16::from_le_bytes).collect();
                bits.reinterpret_cast::<f16>().convert_to_f32_slice(out);
            }
            Self::BF16 => {
                fill(out, words(bytes).map(|word| f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)))
            }
            Self::F32 => fill(out, words(bytes).map(f32::from_le_bytes)),
            Self::F64 => fill(out, words(bytes).map(|word| f64::from_le_bytes(word) as f32)),
        }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|word| word.try_into().expect("chunks of N bytes"))
}

fn fill(out: &mut [f32], values: impl Iterator<Item = f32>) {
    for (target, value) in out.iter_mut().zip(values) {
        *target = value;
    }
}

/// Reads `out.len()` numbers from byte `offset` on.
pub(crate) fn read_values(
    file: &InputFile,
    element: Element,
    offset: u64,
    out: &mut [f32],
) -> Result<(), DataError> {
    // small enough to stay in the cache between reading and decoding
    const CHUNK: usize = 64 * 1024;
    let mut bytes = vec![0; out.len().min(CHUNK) * element.bytes()];
    let mut at = offset;
    for part in out.chunks_mut(CHUNK) {
        let bytes = &mut bytes[..part.len() * element.bytes()];
        file.read_at(bytes, at)?;
        element.decode(bytes, part);
        at += bytes.len() as u64;
    }
    Ok(())
}

/// Where the hidden states lie in a file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Name of the tensor, in formats that name them.
    pub(crate) tensor: Option<String>,
    pub(crate) element: Element,
    pub(crate) rows: usize,
    pub(crate) d_in: usize,
    /// Byte of the first number.
    pub(crate) offset: u64,
}

impl Layout {
    /// Takes a tensor of shape `[rows, d_in]`; `name` is what messages call it.
    pub(crate) fn new(
        name: &str,
        tensor: Option<String>,
        element: Element,
        shape: &[usize],
        offset: u64,
    ) -> Result<Self, DataError> {
        let &[rows, d_in] = shape else {
            return Err(DataError::shape(format!(
                "{name} has shape {shape:?}; hidden states are [rows, d_in]: save one layer as a tensor of rank 2"
            )));
        };
        if d_in == 0 {
            return Err(DataError::shape(format!(
                "{name} has shape {shape:?}; hidden states need a width of at least 1"
            )));
        }
        Ok(Self { tensor, element, rows, d_in, offset })
    }
}

/// The hidden states in one file.
#[derive(Debug)]
pub(crate) struct FileSource {
    path: PathBuf,
    layout: Layout,
    size: u64,
    /// Absent where there are too many files to hold all open: such a file is opened for each read.
    file: Option<InputFile>,
}

impl FileSource {
    /// Reads the header of a .safetensors or .npy file and finds `tensor` in it.
    pub(crate) fn open(path: &Path, tensor: Option<&str>, hold_open: bool) -> Result<Self, DataError> {
        let extension = path.extension().map(|extension| extension.to_ascii_lowercase());
        let read_layout = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("safetensors") => safetensors_file::hidden_states,
            Some("npy") => npy::hidden_states,
            _ => {
                return Err(DataError::format(format!(
                    "{} is neither .safetensors nor .npy; convert it to one of them, [rows, d_in]",
                    path.display()
                )));
            }
        };
        let file = InputFile::open(path)?;
        let layout = read_layout(&file, tensor)?;
        Ok(Self { path: path.to_owned(), layout, size: file.size(), file: hold_open.then_some(file) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    fn reopened(&self) -> Result<InputFile, DataError> {
        let file = InputFile::open(&self.path)?;
        if file.size() != self.size {
            return Err(DataError::corrupt(format!(
                "{} changed from {} to {} bytes while it was in use; start again with files that stay as they are",
                self.path.display(),
                self.size,
                file.size()
            )));
        }
        Ok(file)
    }
}

impl Source for FileSource {
    fn name(&self) -> String {
        match &self.layout.tensor {
            Some(tensor) => format!("{}#{tensor}", self.path.display()),
            None => self.path.display().to_string(),
        }
    }

    fn rows(&self) -> usize {
        self.layout.rows
    }

    fn d_in(&self) -> usize {
        self.layout.d_in
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        let Layout { element, rows, d_in, offset, .. } = self.layout;
        assert!(out.ncols() == d_in && start + out.nrows() <= rows, "rows {start}.. of {rows}");
        let reopened;
        let file = match &self.file {
            Some(file) => file,
            None => {
                reopened = self.reopened()?;
                &reopened
            }
        };
        let offset = offset + (start * d_in * element.bytes()) as u64;
        if let Some(values) = out.as_slice_mut() {
            return read_values(file, element, offset, values);
        }
        let mut values = Array2::zeros(out.raw_dim());
        read_values(file, element, offset, values.as_slice_mut().expect("new arrays are contiguous"))?;
        out.assign(&values);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_pattern_decodes_as_half_does() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        Element::F16.decode(&bytes, &mut out);
        for (bits, value) in (0..=u16::MAX).zip(&out) {
            let expected = half::f16::from_bits(bits).to_f32();
            assert!(
                value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(),
                "f16 {bits:#x}"
            );
        }
        Element::BF16.decode(&bytes, &mut out);
        for (bits, value) in (0..=u16::MAX).zip(&out) {
            let expected = half::bf16::from_bits(bits).to_f32();
            assert!(
                value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan(),
                "bf16 {bits:#x}"
            );
        }
    }
}

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use safetensors::Dtype;

use crate::error::DataError;
use crate::input_file::InputFile;

/// How a number is stored; always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Float(Element),
    Integer(Integer),
}

impl Number {
    pub(crate) fn of_safetensors(dtype: Dtype) -> Option<Self> {
        let integer = match dtype {
            Dtype::I8 => Integer::I8,
            Dtype::I16 => Integer::I16,
            Dtype::I32 => Integer::I32,
            Dtype::I64 => Integer::I64,
            Dtype::U8 => Integer::U8,
            Dtype::U16 => Integer::U16,
            Dtype::U32 => Integer::U32,
            Dtype::U64 => Integer::U64,
            _ => return Element::of_safetensors(dtype).map(Self::Float),
        };
        Some(Self::Integer(integer))
    }

    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Float(element) => element.bytes(),
            Self::Integer(integer) => integer.bytes(),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Float(element) => element.name(),
            Self::Integer(integer) => integer.name(),
        }
    }
}

/// A number of a hidden state.
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

    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F16 => {
                const TOGETHER: usize = 1024;
                for (bytes, out) in bytes.chunks(2 * TOGETHER).zip(out.chunks_mut(TOGETHER)) {
                    let mut bits = [0; TOGETHER];
                    bits.iter_mut()
                        .zip(words(bytes))
                        .for_each(|(bits, word)| *bits = u16::from_le_bytes(word));
                    bits[..out.len()].reinterpret_cast::<f16>().convert_to_f32_slice(out);
                }
            }
            Self::BF16 => {
                fill(out, words(bytes).map(|word| f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)))
            }
            Self::F32 => fill(out, words(bytes).map(f32::from_le_bytes)),
            Self::F64 => fill(out, words(bytes).map(|word| f64::from_le_bytes(word) as f32)),
        }
    }
}

/// A number of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integer {
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
}

impl Integer {
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::I32 | Self::U32 => 4,
            Self::I64 | Self::U64 => 8,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::I8 => "int8",
            Self::I16 => "int16",
            Self::I32 => "int32",
            Self::I64 => "int64",
            Self::U8 => "uint8",
            Self::U16 => "uint16",
            Self::U32 => "uint32",
            Self::U64 => "uint64",
        }
    }

    /// A U64 beyond 63 bits comes out negative: the caller looks for it.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [i64]) {
        match self {
            Self::I8 => fill(out, words(bytes).map(|word| i8::from_le_bytes(word).into())),
            Self::I16 => fill(out, words(bytes).map(|word| i16::from_le_bytes(word).into())),
            Self::I32 => fill(out, words(bytes).map(|word| i32::from_le_bytes(word).into())),
            Self::U8 => fill(out, words(bytes).map(|word| u8::from_le_bytes(word).into())),
            Self::U16 => fill(out, words(bytes).map(|word| u16::from_le_bytes(word).into())),
            Self::U32 => fill(out, words(bytes).map(|word| u32::from_le_bytes(word).into())),
            Self::I64 | Self::U64 => fill(out, words(bytes).map(i64::from_le_bytes)),
        }
    }

    /// Checks that what [`Integer::decode`] made of the rows from `first_row` on fits; `name` is the column's.
    pub(crate) fn check(self, values: &[i64], name: &str, first_row: usize) -> Result<(), DataError> {
        if self != Self::U64 {
            return Ok(());
        }
        match values.iter().position(|&value| value < 0) {
            Some(at) => Err(DataError::format(format!(
                "{name}: row {} is {}, more than 63 bits hold; number it anew",
                first_row + at,
                values[at] as u64
            ))),
            None => Ok(()),
        }
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.chunks_exact(N).map(|word| word.try_into().expect("chunks of N bytes"))
}

fn fill<T>(out: &mut [T], values: impl Iterator<Item = T>) {
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
    if element == Element::F32 && cfg!(target_endian = "little") {
        // as they are in memory: nothing to decode
        return file.read_at(bytemuck::cast_slice_mut(out), offset);
    }
    read_chunks(file, element.bytes(), offset, out, |bytes, part| element.decode(bytes, part))
}

/// Reads `out.len()` whole numbers from byte `offset` on, unchecked.
pub(crate) fn read_integers(
    file: &InputFile,
    integer: Integer,
    offset: u64,
    out: &mut [i64],
) -> Result<(), DataError> {
    read_chunks(file, integer.bytes(), offset, out, |bytes, part| integer.decode(bytes, part))
}

fn read_chunks<T>(
    file: &InputFile,
    number_bytes: usize,
    offset: u64,
    out: &mut [T],
    decode: impl Fn(&[u8], &mut [T]),
) -> Result<(), DataError> {
    // small enough to stay in the cache between reading and decoding, and for the allocator to keep at hand
    const CHUNK_BYTES: usize = 64 * 1024;
    let chunk = CHUNK_BYTES / number_bytes;
    let mut bytes = vec![0; out.len().min(chunk) * number_bytes];
    let mut at = offset;
    for part in out.chunks_mut(chunk) {
        let bytes = &mut bytes[..part.len() * number_bytes];
        file.read_at(bytes, at)?;
        decode(bytes, part);
        at += bytes.len() as u64;
    }
    Ok(())
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

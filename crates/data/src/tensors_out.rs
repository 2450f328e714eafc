use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;

use crate::error::DataError;
use crate::folder::{cannot_write, install_file, temporary_file};
use crate::safetensors_file::header_bytes;

/// A tensor by name, shape and values.
pub type Tensor<'a> = (&'a str, &'a [usize], Values<'a>);

/// Values of a tensor, row-major.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Counts.
    U32(&'a [u32]),
    /// Larger counts.
    U64(&'a [u64]),
}

/// Writes tensors into a safetensors file, all or nothing; one that is there already is an error unless `overwrite` is set.
///
/// # Errors
/// `IO`.
pub fn save_tensors(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[Tensor],
    overwrite: bool,
) -> Result<(), DataError> {
    let mut file = BufWriter::with_capacity(1 << 20, temporary_file(path, overwrite)?);
    write_tensors(&mut file, metadata, tensors).map_err(|error| cannot_write(path, error))?;
    install_file(file, path, overwrite)
}

/// Writes all of a safetensors file; the same bytes every time.
pub(crate) fn write_tensors(
    out: &mut impl Write,
    metadata: &[(&str, String)],
    tensors: &[Tensor],
) -> io::Result<()> {
    let dtype = |values: &Values| match values {
        Values::F32(_) => Dtype::F32,
        Values::U32(_) => Dtype::U32,
        Values::U64(_) => Dtype::U64,
    };
    let header: Vec<_> = tensors.iter().map(|(name, shape, values)| (*name, dtype(values), *shape)).collect();
    out.write_all(&header_bytes(metadata, &header))?;
    for (_, _, values) in tensors {
        match values {
            Values::F32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
            Values::U32(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
            Values::U64(values) => values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))?,
        }
    }
    Ok(())
}

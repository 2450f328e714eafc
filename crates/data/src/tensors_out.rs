use std::io::{BufWriter, Write};
use std::path::Path;

use safetensors::Dtype;

use crate::error::DataError;
use crate::folder::{cannot_write, install_file, temporary_file};
use crate::safetensors_file::header_bytes;

/// A tensor by name, shape and values, row-major.
pub type Tensor<'a> = (&'a str, &'a [usize], &'a [f32]);

/// Writes tensors into a safetensors file, all or nothing; one that is there already is an error.
///
/// # Errors
/// `IO`.
pub fn save_tensors(path: &Path, metadata: &[(&str, String)], tensors: &[Tensor]) -> Result<(), DataError> {
    let mut file = BufWriter::with_capacity(1 << 20, temporary_file(path, false)?);
    let header: Vec<_> = tensors.iter().map(|(name, shape, _)| (*name, Dtype::F32, *shape)).collect();
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| cannot_write(path, error));
    write(&header_bytes(metadata, &header))?;
    for value in tensors.iter().flat_map(|(_, _, values)| *values) {
        write(&value.to_le_bytes())?;
    }
    install_file(file, path, false)
}

use std::sync::Arc;

use crate::archive::Archive;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::npy::Array;
use crate::open::Wanted;
use crate::scratch::Scratch;
use crate::tensor_file::{PREFERRED, Place, TensorSource};

/// Finds the hidden states and columns in an .npz file: a zip archive of .npy files.
pub(crate) fn open(
    file: Arc<InputFile>,
    wanted: &Wanted,
    scratch: &mut Scratch,
) -> Result<TensorSource, DataError> {
    let mut archive = Archive::open(file.clone())?;
    let (mut arrays, mut tensors) = (Vec::new(), Vec::new());
    let mut left_out = None;
    for index in 0..archive.members.len() {
        let member = &archive.members[index];
        let Some(name) = member.name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let (full, size) = (format!("{}#{name}", file.path().display()), member.size);
        match Array::read(&full, size, |offset, length| archive.bytes(index, offset, length)) {
            Ok(array) => {
                tensors.push(array.tensor(&name));
                arrays.push((index, array.offset));
            }
            // an array that nobody asks for may be of any kind
            Err(error @ DataError::UnsupportedFormat(_))
                if wanted.tensor.as_deref().unwrap_or(PREFERRED) != name =>
            {
                left_out = Some(error)
            }
            Err(error) => return Err(error),
        }
    }
    if tensors.is_empty()
        && let Some(error) = left_out
    {
        return Err(error);
    }
    TensorSource::find(&file, &tensors, wanted, |index| {
        let (member, offset) = arrays[index];
        let Place { file, offset: start } = archive.place(member, scratch)?;
        Ok(Place { file, offset: start + offset })
    })
}

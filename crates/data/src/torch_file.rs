use std::sync::Arc;

use crate::archive::Archive;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, Integer, Number};
use crate::open::Wanted;
use crate::pickle::{self, Stored};
use crate::scratch::Scratch;
use crate::tensor_file::{Place, Tensor, TensorSource};

/// The pickle of a file with tens of thousands of tensors is smaller.
const MAX_PICKLE: u64 = 4 << 20;

/// Finds the hidden states and columns in what torch.save wrote.
pub(crate) fn open(
    file: Arc<InputFile>,
    wanted: &Wanted,
    scratch: &mut Scratch,
) -> Result<TensorSource, DataError> {
    let mut torch = TorchFile::open(file.clone())?;
    let tensors = torch.described();
    TensorSource::find(&file, &tensors, wanted, |index| {
        let (name, stored) = &torch.tensors[index];
        if !is_contiguous(stored) {
            return Err(DataError::format(format!(
                "{}#{name} is a view whose rows do not follow each other; save it with \
                 torch.save(tensor.contiguous(), path)",
                file.path().display()
            )));
        }
        torch.place(index, scratch)
    })
}

/// What torch.save wrote of a tensor or a collection of tensors: a zip archive of one pickle, which is never executed, and one
/// member for each storage.
pub(crate) struct TorchFile {
    file: Arc<InputFile>,
    archive: Archive,
    /// Folder of the archive that all lies in, with a slash.
    folder: String,
    /// By name.
    pub(crate) tensors: Vec<(String, Stored)>,
}

impl TorchFile {
    pub(crate) fn open(file: Arc<InputFile>) -> Result<Self, DataError> {
        let path = file.path().display();
        if file.bytes(0, file.size().min(2))?.first() == Some(&0x80) {
            return Err(DataError::format(format!(
                "{path} is in the format of PyTorch before 1.6; convert it in Python with torch.save(torch.load(path), path)"
            )));
        }
        let mut archive = Archive::open(file.clone())?;
        let pickles: Vec<usize> = (0..archive.members.len())
            .filter(|&at| archive.members[at].name.ends_with("/data.pkl"))
            .collect();
        let &[pickle] = &pickles[..] else {
            return Err(DataError::format(format!(
                "{path} is a zip archive without a data.pkl, so nothing that torch.save writes; save the hidden states with it"
            )));
        };
        let folder = archive.members[pickle].name.trim_end_matches("data.pkl").to_owned();
        if let Some(order) = member(&archive, &format!("{folder}byteorder")) {
            let length = archive.members[order].size.min(8);
            if archive.bytes(order, 0, length)? != b"little" {
                return Err(DataError::format(format!(
                    "{path} was written in another byte order; save it on a little-endian machine"
                )));
            }
        }
        let size = archive.members[pickle].size;
        if size > MAX_PICKLE {
            return Err(DataError::format(format!(
                "{path} holds a pickle of {size} bytes, beyond {MAX_PICKLE}; save the hidden states alone"
            )));
        }
        let pickle = archive.bytes(pickle, 0, size)?;
        let tensors = pickle::tensors(&pickle).map_err(|error| match error {
            pickle::Error::Damaged(why) => damaged(&file, &why),
            pickle::Error::Unsupported(what) => DataError::format(format!(
                "{path} holds more than tensors: {what}; save a tensor, or a dict or list of tensors, with torch.save"
            )),
        })?;
        Ok(Self { file, archive, folder, tensors })
    }

    /// Names, types and shapes.
    pub(crate) fn described(&self) -> Vec<Tensor> {
        let described = |(name, stored): &(String, Stored)| Tensor {
            name: name.clone(),
            dtype: number(stored.storage).map_or("bool", Number::name).to_owned(),
            number: number(stored.storage),
            shape: stored.shape.clone(),
        };
        self.tensors.iter().map(described).collect()
    }

    /// Where the numbers of a tensor start, once all of them have been found to be there.
    pub(crate) fn place(&mut self, index: usize, scratch: &mut Scratch) -> Result<Place, DataError> {
        let (name, stored) = &self.tensors[index];
        let number = number(stored.storage).expect("only what is read has a place");
        let key = format!("{}data/{}", self.folder, stored.key);
        let storage = member(&self.archive, &key)
            .ok_or_else(|| damaged(&self.file, &format_args!("it lacks {key}")))?;
        let size = self.archive.members[storage].size;
        let bytes = |count: usize| count.checked_mul(number.bytes()).map(|bytes| bytes as u64);
        let end = reach(stored).and_then(|reach| bytes(reach.checked_add(stored.offset)?));
        if end.is_none_or(|end| end > size) {
            return Err(damaged(
                &self.file,
                &format_args!(
                    "{name} has shape {:?} from number {} on, in {size} bytes",
                    stored.shape, stored.offset
                ),
            ));
        }
        let offset = bytes(stored.offset).expect("checked above");
        let Place { file, offset: start } = self.archive.place(storage, scratch)?;
        Ok(Place { file, offset: start + offset })
    }
}

fn member(archive: &Archive, name: &str) -> Option<usize> {
    archive.members.iter().position(|member| member.name == name)
}

fn damaged(file: &InputFile, why: &dyn std::fmt::Display) -> DataError {
    DataError::corrupt(format!(
        "{} is no intact PyTorch file: {why}; make or copy it again",
        file.path().display()
    ))
}

/// Numbers from a tensor's first to its last in memory, both counted.
fn reach(stored: &Stored) -> Option<usize> {
    if stored.shape.contains(&0) {
        return Some(0);
    }
    let mut axes = stored.shape.iter().zip(&stored.strides);
    axes.try_fold(1, |reach: usize, (&size, &stride)| reach.checked_add((size - 1).checked_mul(stride)?))
}

fn number(storage: &str) -> Option<Number> {
    Some(match storage {
        "HalfStorage" => Number::Float(Element::F16),
        "BFloat16Storage" => Number::Float(Element::BF16),
        "FloatStorage" => Number::Float(Element::F32),
        "DoubleStorage" => Number::Float(Element::F64),
        "CharStorage" => Number::Integer(Integer::I8),
        "ShortStorage" => Number::Integer(Integer::I16),
        "IntStorage" => Number::Integer(Integer::I32),
        "LongStorage" => Number::Integer(Integer::I64),
        "ByteStorage" => Number::Integer(Integer::U8),
        _ => return None,
    })
}

fn is_contiguous(stored: &Stored) -> bool {
    let mut expected = 1;
    let sizes = stored.shape.iter().zip(&stored.strides).rev();
    let fits = sizes.fold(true, |fits, (&size, &stride)| {
        let fits = fits && (size == 1 || stride == expected);
        expected = expected.saturating_mul(size.max(1));
        fits
    });
    fits || stored.shape.contains(&0)
}

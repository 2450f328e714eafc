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

/// Finds the hidden states and columns in what torch.save wrote of a tensor or a collection of tensors: a zip archive of
/// one pickle, which is never executed, and one member for each storage.
pub(crate) fn open(
    file: Arc<InputFile>,
    wanted: &Wanted,
    scratch: &mut Scratch,
) -> Result<TensorSource, DataError> {
    let path = file.path().display();
    let damaged = |why: &dyn std::fmt::Display| {
        DataError::corrupt(format!("{path} is no intact PyTorch file: {why}; make or copy it again"))
    };
    if file.bytes(0, file.size().min(2))?.first() == Some(&0x80) {
        return Err(DataError::format(format!(
            "{path} is in the format of PyTorch before 1.6; convert it in Python with torch.save(torch.load(path), path)"
        )));
    }
    let mut archive = Archive::open(file.clone())?;
    let member =
        |archive: &Archive, name: &str| archive.members.iter().position(|member| member.name == name);
    let pickles: Vec<usize> =
        (0..archive.members.len()).filter(|&at| archive.members[at].name.ends_with("/data.pkl")).collect();
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
    let stored = pickle::tensors(&pickle).map_err(|error| match error {
        pickle::Error::Damaged(why) => damaged(&why),
        pickle::Error::Unsupported(what) => DataError::format(format!(
            "{path} holds more than tensors: {what}; save a tensor, or a dict or list of tensors, with torch.save"
        )),
    })?;
    let tensors: Vec<Tensor> = stored
        .iter()
        .map(|(name, stored)| Tensor {
            name: name.clone(),
            dtype: number(stored.storage).map_or("bool", Number::name).to_owned(),
            number: number(stored.storage),
            shape: stored.shape.clone(),
        })
        .collect();
    TensorSource::find(&file, &tensors, wanted, |index| {
        let (name, stored) = &stored[index];
        let number = tensors[index].number.expect("only what is read has a place");
        if !is_contiguous(stored) {
            return Err(DataError::format(format!(
                "{path}#{name} is a view whose rows do not follow each other; save it with \
                 torch.save(tensor.contiguous(), path)"
            )));
        }
        let key = format!("{folder}data/{}", stored.key);
        let storage = member(&archive, &key).ok_or_else(|| damaged(&format_args!("it lacks {key}")))?;
        let size = archive.members[storage].size;
        let count = stored.shape.iter().try_fold(1, |count: usize, &n| count.checked_mul(n));
        let bytes = |count: usize| count.checked_mul(number.bytes()).map(|bytes| bytes as u64);
        let end = count.and_then(|count| bytes(count.checked_add(stored.offset)?));
        if end.is_none_or(|end| end > size) {
            return Err(damaged(&format_args!(
                "{name} has shape {:?} from number {} on, in {size} bytes",
                stored.shape, stored.offset
            )));
        }
        let Place { file, offset } = archive.place(storage, scratch)?;
        Ok(Place { file, offset: offset + bytes(stored.offset).expect("checked above") })
    })
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

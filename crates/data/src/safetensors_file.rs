use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::tensor_file::{Element, Layout};

/// Limit of the format's own implementation; real headers are a few hundred bytes.
const MAX_HEADER: u64 = 100_000_000;

/// The tensor taken where several would do.
const PREFERRED: &str = "hidden_states";

/// A header whose tensors all lie within the file, none over another.
pub(crate) struct Header {
    pub(crate) metadata: HashMap<String, String>,
    /// In the order of the file.
    pub(crate) tensors: Vec<Tensor>,
}

pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Byte of the file where its values start.
    pub(crate) offset: u64,
}

impl Header {
    pub(crate) fn read(file: &InputFile) -> Result<Self, DataError> {
        let path = file.path().display();
        let damaged = |why: &dyn std::fmt::Display| {
            DataError::corrupt(format!("{path} is no intact safetensors file: {why}; make or copy it again"))
        };
        if file.size() < 8 {
            return Err(damaged(&format_args!("{} bytes are too few", file.size())));
        }
        let mut length = [0; 8];
        file.read_at(&mut length, 0)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > file.size() - 8 {
            return Err(damaged(&format_args!("a header of {length} bytes in a file of {}", file.size())));
        }
        let bytes = file.bytes(8, length)?;
        // the crate checks here that offsets are contiguous and agree with shapes and dtypes
        let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|error| damaged(&error))?;
        let data = metadata.data_len() as u64;
        let expected = data.checked_add(8 + length);
        if expected != Some(file.size()) {
            let values = file.size() - 8 - length;
            return Err(damaged(&format_args!(
                "its header describes {data} bytes of values, {values} are there"
            )));
        }
        let tensors = metadata.offset_keys().into_iter().map(|name| {
            let TensorInfo { dtype, shape, data_offsets } = metadata.info(&name).expect("a key of the index");
            Tensor { dtype: *dtype, shape: shape.clone(), offset: 8 + length + data_offsets.0 as u64, name }
        });
        Ok(Self { tensors: tensors.collect(), metadata: metadata.metadata().clone().unwrap_or_default() })
    }

    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Names, dtypes and shapes, for messages.
    pub(crate) fn listing(&self) -> String {
        const SHOWN: usize = 8;
        if self.tensors.is_empty() {
            return "nothing".to_owned();
        }
        let mut parts: Vec<String> = self
            .tensors
            .iter()
            .take(SHOWN)
            .map(|t| format!("{} {} {:?}", t.name, t.dtype, t.shape))
            .collect();
        if self.tensors.len() > SHOWN {
            parts.push(format!("{} more", self.tensors.len() - SHOWN));
        }
        parts.join(", ")
    }
}

/// Finds the hidden states: `tensor` if named, else the tensor called hidden_states, else the only rank-2 float tensor.
pub(crate) fn hidden_states(file: &InputFile, tensor: Option<&str>) -> Result<Layout, DataError> {
    let path = file.path().display();
    let header = Header::read(file)?;
    let is_candidate =
        |tensor: &&Tensor| tensor.shape.len() == 2 && Element::of_safetensors(tensor.dtype).is_some();
    let chosen = match tensor {
        Some(name) => header.tensor(name).ok_or_else(|| {
            DataError::argument(format!("{path} has no tensor {name}; it holds {}", header.listing()))
        })?,
        None => {
            let mut candidates = header.tensors.iter().filter(is_candidate);
            match (header.tensor(PREFERRED), candidates.next(), candidates.next()) {
                (Some(preferred), _, _) => preferred,
                (None, Some(only), None) => only,
                // the only tensor there is: what is wrong with it is said below
                (None, None, _) if header.tensors.len() == 1 => &header.tensors[0],
                (None, None, _) => {
                    return Err(DataError::format(format!(
                        "{path} holds no float tensor [rows, d_in], only {}; save the hidden states as one",
                        header.listing()
                    )));
                }
                (None, Some(first), Some(_)) => {
                    return Err(DataError::format(format!(
                        "{path} holds several tensors that could be hidden states: {}; pick one, as {path}#{}",
                        header.listing(),
                        first.name
                    )));
                }
            }
        }
    };
    let name = format!("{path}#{}", chosen.name);
    let Some(element) = Element::of_safetensors(chosen.dtype) else {
        return Err(DataError::format(format!(
            "{name} is of type {}; hidden states are F16, BF16, F32 or F64: convert it or pick another tensor",
            chosen.dtype
        )));
    };
    Layout::new(&name, Some(chosen.name.clone()), element, &chosen.shape, chosen.offset)
}

/// The bytes before the values of a file with these tensors, in that order; the same bytes every time.
pub(crate) fn header_bytes(metadata: &[(&str, String)], tensors: &[(&str, Dtype, &[usize])]) -> Vec<u8> {
    let mut header = Map::new();
    if !metadata.is_empty() {
        let strings = metadata.iter().map(|(key, value)| (key.to_string(), Value::from(value.as_str())));
        header.insert("__metadata__".to_owned(), Value::Object(strings.collect()));
    }
    let mut start = 0;
    for &(name, dtype, shape) in tensors {
        let end = start + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo { dtype, shape: shape.to_vec(), data_offsets: (start, end) };
        header.insert(name.to_owned(), serde_json::to_value(info).expect("plain numbers and strings"));
        start = end;
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    bytes
}

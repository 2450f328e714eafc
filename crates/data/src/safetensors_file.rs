use std::collections::HashMap;
use std::sync::Arc;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde_json::{Map, Value};

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::Number;
use crate::open::Wanted;
use crate::tensor_file::{self, Place, TensorSource};

/// Limit of the format's own implementation; real headers are a few hundred bytes.
const MAX_HEADER: u64 = 100_000_000;

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
        tensor_file::listing(&self.described())
    }

    /// Names, types and shapes.
    pub(crate) fn described(&self) -> Vec<tensor_file::Tensor> {
        let described = |tensor: &Tensor| tensor_file::Tensor {
            name: tensor.name.clone(),
            dtype: tensor.dtype.to_string(),
            number: Number::of_safetensors(tensor.dtype),
            shape: tensor.shape.clone(),
        };
        self.tensors.iter().map(described).collect()
    }
}

/// Finds the hidden states and columns in a safetensors file.
pub(crate) fn open(file: Arc<InputFile>, wanted: &Wanted) -> Result<TensorSource, DataError> {
    let header = Header::read(&file)?;
    let tensors = header.described();
    TensorSource::find(&file, &tensors, wanted, |index| {
        Ok(Place { file: file.clone(), offset: header.tensors[index].offset })
    })
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

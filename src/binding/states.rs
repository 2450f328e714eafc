//! Hidden states from JavaScript: paths, or arrays read in place.

use crate::error::Failure;
use bae_data::{DataError, Dataset, Source};
use half::{bf16, f16};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use ndarray::ArrayViewMut2;
use std::sync::Mutex;

/// Hidden states: either files or parts.
#[napi(object, object_to_js = false)]
pub struct States {
    /// Files, folders or globs, each perhaps with `#tensor`.
    pub files: Option<Vec<String>>,
    /// Arrays in memory.
    pub parts: Option<Vec<StatesPart>>,
}

/// Whole rows in one array; the array is read where it is, not copied.
#[napi(object, object_to_js = false)]
pub struct StatesPart {
    /// For messages.
    pub name: String,
    /// Row-major values; half floats as their bits.
    pub values: Either<Float32Array, Uint16Array>,
    /// `float32` with Float32Array, `float16` or `bfloat16` with Uint16Array.
    #[napi(ts_type = "'float32' | 'float16' | 'bfloat16'")]
    pub dtype: String,
    /// Width of a row.
    pub d_in: u32,
}

impl States {
    /// Opens all of it.
    pub fn open(self) -> std::result::Result<Dataset, Failure> {
        match (self.files, self.parts) {
            (Some(files), None) => Ok(Dataset::open(&files)?),
            (None, Some(parts)) => {
                let sources =
                    parts.into_iter().map(Part::boxed).collect::<std::result::Result<Vec<_>, _>>()?;
                Ok(Dataset::new(sources)?)
            }
            _ => Err(Failure { code: "INVALID_ARGUMENT", message: "give files or parts".into() }),
        }
    }
}

struct Part {
    name: String,
    values: Mutex<Values>,
    rows: usize,
    d_in: usize,
}

enum Values {
    F32(Float32Array),
    F16(Uint16Array),
    Bf16(Uint16Array),
}

impl Part {
    fn boxed(part: StatesPart) -> std::result::Result<Box<dyn Source>, Failure> {
        let values = match (part.values, part.dtype.as_str()) {
            (Either::A(values), "float32") => Values::F32(values),
            (Either::B(values), "float16") => Values::F16(values),
            (Either::B(values), "bfloat16") => Values::Bf16(values),
            (_, dtype) => {
                let message = format!("{}: this array does not hold {dtype} values", part.name);
                return Err(Failure { code: "INVALID_ARGUMENT", message });
            }
        };
        let length = match &values {
            Values::F32(values) => values.len(),
            Values::F16(values) | Values::Bf16(values) => values.len(),
        };
        let d_in = part.d_in as usize;
        if d_in == 0 || length % d_in != 0 {
            let message = format!("{}: {length} values are not whole rows of {d_in}", part.name);
            return Err(Failure { code: "SHAPE_MISMATCH", message });
        }
        Ok(Box::new(Part { name: part.name, rows: length / d_in, d_in, values: Mutex::new(values) }))
    }
}

impl Source for Part {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn d_in(&self) -> usize {
        self.d_in
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> std::result::Result<(), DataError> {
        let range = start * self.d_in..start * self.d_in + out.len();
        let values = self.values.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // JavaScript may have transferred or shrunk the buffer since
        let gone = || {
            DataError::InvalidArgument(format!(
                "{}: the array was detached or resized while in use",
                self.name
            ))
        };
        let to = out.as_slice_mut().expect("row-major");
        match &*values {
            Values::F32(values) => to.copy_from_slice(values.get(range).ok_or_else(gone)?),
            Values::F16(values) => {
                let bits: &[u16] = values.get(range).ok_or_else(gone)?;
                bits.iter().zip(to).for_each(|(&bits, to)| *to = f16::from_bits(bits).to_f32());
            }
            Values::Bf16(values) => {
                let bits: &[u16] = values.get(range).ok_or_else(gone)?;
                bits.iter().zip(to).for_each(|(&bits, to)| *to = bf16::from_bits(bits).to_f32());
            }
        }
        Ok(())
    }
}

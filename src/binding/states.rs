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

/// Whole rows in one array.
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
    /// Whether the array lies in a SharedArrayBuffer that cannot grow: it is then read where it is. Any other buffer
    /// may be transferred or resized while a job runs, and its memory be gone: it is copied when the job starts.
    pub shared: bool,
}

/// Hidden states that are safe from whatever JavaScript does next.
pub enum Held {
    /// To be opened.
    Files(Vec<String>),
    /// Copied or shared.
    Parts(Vec<Box<dyn Source>>),
}

impl States {
    /// Takes hold of the arrays; to be called on JavaScript's thread, before it can change them.
    pub fn hold(self) -> std::result::Result<Held, Failure> {
        match (self.files, self.parts) {
            (Some(files), None) => Ok(Held::Files(files)),
            (None, Some(parts)) => {
                parts.into_iter().map(Part::boxed).collect::<std::result::Result<_, _>>().map(Held::Parts)
            }
            _ => Err(Failure { code: "INVALID_ARGUMENT", message: "give files or parts".into() }),
        }
    }
}

impl Held {
    /// Opens all of it.
    pub fn open(self) -> std::result::Result<Dataset, Failure> {
        Ok(match self {
            Held::Files(files) => Dataset::open(&files)?,
            Held::Parts(parts) => Dataset::new(parts)?,
        })
    }
}

struct Part {
    name: String,
    values: Mutex<Values>,
    rows: usize,
    d_in: usize,
}

enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
    Bf16(Vec<u16>),
    SharedF32(Float32Array),
    SharedF16(Uint16Array),
    SharedBf16(Uint16Array),
}

impl Part {
    fn boxed(part: StatesPart) -> std::result::Result<Box<dyn Source>, Failure> {
        let length = match &part.values {
            Either::A(values) => values.len(),
            Either::B(values) => values.len(),
        };
        let values = match (part.values, part.dtype.as_str(), part.shared) {
            (Either::A(values), "float32", true) => Values::SharedF32(values),
            (Either::B(values), "float16", true) => Values::SharedF16(values),
            (Either::B(values), "bfloat16", true) => Values::SharedBf16(values),
            (Either::A(values), "float32", false) => Values::F32(copied(&values, &part.name)?),
            (Either::B(values), "float16", false) => Values::F16(copied(&values, &part.name)?),
            (Either::B(values), "bfloat16", false) => Values::Bf16(copied(&values, &part.name)?),
            (_, dtype, _) => {
                let message = format!("{}: this array does not hold {dtype} values", part.name);
                return Err(Failure { code: "INVALID_ARGUMENT", message });
            }
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
        let to = out.as_slice_mut().expect("row-major");
        match &*values {
            Values::F32(values) => to.copy_from_slice(&values[range]),
            Values::SharedF32(values) => to.copy_from_slice(&values[range]),
            Values::F16(values) => decode(&values[range], to, |bits| f16::from_bits(bits).to_f32()),
            Values::SharedF16(values) => decode(&values[range], to, |bits| f16::from_bits(bits).to_f32()),
            Values::Bf16(values) => decode(&values[range], to, |bits| bf16::from_bits(bits).to_f32()),
            Values::SharedBf16(values) => decode(&values[range], to, |bits| bf16::from_bits(bits).to_f32()),
        }
        Ok(())
    }
}

fn copied<T: Copy>(values: &[T], name: &str) -> std::result::Result<Vec<T>, Failure> {
    let mut copy = vec![];
    copy.try_reserve_exact(values.len()).map_err(|_| Failure {
        code: "OUT_OF_MEMORY",
        message: format!("{name}: no memory for a copy of {} values; give fewer rows or files", values.len()),
    })?;
    copy.extend_from_slice(values);
    Ok(copy)
}

fn decode(bits: &[u16], to: &mut [f32], value: impl Fn(u16) -> f32) {
    bits.iter().zip(to).for_each(|(&bits, to)| *to = value(bits));
}

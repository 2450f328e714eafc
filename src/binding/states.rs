//! Hidden states from JavaScript: paths, arrays read in place, or arrays that came in one by one.

use crate::error::Failure;
use crate::job::{self, Context, End, Events, Job};
use crate::kept_files::KeptFiles;
use bae_data::{Condition, DataError, Dataset, Feed, Floats, Order, RowSet, Selection, Source};
use bae_train::{READ_ONCE, TrainError};
use half::{bf16, f16};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use ndarray::ArrayViewMut2;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// Hidden states: files, parts, or a spool.
#[napi(object, object_to_js = false)]
pub struct States<'env> {
    /// Files, folders or globs, each perhaps with `#tensor`.
    pub files: Option<Vec<String>>,
    /// Arrays in memory.
    pub parts: Option<Vec<StatesPart>>,
    /// What came in one by one; the call takes it over.
    pub spool: Option<ClassInstance<'env, Spool>>,
    /// What keeps the bytes of the files for the next call, if anything does.
    pub kept: Option<ClassInstance<'env, KeptFiles>>,
    /// Conditions that rows must meet to be taken.
    #[napi(js_name = "where")]
    pub conditions: Option<Vec<String>>,
    /// Whether rows that hold a value that is not finite are left out.
    pub skip_invalid: Option<bool>,
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

/// Hidden states that are safe from whatever JavaScript does next, and which of them are taken.
pub struct Held {
    sources: Sources,
    kept: Option<Arc<bae_data::KeptFiles>>,
    conditions: Vec<String>,
    skip_invalid: bool,
    target: Option<Box<Held>>,
}

enum Sources {
    /// To be opened.
    Files(Vec<String>),
    /// Copied or shared.
    Parts(Vec<Box<dyn Source>>),
}

impl States<'_> {
    /// Takes hold of the arrays; to be called on JavaScript's thread, before it can change them.
    pub fn hold(self) -> std::result::Result<Held, Failure> {
        let sources = match (self.files, self.parts, self.spool) {
            (Some(files), None, None) => Sources::Files(files),
            (None, Some(parts), None) => {
                Sources::Parts(parts.into_iter().map(Part::boxed).collect::<std::result::Result<_, _>>()?)
            }
            (None, None, Some(spool)) => Sources::Parts(vec![spool.take(Spooling::Gone)?.finish()?]),
            _ => {
                let message = "give files, parts or a spool".into();
                return Err(Failure { code: "INVALID_ARGUMENT", message });
            }
        };
        let kept = self.kept.map(|kept| kept.get()).transpose()?;
        let conditions = self.conditions.unwrap_or_default();
        let skip_invalid = self.skip_invalid.unwrap_or(false);
        Ok(Held { sources, kept, conditions, skip_invalid, target: None })
    }
}

/// Rows that come in one array after another: kept in memory up to a limit, then in the system's temporary folder.
#[napi]
pub struct Spool {
    state: Arc<Mutex<Spooling>>,
}

enum Spooling {
    Open(bae_data::Spool),
    /// A job has the rows, or failed with them.
    Writing,
    /// Disposed, or taken over by a call.
    Gone,
}

#[napi]
impl Spool {
    /// An empty one that messages call `name`, keeps about `memory` bytes in memory, and takes rows that are not finite or refuses them.
    #[napi(constructor, catch_unwind)]
    pub fn new(name: String, memory: f64, takes_invalid: bool) -> Self {
        let spool = bae_data::Spool::new(name, memory as usize, std::env::temp_dir());
        let spool = spool.taking_invalid(takes_invalid);
        Self { state: Arc::new(Mutex::new(Spooling::Open(spool))) }
    }

    /// Copies and checks an array. If it says true, `startSpill` is to follow and to end before the next array.
    #[napi(catch_unwind)]
    pub fn append(&self, part: StatesPart) -> Result<bool, &'static str> {
        let mut state = locked(&self.state);
        let Spooling::Open(spool) = &mut *state else { return Err(Failure::disposed("spool").into()) };
        let values = match (&part.values, part.dtype.as_str()) {
            (Either::A(values), "float32") => Floats::F32(values),
            (Either::B(bits), "float16") => Floats::F16(bits),
            (Either::B(bits), "bfloat16") => Floats::Bf16(bits),
            _ => return Err(not_of_dtype(&part.name, &part.dtype).into()),
        };
        spool.append(&part.name, values, part.d_in as usize).map_err(Failure::from)?;
        Ok(spool.is_over())
    }

    /// Frees memory and disk, once no running job needs them.
    #[napi(catch_unwind)]
    pub fn dispose(&self) {
        *locked(&self.state) = Spooling::Gone;
    }
}

impl Spool {
    fn take(&self, next: Spooling) -> std::result::Result<bae_data::Spool, Failure> {
        match std::mem::replace(&mut *locked(&self.state), next) {
            Spooling::Open(spool) => Ok(spool),
            _ => Err(Failure::disposed("spool")),
        }
    }
}

fn locked(state: &Mutex<Spooling>) -> MutexGuard<'_, Spooling> {
    state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Writes what a spool should not keep in memory.
#[napi(catch_unwind)]
pub fn start_spill(
    spool: &Spool,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let state = spool.state.clone();
    let mut rows = spool.take(Spooling::Writing)?;
    job::start(on_event, move |context| {
        while rows.is_over() {
            if context.cancelled() {
                return Ok(End::Cancelled(json!({})));
            }
            rows.spill()?;
        }
        let mut state = locked(&state);
        if matches!(*state, Spooling::Writing) {
            *state = Spooling::Open(rows);
        }
        Ok(End::Done(json!({})))
    })
}

/// Hidden states, and which of their rows are taken.
pub struct Chosen {
    /// All of them.
    pub data: Dataset,
    /// Those taken.
    pub rows: RowSet,
    /// Why the others are not, where anything was asked for.
    left_out: Option<(usize, usize)>,
}

impl Chosen {
    /// Adds to a result how many rows were left out, where rows were chosen.
    pub fn complete(&self, mut result: Value) -> Value {
        if let Some((filtered, invalid)) = self.left_out {
            result["filteredRows"] = json!(filtered);
            result["invalidRows"] = json!(invalid);
        }
        result
    }

    /// Reads them in their order.
    pub fn feed(&self) -> Feed<'_> {
        Feed::new(&self.data, &self.rows, Order::Stored, READ_ONCE)
    }
}

impl Held {
    /// Puts beside them what is to be made of them, if anything else.
    pub fn with_target(self, target: Option<Self>) -> Self {
        Self { target: target.map(Box::new), ..self }
    }

    /// Opens all of it, and chooses rows.
    pub fn choose(self, context: &Context) -> std::result::Result<Chosen, Failure> {
        let conditions: Vec<Condition> =
            self.conditions.iter().map(|text| text.parse()).collect::<std::result::Result<_, DataError>>()?;
        let skip_invalid = self.skip_invalid;
        let data = self.open()?;
        let going_on = |_| !context.cancel_flag().load(Ordering::Relaxed);
        let selection = data.select(&conditions, skip_invalid, going_on)?;
        let Selection { rows, filtered, invalid } = selection.ok_or(TrainError::Cancelled)?;
        let left_out = (skip_invalid || !conditions.is_empty()).then_some((filtered, invalid));
        Ok(Chosen { data, rows, left_out })
    }

    /// Opens all of it.
    pub fn open(self) -> std::result::Result<Dataset, Failure> {
        let data = match (self.sources, &self.kept) {
            (Sources::Files(files), Some(kept)) => Dataset::open_kept(&files, kept)?,
            (Sources::Files(files), None) => Dataset::open(&files)?,
            (Sources::Parts(parts), _) => Dataset::new(parts)?,
        };
        Ok(match self.target {
            Some(target) => data.with_target(target.open()?)?,
            None => data,
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
            (_, dtype, _) => return Err(not_of_dtype(&part.name, dtype)),
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

fn not_of_dtype(name: &str, dtype: &str) -> Failure {
    Failure { code: "INVALID_ARGUMENT", message: format!("{name}: this array does not hold {dtype} values") }
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

use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use bae_codes::BitMatrix;
use bae_data::{CodesWriter, read_codes};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Packed codes in memory.
#[napi]
pub struct Codes {
    codes: Mutex<Option<Arc<BitMatrix>>>,
}

impl From<BitMatrix> for Codes {
    fn from(codes: BitMatrix) -> Self {
        Self { codes: Mutex::new(Some(Arc::new(codes))) }
    }
}

impl Codes {
    /// The codes, unless disposed.
    pub fn get(&self) -> std::result::Result<Arc<BitMatrix>, Failure> {
        let codes = self.codes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        codes.clone().ok_or_else(|| Failure::disposed("set of codes"))
    }
}

#[napi]
impl Codes {
    /// Copies packed bytes: `ceil(dSae / 8)` a row, least significant bit first.
    #[napi(factory, catch_unwind)]
    pub fn from_bytes(bytes: &[u8], rows: u32, d_sae: u32) -> Result<Self, &'static str> {
        let codes = BitMatrix::from_bytes(bytes, rows as usize, d_sae as usize);
        Ok(Codes::from(codes.map_err(Failure::from)?))
    }

    /// Number of codes.
    #[napi(getter, catch_unwind)]
    pub fn rows(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.rows() as u32)
    }

    /// Bits in a code.
    #[napi(getter, catch_unwind)]
    pub fn d_sae(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.features() as u32)
    }

    /// A packed copy: `ceil(dSae / 8)` bytes a row, least significant bit first.
    #[napi(catch_unwind)]
    pub fn bytes(&self) -> Result<Uint8Array, &'static str> {
        let codes = self.get()?;
        let mut bytes = vec![];
        let size = codes.rows() * codes.features().div_ceil(8);
        bytes.try_reserve_exact(size).map_err(|_| Failure {
            code: "OUT_OF_MEMORY",
            message: format!("a copy of {size} bytes does not fit in memory; save the codes to a file"),
        })?;
        codes.chunks(4096).for_each(|rows| bytes.extend(rows.to_bytes(0..rows.rows())));
        Ok(Uint8Array::new(bytes))
    }

    /// Frees the codes once no running job needs them.
    #[napi(catch_unwind)]
    pub fn dispose(&self) {
        self.codes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}

/// Reads a codes file.
#[napi(catch_unwind)]
pub fn start_read_codes(
    path: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |context| {
        let (codes, model) = read_codes(Path::new(&path))?;
        let done = json!({ "rows": codes.rows(), "dSae": codes.features(), "model": model });
        context.leave(|output| output.codes = Some(codes));
        Ok(End::Done(done))
    })
}

/// Writes a codes file.
#[napi(catch_unwind)]
pub fn start_write_codes(
    codes: &Codes,
    path: String,
    model_name: String,
    overwrite: bool,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let codes = codes.get()?;
    job::start(on_event, move |_| {
        let mut file =
            CodesWriter::create(Path::new(&path), codes.features(), codes.rows(), &model_name, overwrite)?;
        file.append(&codes)?;
        file.finish()?;
        Ok(End::Done(json!({ "out": path })))
    })
}

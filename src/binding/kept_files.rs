//! Files that several calls read, and what they can be taken apart by.

use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use bae_data::{Layers, NamedFile, files_of, layers_of};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of files, kept from call to call.
#[napi]
pub struct KeptFiles {
    files: Mutex<Option<Arc<bae_data::KeptFiles>>>,
}

#[napi]
impl KeptFiles {
    /// Keeps at most `limit` bytes.
    #[napi(constructor, catch_unwind)]
    pub fn new(limit: f64) -> Self {
        Self { files: Mutex::new(Some(bae_data::KeptFiles::new(limit as u64))) }
    }

    /// Bytes read from the disk so far.
    #[napi(getter, catch_unwind)]
    pub fn bytes_read(&self) -> Result<f64, &'static str> {
        Ok(self.get()?.bytes_read() as f64)
    }

    /// Frees the memory, once no running job needs it.
    #[napi(catch_unwind)]
    pub fn dispose(&self) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What is kept.
    pub fn get(&self) -> std::result::Result<Arc<bae_data::KeptFiles>, Failure> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.clone().ok_or_else(|| Failure::disposed("store of files"))
    }
}

/// Lists the files that DATA names: done with `{ files: [{ path, tensor, layer }] }`.
#[napi(catch_unwind)]
pub fn start_list_files(
    data: Vec<String>,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |_| {
        let file = |NamedFile { path, tensor, layer }| json!({ "path": path.to_string_lossy(), "tensor": tensor, "layer": layer });
        let files: Vec<_> = files_of(&data)?.into_iter().map(file).collect();
        Ok(End::Done(json!({ "files": files })))
    })
}

/// Finds the layers in DATA: done with `{ layers, column }`, their numbers and whether they are in a column.
#[napi(catch_unwind)]
pub fn start_list_layers(
    data: Vec<String>,
    kept: &KeptFiles,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let kept = kept.get()?;
    job::start(on_event, move |context| {
        let (layers, column) = match layers_of(&data, &kept, || !context.cancelled())? {
            Layers::Axis(count) => ((0..count as i64).collect(), false),
            Layers::Column(layers) => (layers, true),
        };
        Ok(End::Done(json!({ "layers": layers, "column": column })))
    })
}

use crate::error::Failure;
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// A folder that nobody else is to write in for now.
#[napi]
pub struct FolderLock {
    lock: Mutex<Option<bae_data::FolderLock>>,
}

#[napi]
impl FolderLock {
    /// Takes the lock of a folder that is there; fails where another process, or call, has it.
    #[napi(constructor, catch_unwind)]
    pub fn new(dir: String) -> Result<Self, &'static str> {
        let lock = bae_data::FolderLock::take(Path::new(&dir)).map_err(Failure::from)?;
        Ok(Self { lock: Mutex::new(Some(lock)) })
    }

    /// Lets others have it.
    #[napi(catch_unwind)]
    pub fn release(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

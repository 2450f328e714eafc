use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::tensor_file::Place;

/// Where what lies packed in files is unpacked to: one temporary file without a name, gone with the last source that
/// reads it.
#[derive(Default)]
pub(crate) struct Scratch {
    file: Option<(File, Arc<InputFile>)>,
    end: u64,
}

impl Scratch {
    /// Unpacks exactly `size` bytes; `name` is what messages call them.
    pub(crate) fn unpack(
        &mut self,
        name: &str,
        packed: &mut dyn Read,
        size: u64,
    ) -> Result<Place, DataError> {
        let cannot = |error: io::Error| {
            DataError::io(
                "unpack into the temporary folder",
                Path::new(name),
                error,
                "make room there or save it uncompressed",
            )
        };
        let damaged = |why: &dyn std::fmt::Display| {
            DataError::corrupt(format!("{name} cannot be unpacked: {why}; make or copy it again"))
        };
        if self.file.is_none() {
            let file = tempfile::tempfile().map_err(cannot)?;
            let read = file.try_clone().map_err(cannot)?;
            self.file = Some((file, Arc::new(InputFile::unnamed(read, Path::new("a temporary file"), 0))));
        }
        let (file, read) = self.file.as_mut().expect("made above");
        file.seek(SeekFrom::Start(self.end)).map_err(cannot)?;
        let mut buffer = vec![0; 256 * 1024];
        let mut done = 0;
        loop {
            let length = packed.read(&mut buffer).map_err(|error| damaged(&error))?;
            if length == 0 {
                break;
            }
            done += length as u64;
            if done > size {
                return Err(damaged(&format_args!(
                    "it holds more than the {size} bytes that its header names"
                )));
            }
            file.write_all(&buffer[..length]).map_err(cannot)?;
        }
        if done < size {
            return Err(damaged(&format_args!("it holds {done} of the {size} bytes that its header names")));
        }
        let offset = self.end;
        self.end += size;
        Ok(Place { file: read.clone(), offset })
    }
}

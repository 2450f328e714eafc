use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use bae_codes::BitMatrix;
use safetensors::Dtype;
use tempfile::NamedTempFile;

use crate::error::DataError;
use crate::folder::{cannot_write, install_file, temporary_file};
use crate::input_file::InputFile;
use crate::safetensors_file::{Header, header_bytes};

/// Writes codes as they come; the file appears when all are there.
///
/// Dropped before [`CodesWriter::finish`], it leaves nothing.
#[derive(Debug)]
pub struct CodesWriter {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    overwrite: bool,
    d_sae: usize,
    rows: usize,
    written: usize,
}

impl CodesWriter {
    /// Starts a file of `rows` codes of `d_sae` bits; `model` names what made them.
    ///
    /// # Errors
    /// `IO` if `path` exists and `overwrite` is false, or its folder cannot be written in; `INVALID_ARGUMENT` for
    /// codes without bits or a size beyond all memory.
    pub fn create(
        path: &Path,
        d_sae: usize,
        rows: usize,
        model: &str,
        overwrite: bool,
    ) -> Result<Self, DataError> {
        let row_bytes = d_sae.div_ceil(8);
        if d_sae == 0 || rows.checked_mul(row_bytes).is_none() {
            return Err(DataError::argument(format!(
                "{rows} codes of {d_sae} bits make no file; check both numbers"
            )));
        }
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, temporary_file(path, overwrite)?),
            overwrite,
            d_sae,
            rows,
            written: 0,
        };
        let metadata =
            [("rows", rows.to_string()), ("d_sae", d_sae.to_string()), ("model", model.to_owned())];
        writer.write(&header_bytes(&metadata, &[("codes", Dtype::U8, &[rows, row_bytes])]))?;
        Ok(writer)
    }

    /// Appends codes.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for codes of another width, `INVALID_ARGUMENT` for more than were announced, `IO`.
    pub fn append(&mut self, codes: &BitMatrix) -> Result<(), DataError> {
        if codes.features() != self.d_sae {
            return Err(DataError::shape(format!(
                "{}: codes of {} bits do not go into a file of {} bits; use one model for one file",
                self.path.display(),
                codes.features(),
                self.d_sae
            )));
        }
        if codes.rows() > self.rows - self.written {
            return Err(DataError::argument(format!(
                "{}: more than the announced {} codes; announce all rows",
                self.path.display(),
                self.rows
            )));
        }
        const CHUNK: usize = 1024;
        for start in (0..codes.rows()).step_by(CHUNK) {
            self.write(&codes.to_bytes(start..codes.rows().min(start + CHUNK)))?;
        }
        self.written += codes.rows();
        Ok(())
    }

    /// Syncs the file and gives it its name.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if fewer rows came than were announced, `IO`.
    pub fn finish(self) -> Result<(), DataError> {
        if self.written != self.rows {
            return Err(DataError::argument(format!(
                "{}: {} codes came, {} were announced; append all rows before finishing",
                self.path.display(),
                self.written,
                self.rows
            )));
        }
        install_file(self.file, &self.path, self.overwrite)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|error| cannot_write(&self.path, error))
    }
}

/// Reads a codes file: the codes, and the name of the model that made them.
///
/// # Errors
/// `IO`; `UNSUPPORTED_FORMAT` if the file holds something else; `CORRUPT_FILE` if its parts contradict each other.
pub fn read_codes(path: &Path) -> Result<(BitMatrix, String), DataError> {
    let StoredCodes { file, rows, d_sae, model, offset } = StoredCodes::open(path)?;
    let bytes = file.bytes(offset, (rows * d_sae.div_ceil(8)) as u64)?;
    let codes = BitMatrix::from_bytes(&bytes, rows, d_sae)
        .map_err(|error| DataError::corrupt(format!("{}: {error}; encode the data again", path.display())))?;
    Ok((codes, model))
}

/// A codes file of which everything but the codes has been read and found right.
pub(crate) struct StoredCodes {
    file: InputFile,
    pub(crate) rows: usize,
    pub(crate) d_sae: usize,
    pub(crate) model: String,
    offset: u64,
}

impl StoredCodes {
    pub(crate) fn open(path: &Path) -> Result<Self, DataError> {
        let shown = path.display();
        let file = InputFile::open(path)?;
        let header = Header::read(&file)?;
        let Some(codes) = header.tensor("codes").filter(|codes| codes.dtype == Dtype::U8) else {
            return Err(DataError::format(format!(
                "{shown} holds no U8 tensor codes, only {}; give a file that `bae encode` wrote",
                header.listing()
            )));
        };
        let damaged = |why: &str| DataError::corrupt(format!("{shown}: {why}; encode the data again"));
        let text = |key: &str| {
            header.metadata.get(key).ok_or_else(|| damaged(&format!("{key} is missing from the metadata")))
        };
        let number = |key: &str| {
            let value = text(key)?;
            value.parse().map_err(|_| damaged(&format!("{key} {value} in the metadata is no whole number")))
        };
        let (rows, d_sae): (usize, usize) = (number("rows")?, number("d_sae")?);
        // codes without bits would be any number of rows in no bytes
        if d_sae == 0 || codes.shape != [rows, d_sae.div_ceil(8)] {
            return Err(damaged(&format!(
                "codes of shape {:?} are not the {rows} rows of {d_sae} bits that the metadata names",
                codes.shape
            )));
        }
        let (model, offset) = (text("model")?.clone(), codes.offset);
        Ok(Self { file, rows, d_sae, model, offset })
    }
}

use std::path::Path;
use std::sync::Arc;

use crate::column::Column;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, Integer, Number};
use crate::open::Wanted;
use crate::tensor_file::{Place, Tensor, TensorSource};

const MAGIC: &[u8] = b"\x93NUMPY";

/// numpy itself refuses headers beyond 10,000 bytes unless told otherwise.
const MAX_HEADER: u64 = 64 * 1024;

/// Finds the hidden states in an .npy file, which is one array, and its columns in the files beside it:
/// `STEM.COLUMN.npy`, a column by any of its names.
pub(crate) fn open(file: Arc<InputFile>, wanted: &Wanted) -> Result<TensorSource, DataError> {
    if let Some(tensor) = &wanted.tensor {
        return Err(DataError::argument(format!(
            "{} holds one array without a name; leave #{tensor} away",
            file.path().display()
        )));
    }
    let array = Array::in_file(&file)?;
    if !matches!(array.number, Some(Number::Float(_))) {
        let path = file.path().display();
        let order = if array.descr.starts_with('>') { "big-endian " } else { "" };
        return Err(DataError::format(format!(
            "{path} is of {order}type {:?}; convert it in Python with np.save(path, array.astype('<f4'))",
            array.descr
        )));
    }
    let mut tensors = vec![array.tensor("")];
    let mut places = vec![Place { file: file.clone(), offset: array.offset }];
    for name in Column::ALL.into_iter().flat_map(Column::names) {
        let path = file.path().with_extension(format!("{name}.npy"));
        if !path.is_file() {
            continue;
        }
        let column = Arc::new(file.beside(&path)?);
        // what does not fit is no column, as in a file of several tensors
        let array = match Array::in_file(&column) {
            Ok(array) if matches!(array.number, Some(Number::Integer(_))) => array,
            Ok(_) | Err(DataError::UnsupportedFormat(_)) => continue,
            Err(error) => return Err(error),
        };
        tensors.push(array.tensor(name));
        places.push(Place { file: column, offset: array.offset });
    }
    TensorSource::find(&file, &tensors, wanted, |index| Ok(places[index].clone()))
}

/// Whether an .npy file is a column of the one beside it.
pub(crate) fn is_column(path: &Path) -> bool {
    let stem = path.file_stem().map(Path::new);
    let Some((name, states)) = stem.and_then(|stem| Some((stem.extension()?.to_str()?, stem.file_stem()?)))
    else {
        return false;
    };
    Column::named(name).is_some() && path.with_file_name(states).with_extension("npy").is_file()
}

/// An array as its header describes it: its values fill the rest of the file.
pub(crate) struct Array {
    descr: String,
    pub(crate) number: Option<Number>,
    shape: Vec<usize>,
    /// Byte where the values start.
    pub(crate) offset: u64,
}

impl Array {
    pub(crate) fn in_file(file: &InputFile) -> Result<Self, DataError> {
        Self::read(&file.path().display().to_string(), file.size(), |offset, length| {
            file.bytes(offset, length)
        })
    }

    /// Reads the header of what is `size` bytes long; `name` is what messages call it.
    ///
    /// It is parsed here: the crates for it take any Python literal, and overflow on a shape that is too large.
    pub(crate) fn read(
        name: &str,
        size: u64,
        mut bytes: impl FnMut(u64, u64) -> Result<Vec<u8>, DataError>,
    ) -> Result<Self, DataError> {
        let damaged = |why: &dyn std::fmt::Display| {
            DataError::corrupt(format!("{name} is no intact .npy file: {why}; make or copy it again"))
        };
        let start = bytes(0, size.min(12))?;
        let (length, length_ends) = match start.get(6) {
            _ if !start.starts_with(MAGIC) => return Err(damaged(&"it does not start as one")),
            Some(1) if start.len() >= 10 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
            Some(2 | 3) if start.len() == 12 => {
                (u64::from(u32::from_le_bytes([start[8], start[9], start[10], start[11]])), 12)
            }
            Some(version @ (0 | 4..)) => {
                return Err(DataError::format(format!(
                    "{name} is of .npy version {version}; save it with a numpy of version 1 or 2"
                )));
            }
            _ => return Err(damaged(&format_args!("{} bytes are too few", start.len()))),
        };
        if length > MAX_HEADER {
            return Err(damaged(&format_args!("a header of {length} bytes")));
        }
        let text = bytes(length_ends, length)?;
        let Header { descr, fortran_order, shape } = Parser(&text).header().ok_or_else(|| {
            damaged(&format_args!("its header {:?} is none of a plain array", String::from_utf8_lossy(&text)))
        })?;
        let array =
            Self { descr: descr.to_owned(), number: number(descr), shape, offset: length_ends + length };
        let Some(number) = array.number else { return Ok(array) };
        if fortran_order && array.shape.len() > 1 {
            return Err(DataError::format(format!(
                "{name} is stored column by column (Fortran order); convert it in Python with \
                 np.save(path, np.ascontiguousarray(array))"
            )));
        }
        let values =
            array.shape.iter().try_fold(number.bytes() as u64, |size, &n| size.checked_mul(n as u64));
        let data = size - array.offset;
        if values != Some(data) {
            return Err(damaged(&format_args!(
                "shape {:?} of type {descr} does not take the {data} bytes of values",
                array.shape
            )));
        }
        Ok(array)
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        Tensor {
            name: name.to_owned(),
            dtype: self.number.map_or(self.descr.clone(), |number| number.name().to_owned()),
            number: self.number,
            shape: self.shape.clone(),
        }
    }
}

fn number(descr: &str) -> Option<Number> {
    Some(match descr {
        "<f2" => Number::Float(Element::F16),
        "<f4" => Number::Float(Element::F32),
        "<f8" => Number::Float(Element::F64),
        "|i1" | "<i1" => Number::Integer(Integer::I8),
        "<i2" => Number::Integer(Integer::I16),
        "<i4" => Number::Integer(Integer::I32),
        "<i8" => Number::Integer(Integer::I64),
        "|u1" | "<u1" => Number::Integer(Integer::U8),
        "<u2" => Number::Integer(Integer::U16),
        "<u4" => Number::Integer(Integer::U32),
        "<u8" => Number::Integer(Integer::U64),
        _ => return None,
    })
}

struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// What is left of a header: a Python dictionary of three known entries.
struct Parser<'a>(&'a [u8]);

impl<'a> Parser<'a> {
    fn header(mut self) -> Option<Header<'a>> {
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        self.token(b'{')?;
        while self.token(b'}').is_none() {
            let key = self.string()?;
            self.token(b':')?;
            match key {
                "descr" => descr = Some(self.string()?),
                "fortran_order" => fortran_order = Some(self.boolean()?),
                "shape" => shape = Some(self.tuple()?),
                _ => return None,
            }
            if self.token(b',').is_none() {
                self.token(b'}')?;
                break;
            }
        }
        self.space();
        self.0.is_empty().then_some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
    }

    fn space(&mut self) {
        self.0 = self.0.trim_ascii_start();
    }

    fn token(&mut self, token: u8) -> Option<()> {
        self.space();
        self.0 = self.0.strip_prefix(&[token])?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        self.space();
        let (&quote, rest) = self.0.split_first().filter(|(quote, _)| matches!(quote, b'\'' | b'"'))?;
        let end = rest.iter().position(|&byte| byte == quote)?;
        self.0 = &rest[end + 1..];
        std::str::from_utf8(&rest[..end]).ok()
    }

    fn boolean(&mut self) -> Option<bool> {
        self.space();
        for (text, value) in [(&b"True"[..], true), (b"False", false)] {
            if let Some(rest) = self.0.strip_prefix(text) {
                self.0 = rest;
                return Some(value);
            }
        }
        None
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        let mut numbers = Vec::new();
        self.token(b'(')?;
        while self.token(b')').is_none() {
            self.space();
            let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (number, rest) = self.0.split_at(digits);
            numbers.push(std::str::from_utf8(number).ok()?.parse().ok()?);
            self.0 = rest;
            if self.token(b',').is_none() {
                self.token(b')')?;
                break;
            }
        }
        Some(numbers)
    }
}

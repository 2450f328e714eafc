use crate::error::DataError;
use crate::input_file::InputFile;
use crate::tensor_file::{Element, Layout};

const MAGIC: &[u8] = b"\x93NUMPY";

/// numpy itself refuses headers beyond 10,000 bytes unless told otherwise.
const MAX_HEADER: u64 = 64 * 1024;

/// Finds the hidden states in an .npy file, which is one array.
///
/// The header is parsed here: the crates for it take any Python literal, and overflow on a shape that is too large.
pub(crate) fn hidden_states(file: &InputFile, tensor: Option<&str>) -> Result<Layout, DataError> {
    let path = file.path().display();
    let damaged = |why: &dyn std::fmt::Display| {
        DataError::corrupt(format!("{path} is no intact .npy file: {why}; make or copy it again"))
    };
    if let Some(tensor) = tensor {
        return Err(DataError::argument(format!(
            "{path} holds one array without a name; leave #{tensor} away"
        )));
    }
    let start = file.bytes(0, file.size().min(12))?;
    let (length, length_ends) = match start.get(6) {
        _ if !start.starts_with(MAGIC) => return Err(damaged(&"it does not start as one")),
        Some(1) if start.len() >= 10 => (u64::from(u16::from_le_bytes([start[8], start[9]])), 10),
        Some(2 | 3) if start.len() == 12 => {
            (u64::from(u32::from_le_bytes([start[8], start[9], start[10], start[11]])), 12)
        }
        Some(version @ (0 | 4..)) => {
            return Err(DataError::format(format!(
                "{path} is of .npy version {version}; save it with a numpy of version 1 or 2"
            )));
        }
        _ => return Err(damaged(&format_args!("{} bytes are too few", start.len()))),
    };
    if length > MAX_HEADER {
        return Err(damaged(&format_args!("a header of {length} bytes")));
    }
    let text = file.bytes(length_ends, length)?;
    let Header { descr, fortran_order, shape } = Parser(&text).header().ok_or_else(|| {
        damaged(&format_args!("its header {:?} is none of a plain array", String::from_utf8_lossy(&text)))
    })?;
    let element = match descr {
        "<f2" => Element::F16,
        "<f4" => Element::F32,
        "<f8" => Element::F64,
        _ => {
            let order = if descr.starts_with('>') { "big-endian " } else { "" };
            return Err(DataError::format(format!(
                "{path} is of {order}type {descr:?}; convert it in Python with np.save(path, array.astype('<f4'))"
            )));
        }
    };
    if fortran_order {
        return Err(DataError::format(format!(
            "{path} is stored column by column (Fortran order); convert it in Python with \
             np.save(path, np.ascontiguousarray(array))"
        )));
    }
    let values = shape.iter().try_fold(element.bytes() as u64, |size, &n| size.checked_mul(n as u64));
    let data = file.size() - length_ends - length;
    if values != Some(data) {
        return Err(damaged(&format_args!(
            "shape {shape:?} of type {descr} does not take the {data} bytes of values"
        )));
    }
    Layout::new(&path.to_string(), None, element, &shape, length_ends + length)
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

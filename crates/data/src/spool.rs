use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use ndarray::{Array2, ArrayViewMut2};

use crate::dataset::{Source, assert_rows};
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, read_values};

/// Bytes that are written at once, and that rows come in beyond the limit before they have to be.
const BLOCK: usize = 1 << 20;

/// Numbers as they come in; half floats as their bits.
#[derive(Clone, Copy, Debug)]
pub enum Floats<'a> {
    /// 32 bits.
    F32(&'a [f32]),
    /// IEEE half precision.
    F16(&'a [u16]),
    /// The upper half of 32 bits.
    Bf16(&'a [u16]),
}

/// Rows of one width that come in piece by piece: the first ones stay in memory, up to a limit, the others go to a
/// temporary file.
///
/// The file has no name that anybody could see, and is gone with the spool, however the process ends. Half floats are
/// kept in 16 bits.
pub struct Spool {
    name: String,
    limit: usize,
    folder: PathBuf,
    block: usize,
    takes_invalid: bool,
    /// Name and width of the first piece.
    first: Option<(String, usize)>,
    rows: usize,
    /// Rows that have found their place; those in memory come first, and hold `kept` bytes.
    segments: Vec<Segment>,
    kept: usize,
    file: Option<(File, u64)>,
    /// The rows after these; all but the last block wait to be written.
    pending: VecDeque<Block>,
}

impl Spool {
    /// A spool that keeps about `limit` bytes in memory and the rest in a file in `folder`, which is made when it is
    /// needed; messages call the whole of it `name`.
    pub fn new(name: impl Into<String>, limit: usize, folder: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            limit,
            folder: folder.into(),
            block: BLOCK,
            takes_invalid: false,
            first: None,
            rows: 0,
            segments: vec![],
            kept: 0,
            file: None,
            pending: VecDeque::new(),
        }
    }

    /// Takes rows that hold a value that is not finite as they are: somebody else leaves them out later.
    pub fn taking_invalid(self, takes_invalid: bool) -> Self {
        Self { takes_invalid, ..self }
    }

    /// Copies the rows of a piece, `d_in` values to a row, which messages call `name`. It does not touch the disk:
    /// [`Spool::spill`] is to follow while [`Spool::is_over`].
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` if the values are not whole rows, or are of another width than those before; `NOT_FINITE`;
    /// `OUT_OF_MEMORY`, after which the spool is of no more use.
    pub fn append(&mut self, name: &str, values: Floats, d_in: usize) -> Result<(), DataError> {
        if d_in == 0 || !values.len().is_multiple_of(d_in) {
            return Err(DataError::shape(format!(
                "{name}: {} values are not rows of width {d_in}",
                values.len()
            )));
        }
        let (first, width) = self.first.get_or_insert_with(|| (name.to_owned(), d_in));
        if *width != d_in {
            return Err(DataError::shape(format!(
                "{first} has hidden states of width {width}, {name} of width {d_in}; give rows of one model's width only"
            )));
        }
        if !self.takes_invalid
            && let Some((at, value)) = values.first_non_finite()
        {
            return Err(DataError::not_finite(name, at / d_in, at % d_in, value));
        }
        self.copy(values, d_in)
    }

    /// Whether more rows wait in memory than should: [`Spool::spill`] writes some of them.
    pub fn is_over(&self) -> bool {
        self.pending.len() > 1
    }

    /// Writes a mebibyte or so (at least a row) of what waits, if anything does.
    ///
    /// # Errors
    /// `IO` where the temporary folder is full or cannot be written in; the spool is of no more use then.
    pub fn spill(&mut self) -> Result<(), DataError> {
        let Some(block) = self.pending.pop_front() else { return Ok(()) };
        let offset = self.write(&block.bytes).map_err(|error| self.cannot_keep(error))?;
        let grows = self
            .segments
            .last()
            .is_some_and(|last| last.element == block.element && matches!(last.place, Place::File { .. }));
        if !grows {
            let Block { first_row, element, .. } = block;
            self.segments.push(Segment { first_row, element, place: Place::File { offset } });
        }
        Ok(())
    }

    /// All rows, to be read in any order from several threads.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if there are none.
    pub fn finish(mut self) -> Result<Box<dyn Source>, DataError> {
        let Some((_, d_in)) = self.first.filter(|_| self.rows > 0) else {
            return Err(DataError::argument(format!(
                "{}: no rows; give at least one hidden state",
                self.name
            )));
        };
        self.segments.extend(self.pending.into_iter().map(Segment::from));
        let file = self.file.map(|(file, size)| InputFile::unnamed(file, &self.folder, size));
        Ok(Box::new(Spooled { name: self.name, rows: self.rows, d_in, segments: self.segments, file }))
    }

    fn copy(&mut self, mut values: Floats, d_in: usize) -> Result<(), DataError> {
        let element = values.element();
        let row_bytes = d_in * element.bytes();
        let rows_in_block = (self.block / row_bytes).max(1);
        while values.len() > 0 {
            let filled = match self.pending.back() {
                Some(block) if block.element == element => block.bytes.len() / row_bytes,
                _ => rows_in_block,
            };
            if filled == rows_in_block {
                self.begin_block(element);
                continue;
            }
            let rows = (rows_in_block - filled).min(values.len() / d_in);
            let (now, later) = values.split_at(rows * d_in);
            let block = self.pending.back_mut().expect("it has room");
            if block.bytes.try_reserve(rows * row_bytes).is_err() {
                return Err(DataError::out_of_memory(format!(
                    "{}: no memory for {} more bytes of rows; close other programs, or let it take less",
                    self.name,
                    rows * row_bytes
                )));
            }
            now.write_to(&mut block.bytes);
            self.rows += rows;
            values = later;
        }
        Ok(())
    }

    /// Begins a block of rows; the one before, if there still is room, stays in memory for good.
    fn begin_block(&mut self, element: Element) {
        if let Some(block) = self.pending.back_mut() {
            block.bytes.shrink_to_fit();
        }
        if self.pending.len() == 1 && self.file.is_none() {
            let bytes = self.pending[0].bytes.len();
            if self.kept + bytes <= self.limit {
                self.kept += bytes;
                self.segments.extend(self.pending.pop_front().map(Segment::from));
            }
        }
        self.pending.push_back(Block { first_row: self.rows, element, bytes: vec![] });
    }

    /// Appends to the file; gives where.
    fn write(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let (file, size) = match &mut self.file {
            Some(file) => file,
            none => none.insert((tempfile::tempfile_in(&self.folder)?, 0)),
        };
        file.write_all(bytes)?;
        let offset = *size;
        *size += bytes.len() as u64;
        Ok(offset)
    }

    fn cannot_keep(&self, error: io::Error) -> DataError {
        let variable = if cfg!(windows) { "TMP" } else { "TMPDIR" };
        let advice = format!("make room there, or set {variable} to a folder on a larger disk");
        DataError::io("keep rows in the temporary folder", &self.folder, error, &advice)
    }
}

/// Rows of one element that lie together.
struct Segment {
    first_row: usize,
    element: Element,
    place: Place,
}

enum Place {
    Memory(Vec<u8>),
    File { offset: u64 },
}

/// Rows in memory, little-endian.
struct Block {
    first_row: usize,
    element: Element,
    bytes: Vec<u8>,
}

impl From<Block> for Segment {
    fn from(Block { first_row, element, bytes }: Block) -> Self {
        Self { first_row, element, place: Place::Memory(bytes) }
    }
}

/// What a [`Spool`] has become.
struct Spooled {
    name: String,
    rows: usize,
    d_in: usize,
    segments: Vec<Segment>,
    file: Option<InputFile>,
}

impl Spooled {
    fn fill(&self, start: usize, mut out: &mut [f32]) -> Result<(), DataError> {
        let mut row = start;
        while !out.is_empty() {
            let at = self.segments.partition_point(|segment| segment.first_row <= row) - 1;
            let end = self.segments.get(at + 1).map_or(self.rows, |next| next.first_row);
            let Segment { first_row, element, place } = &self.segments[at];
            let values = out.len().min((end - row) * self.d_in);
            let (now, later) = out.split_at_mut(values);
            let skipped = (row - first_row) * self.d_in * element.bytes();
            match (place, &self.file) {
                (Place::Memory(bytes), _) => {
                    element.decode(&bytes[skipped..][..values * element.bytes()], now);
                }
                (Place::File { offset }, Some(file)) => {
                    read_values(file, *element, offset + skipped as u64, now)?
                }
                (Place::File { .. }, None) => unreachable!("a segment in no file"),
            }
            out = later;
            row += values / self.d_in;
        }
        Ok(())
    }
}

impl Source for Spooled {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn d_in(&self) -> usize {
        self.d_in
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert_rows(self, start, &out);
        if let Some(values) = out.as_slice_mut() {
            return self.fill(start, values);
        }
        let mut values = Array2::zeros(out.raw_dim());
        self.fill(start, values.as_slice_mut().expect("new arrays are contiguous"))?;
        out.assign(&values);
        Ok(())
    }
}

impl<'a> Floats<'a> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(bits) | Self::Bf16(bits) => bits.len(),
        }
    }

    fn element(&self) -> Element {
        match self {
            Self::F32(_) => Element::F32,
            Self::F16(_) => Element::F16,
            Self::Bf16(_) => Element::BF16,
        }
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        fn pair<'a, T>(
            (now, later): (&'a [T], &'a [T]),
            of: fn(&'a [T]) -> Floats<'a>,
        ) -> (Floats<'a>, Floats<'a>) {
            (of(now), of(later))
        }
        match self {
            Self::F32(values) => pair(values.split_at(at), Floats::F32),
            Self::F16(bits) => pair(bits.split_at(at), Floats::F16),
            Self::Bf16(bits) => pair(bits.split_at(at), Floats::Bf16),
        }
    }

    fn first_non_finite(&self) -> Option<(usize, f32)> {
        // NaN and infinities are the numbers whose exponent has all bits set
        fn find(bits: &[u16], exponent: u16) -> Option<usize> {
            bits.iter().position(|bits| bits & exponent == exponent)
        }
        match self {
            Self::F32(values) => {
                values.iter().position(|value| !value.is_finite()).map(|at| (at, values[at]))
            }
            Self::F16(bits) => find(bits, 0x7c00).map(|at| (at, half::f16::from_bits(bits[at]).to_f32())),
            Self::Bf16(bits) => find(bits, 0x7f80).map(|at| (at, half::bf16::from_bits(bits[at]).to_f32())),
        }
    }

    fn write_to(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::F32(values) => write_words(bytes, values, |value| value.to_le_bytes()),
            Self::F16(bits) | Self::Bf16(bits) => write_words(bytes, bits, |bits| bits.to_le_bytes()),
        }
    }
}

fn write_words<T: Copy, const N: usize>(bytes: &mut Vec<u8>, values: &[T], word: impl Fn(T) -> [u8; N]) {
    let start = bytes.len();
    bytes.resize(start + N * values.len(), 0);
    for (to, &value) in bytes[start..].chunks_exact_mut(N).zip(values) {
        to.copy_from_slice(&word(value));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ndarray::{Array2, s};
    use proptest::prelude::*;

    use super::*;
    use crate::dataset::Dataset;

    /// Rows that come in together, of numbers that half floats hold exactly.
    #[derive(Clone, Debug)]
    struct Piece {
        rows: usize,
        kind: usize,
    }

    fn piece() -> impl Strategy<Value = Piece> {
        (0..12usize, 0..3usize).prop_map(|(rows, kind)| Piece { rows, kind })
    }

    fn append(
        spool: &mut Spool,
        name: &str,
        values: &[f32],
        d_in: usize,
        kind: usize,
    ) -> Result<(), DataError> {
        let half: Vec<u16> = values.iter().map(|&value| half::f16::from_f32(value).to_bits()).collect();
        let brain: Vec<u16> = values.iter().map(|&value| half::bf16::from_f32(value).to_bits()).collect();
        let floats = [Floats::F32(values), Floats::F16(&half), Floats::Bf16(&brain)][kind];
        spool.append(name, floats, d_in)
    }

    fn spool(limit: usize, block: usize) -> Spool {
        Spool { block, ..Spool::new("data", limit, std::env::temp_dir()) }
    }

    fn in_memory(spool: &Spool) -> usize {
        let kept = spool.segments.iter().map(|segment| match &segment.place {
            Place::Memory(bytes) => bytes.capacity(),
            Place::File { .. } => 0,
        });
        kept.sum::<usize>() + spool.pending.iter().map(|block| block.bytes.capacity()).sum::<usize>()
    }

    proptest! {
        #[test]
        fn what_comes_out_is_what_went_in(
            pieces in prop::collection::vec(piece(), 1..24),
            d_in in 1..9usize,
            limit in 0..1500usize,
            block in 1..200usize,
            spills in any::<bool>(),
            ranges in prop::collection::vec((0.0..1.0f64, 0.0..1.0f64), 8),
        ) {
            let mut spool = spool(limit, block);
            let mut expected: Vec<f32> = vec![];
            for (index, Piece { rows, kind }) in pieces.iter().enumerate() {
                let values: Vec<f32> = (0..rows * d_in).map(|at| ((at + 31 * index) % 255) as f32 - 127.0).collect();
                append(&mut spool, "piece", &values, d_in, *kind).unwrap();
                expected.extend(values);
                while spills && spool.is_over() {
                    spool.spill().unwrap();
                }
                let longest = 2 * block.max(4 * d_in).max(8);
                prop_assert!(!spills || in_memory(&spool) <= limit + longest, "{} bytes", in_memory(&spool));
            }
            let rows = expected.len() / d_in;
            if rows == 0 {
                prop_assert_eq!(spool.finish().err().unwrap().code(), "INVALID_ARGUMENT");
                return Ok(());
            }
            let expected = Array2::from_shape_vec((rows, d_in), expected).unwrap();
            let data = spool.finish().unwrap();
            prop_assert_eq!((data.rows(), data.d_in()), expected.dim());
            for (from, length) in ranges {
                let start = (from * rows as f64) as usize;
                let end = start + (length * (rows - start + 1) as f64) as usize;
                // every other row: not contiguous
                let mut out = Array2::zeros((2 * (end - start), d_in));
                data.read(start, out.slice_mut(s![..;2, ..])).unwrap();
                prop_assert_eq!(out.slice(s![..;2, ..]), expected.slice(s![start..end, ..]));
            }
        }
    }

    #[test]
    fn several_threads_read_at_once() {
        let mut spool = spool(1 << 12, 1 << 10);
        let row = |row: usize| [row as f32, -(row as f32), 0.5 * row as f32];
        for at in 0..3000 {
            append(&mut spool, "row", &row(at), 3, 0).unwrap();
            while spool.is_over() {
                spool.spill().unwrap();
            }
        }
        let data = Arc::new(Dataset::new(vec![spool.finish().unwrap()]).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let data = data.clone();
                std::thread::spawn(move || {
                    let rows: Vec<usize> = (0..3000).map(|at| (at * 7 + thread * 501) % 3000).collect();
                    for at in rows {
                        let mut out = Array2::zeros((1, 3));
                        data.read(at..at + 1, out.view_mut()).unwrap();
                        assert_eq!(out.row(0).to_vec(), row(at));
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn what_is_not_finite_is_named_at_once() {
        for kind in 0..3 {
            for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
                let mut spool = spool(0, 64);
                append(&mut spool, "data[36]", &[1.0; 40], 4, kind).unwrap();
                let mut values = [0.0; 40];
                values[5 * 4 + 2] = value;
                let error = append(&mut spool, "data[37]", &values, 4, kind).unwrap_err();
                assert_eq!(error.code(), "NOT_FINITE");
                let expected = format!("data[37]: row 5, column 2 is {shown}, not a finite");
                assert!(error.to_string().starts_with(&expected), "{error}");
            }
        }
    }

    #[test]
    fn rows_of_another_width_are_named() {
        let mut spool = spool(0, 64);
        append(&mut spool, "data[0]", &[1.0; 8], 4, 0).unwrap();
        let error = append(&mut spool, "data[1]", &[1.0; 9], 3, 0).unwrap_err();
        assert_eq!(error.code(), "SHAPE_MISMATCH");
        assert!(
            error.to_string().starts_with("data[0] has hidden states of width 4, data[1] of width 3;"),
            "{error}"
        );
        for (values, d_in) in [(&[1.0; 7][..], 4), (&[1.0], 0)] {
            assert_eq!(append(&mut spool, "x", values, d_in, 0).unwrap_err().code(), "SHAPE_MISMATCH");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_in_is_named() {
        let mut spool = Spool { block: 8, ..Spool::new("data", 0, "/no/such folder") };
        append(&mut spool, "x", &[1.0; 8], 2, 0).unwrap();
        let error = spool.spill().unwrap_err();
        assert_eq!(error.code(), "IO");
        let message = error.to_string();
        assert!(
            message.starts_with("cannot keep rows in the temporary folder /no/such folder: "),
            "{message}"
        );
        assert!(message.contains("make room there, or set T"), "{message}");
    }
}

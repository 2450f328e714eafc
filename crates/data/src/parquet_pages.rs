use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::errors::ParquetError;
use parquet::schema::types::{ColumnDescPtr, ColumnDescriptor};

use crate::error::DataError;
use crate::input_file::InputFile;
use crate::thrift::{FALSE, I32, STRUCT, TRUE, Thrift};
use crate::unpack::{Codec, unpack};

/// What the values of a column are and how they make rows.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) kind: ColumnDescPtr,
    /// Values of each row.
    pub(crate) width: usize,
    pub(crate) max_rep: i16,
    pub(crate) max_def: i16,
}

impl Leaf {
    /// Bytes of a value; `None` for a type that is not read.
    fn value_bytes(&self) -> Option<usize> {
        match self.kind.physical_type() {
            Physical::FLOAT | Physical::INT32 => Some(4),
            Physical::DOUBLE | Physical::INT64 => Some(8),
            Physical::FIXED_LEN_BYTE_ARRAY => usize::try_from(self.kind.type_length()).ok(),
            _ => None,
        }
    }
}

/// Where the pages of a column lie within a row group.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    pub(crate) codec: Option<Codec>,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Values, nulls included.
    pub(crate) values: usize,
}

/// Why pages cannot be read on.
pub(crate) enum Stop {
    Error(DataError),
    Damaged(String),
    /// A row of the row group that is no row of hidden states.
    Row(usize, &'static str),
}

impl From<DataError> for Stop {
    fn from(error: DataError) -> Self {
        Self::Error(error)
    }
}

impl From<ParquetError> for Stop {
    fn from(error: ParquetError) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl Stop {
    /// `name` is the column's, `first_row` the number of the row group's first row.
    pub(crate) fn into_error(self, name: &str, first_row: usize) -> DataError {
        match self {
            Self::Error(error) => error,
            Self::Damaged(why) => {
                DataError::corrupt(format!("{name} has damaged pages: {why}; make or copy the file again"))
            }
            Self::Row(row, why) => {
                DataError::format(format!("{name}: row {} {why}; remove or repair that row", first_row + row))
            }
        }
    }
}

/// A column of a row group, read from its start on.
///
/// Levels, which say where rows start and what is null, are checked here and taken off: what is left are plain values.
/// Those that are encoded go through the reader of the crate, which gets pages of a bounded size.
pub(crate) struct Pages {
    leaf: Leaf,
    chunk: Chunk,
    /// Byte where the next page starts.
    position: u64,
    /// Value where it starts.
    next_page: usize,
    /// Next value to hand out.
    next_value: usize,
    page: Option<Loaded>,
    queue: Queue,
    decoder: ColumnReader,
}

/// What is left of the current page.
enum Loaded {
    Plain { bytes: Vec<u8>, at: usize },
    Encoded,
}

impl Pages {
    pub(crate) fn new(leaf: Leaf, chunk: Chunk) -> Self {
        let queue = Queue::default();
        let flat = ColumnDescriptor::new(leaf.kind.self_type_ptr(), 0, 0, leaf.kind.path().clone());
        let decoder = get_column_reader(Arc::new(flat), Box::new(queue.clone()));
        Self { position: chunk.start, leaf, chunk, next_page: 0, next_value: 0, page: None, queue, decoder }
    }

    /// Whether value `from` of this chunk is still to come.
    pub(crate) fn is_at_or_before(&self, chunk: &Chunk, from: usize) -> bool {
        self.chunk == *chunk && self.next_value <= from
    }

    /// Hands out the bytes of `count` values from `from` on.
    pub(crate) fn read(
        &mut self,
        file: &InputFile,
        from: usize,
        count: usize,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<(), Stop> {
        let end = from + count;
        while self.next_value < end {
            if self.next_value == self.next_page {
                self.load(file, from)?;
                continue;
            }
            let is_wanted = self.next_value >= from;
            let until = if is_wanted { end } else { from };
            let values = until.min(self.next_page) - self.next_value;
            self.advance(values, is_wanted, take)?;
        }
        Ok(())
    }

    /// Checks the levels of all pages.
    pub(crate) fn check_levels(&mut self, file: &InputFile) -> Result<(), Stop> {
        while self.next_page < self.chunk.values {
            self.load(file, 0)?;
            self.next_value = self.next_page;
        }
        Ok(())
    }

    /// Number of values of the first row, as far as the first page that has some goes.
    pub(crate) fn first_length(&mut self, file: &InputFile) -> Result<usize, Stop> {
        loop {
            let (header, bytes) = self.next(file)?;
            let Some(data) = header.data.as_ref().filter(|data| data.values > 0) else { continue };
            let (levels, _) = self.split(&header, data, &bytes)?;
            // it ends where the second level 0 stands
            let mut length = data.values;
            runs(levels.repetition, 1, data.values, |at, count, level| {
                let next = if at == 0 { 1 } else { at };
                let is_next = level == 0 && at + count > 1;
                if is_next {
                    length = next;
                }
                !is_next
            });
            return Ok(length);
        }
    }

    fn advance(&mut self, values: usize, is_wanted: bool, take: &mut impl FnMut(&[u8])) -> Result<(), Stop> {
        let width = self.leaf.value_bytes().unwrap_or(1);
        let values = match &mut self.page {
            Some(Loaded::Plain { bytes, at }) => {
                let part = &bytes[*at..*at + values * width];
                *at += part.len();
                if is_wanted {
                    take(part);
                }
                values
            }
            _ => {
                // in pieces that stay in the cache
                const AT_ONCE: usize = 64 * 1024;
                let values = values.min(AT_ONCE);
                decode(&mut self.decoder, values, is_wanted, take)?;
                values
            }
        };
        self.next_value += values;
        Ok(())
    }

    /// Reads pages up to the next one with values from `from` on.
    fn load(&mut self, file: &InputFile, from: usize) -> Result<(), Stop> {
        let header_at = self.position;
        let header = self.header(file)?;
        if let Some(data) = &header.data
            && (data.values == 0 || self.next_page + data.values <= from)
        {
            // nobody wants a value of this page; one without any would end the crate's reading
            self.next_page += data.values;
            self.next_value = self.next_page;
            self.position += header.packed as u64;
            return Ok(());
        }
        self.position = header_at;
        let (header, bytes) = self.next(file)?;
        if let Some((values, encoding)) = header.dictionary {
            let fits = self.leaf.value_bytes().and_then(|width| values.checked_mul(width));
            if fits.is_none_or(|fits| fits > bytes.len()) {
                return Err(Stop::Damaged(format!(
                    "a dictionary of {values} values in {} bytes",
                    bytes.len()
                )));
            }
            let page = Page::DictionaryPage {
                buf: bytes.into(),
                num_values: values as u32,
                encoding,
                is_sorted: false,
            };
            self.queue.push(page);
            return Ok(());
        }
        let Some(data) = &header.data else { return Ok(()) };
        let (levels, values_at) = self.split(&header, data, &bytes)?;
        self.check(&levels, data.values)?;
        self.page = Some(if data.encoding == Encoding::PLAIN {
            let needed = self.leaf.value_bytes().and_then(|width| data.values.checked_mul(width));
            if needed.is_none_or(|needed| needed > bytes.len() - values_at) {
                return Err(Stop::Damaged(format!(
                    "{} values in {} bytes",
                    data.values,
                    bytes.len() - values_at
                )));
            }
            Loaded::Plain { bytes, at: values_at }
        } else {
            self.queue.push(Page::DataPage {
                buf: bytes[values_at..].to_vec().into(),
                num_values: data.values as u32,
                encoding: data.encoding,
                def_level_encoding: Encoding::RLE,
                rep_level_encoding: Encoding::RLE,
                statistics: None,
            });
            Loaded::Encoded
        });
        self.next_page += data.values;
        Ok(())
    }

    /// The next page, unpacked.
    fn next(&mut self, file: &InputFile) -> Result<(Header, Vec<u8>), Stop> {
        let header = self.header(file)?;
        let packed = file.bytes(self.position, header.packed as u64)?;
        self.position += header.packed as u64;
        // the levels of a page of version 2 are never packed
        let plain = header.data.as_ref().and_then(|data| data.levels).map_or(0, |(rep, def, _)| rep + def);
        let is_packed = header.data.as_ref().and_then(|data| data.levels).is_none_or(|(.., packed)| packed);
        let (Some(levels), Some(size)) = (packed.get(..plain), header.size.checked_sub(plain)) else {
            return Err(Stop::Damaged("levels longer than their page".to_owned()));
        };
        let bytes = match self.chunk.codec {
            Some(codec) if is_packed => {
                let mut values = Vec::new();
                if size > 0 {
                    unpack(codec, &packed[plain..], size, &mut values).map_err(Stop::Damaged)?;
                }
                if plain == 0 { values } else { [levels, &values].concat() }
            }
            _ => packed,
        };
        Ok((header, bytes))
    }

    fn header(&mut self, file: &InputFile) -> Result<Header, Stop> {
        // with statistics of a few texts it is longer
        for length in [256, 1 << 20] {
            let left = self.chunk.end - self.position;
            let bytes = file.bytes(self.position, left.min(length))?;
            let mut reader = Thrift(&bytes);
            let Some(header) = Header::read(&mut reader) else { continue };
            self.position += (bytes.len() - reader.0.len()) as u64;
            if header.packed as u64 > self.chunk.end - self.position {
                return Err(Stop::Damaged(format!(
                    "a page of {} bytes beyond the end of its column",
                    header.packed
                )));
            }
            let values = header.data.as_ref().map_or(0, |data| data.values);
            if values > self.chunk.values - self.next_page {
                return Err(Stop::Damaged(format!(
                    "more values than the {} of the column",
                    self.chunk.values
                )));
            }
            return Ok(header);
        }
        Err(Stop::Damaged("a page that does not start as one".to_owned()))
    }

    /// The levels of a page, and where its values start.
    fn split<'a>(&self, header: &Header, data: &Data, bytes: &'a [u8]) -> Result<(Levels<'a>, usize), Stop> {
        let short = || Stop::Damaged(format!("a page of {} bytes is shorter than its levels", header.size));
        if let Some((repetition, definition, _)) = data.levels {
            let end = repetition + definition;
            let levels = Levels {
                repetition: bytes.get(..repetition).ok_or_else(short)?,
                definition: bytes.get(repetition..end).ok_or_else(short)?,
            };
            return Ok((levels, end));
        }
        if !data.are_levels_rle {
            return Err(Stop::Damaged("levels in a form that has long been given up".to_owned()));
        }
        let mut at = 0;
        let mut part = |max: i16| -> Result<&'a [u8], Stop> {
            if max == 0 {
                return Ok(&[]);
            }
            let (length, rest) = bytes[at..].split_first_chunk().ok_or_else(short)?;
            let length = u32::from_le_bytes(*length) as usize;
            at += 4 + length;
            rest.get(..length).ok_or_else(short)
        };
        let levels = Levels { repetition: part(self.leaf.max_rep)?, definition: part(self.leaf.max_def)? };
        Ok((levels, at))
    }

    /// Checks that the values of a page are all there and make whole rows.
    fn check(&self, levels: &Levels, values: usize) -> Result<(), Stop> {
        let (width, first) = (self.leaf.width, self.next_page);
        let mut null = None;
        if self.leaf.max_def > 0 {
            let bits = u16::BITS - (self.leaf.max_def as u16).leading_zeros();
            let seen = runs(levels.definition, bits, values, |at, _, level| {
                if level != self.leaf.max_def as u64 {
                    null = Some(first + at);
                }
                null.is_none()
            });
            if null.is_none() && seen != Some(values) {
                return Err(Stop::Damaged("levels that end early".to_owned()));
            }
        }
        let mut uneven = None;
        if self.leaf.max_rep > 0 {
            let seen = runs(levels.repetition, 1, values, |at, count, level| {
                let at = first + at;
                // where the next row should start, and where the run ends
                let (start, end) = (at.next_multiple_of(width), at + count);
                if level == 0 {
                    if start != at {
                        uneven = Some(at);
                    } else if count > 1 && width > 1 {
                        uneven = Some(at + 1);
                    }
                } else if start < end {
                    uneven = Some(start);
                }
                uneven.is_none()
            });
            if uneven.is_none() && seen != Some(values) {
                return Err(Stop::Damaged("levels that end early".to_owned()));
            }
        }
        match (null, uneven) {
            (Some(null), uneven) if uneven.is_none_or(|uneven| null <= uneven) => {
                Err(Stop::Row(null / width, "is null, empty or holds a null"))
            }
            (_, Some(uneven)) => {
                // what starts too late belongs to the row before
                let row = (uneven - 1) / width;
                Err(Stop::Row(row, "has another length than the rows before"))
            }
            _ => Ok(()),
        }
    }
}

struct Levels<'a> {
    repetition: &'a [u8],
    definition: &'a [u8],
}

/// Calls `run` with start, length and level of each run of equal levels (or of single ones), until it says no; the
/// number of levels seen, if they are in order.
fn runs(
    bytes: &[u8],
    bits: u32,
    count: usize,
    mut run: impl FnMut(usize, usize, u64) -> bool,
) -> Option<usize> {
    let mut reader = Thrift(bytes);
    let mut at = 0;
    while at < count {
        let header = reader.varint()?;
        let length = usize::try_from(header >> 1).ok()?;
        if header & 1 == 0 {
            let (&level, left) = reader.0.split_first()?;
            reader.0 = left;
            let length = length.min(count - at);
            if length == 0 || !run(at, length, level.into()) {
                return Some(at);
            }
            at += length;
        } else {
            let packed = length.checked_mul(bits as usize)?;
            let (groups, left) = reader.0.split_at_checked(packed)?;
            reader.0 = left;
            for group in groups.chunks_exact(bits as usize) {
                let word = group.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
                for lane in 0..8.min(count - at) as u32 {
                    let level = word >> (lane * bits) & ((1 << bits) - 1);
                    if !run(at, 1, level) {
                        return Some(at);
                    }
                    at += 1;
                }
            }
        }
    }
    Some(at)
}

/// What a page says of itself.
struct Header {
    /// Bytes in the file, and unpacked.
    packed: usize,
    size: usize,
    data: Option<Data>,
    /// Number of values, encoding.
    dictionary: Option<(usize, Encoding)>,
}

struct Data {
    values: usize,
    encoding: Encoding,
    are_levels_rle: bool,
    /// In a page of version 2: bytes of repetition and definition levels, and whether the values are packed.
    levels: Option<(usize, usize, bool)>,
}

impl Header {
    fn read(reader: &mut Thrift) -> Option<Self> {
        let (mut kind, mut packed, mut size) = (-1, -1, -1);
        let (mut data, mut data2, mut dictionary) = (None, None, None);
        reader.fields(|reader, id, field| {
            match (id, field) {
                (1, I32) => kind = reader.integer()?,
                (2, I32) => size = reader.integer()?,
                (3, I32) => packed = reader.integer()?,
                (5, STRUCT) => data = Some(Integers::read(reader)?),
                (7, STRUCT) => dictionary = Some(Integers::read(reader)?),
                (8, STRUCT) => data2 = Some(Integers::read(reader)?),
                _ => return Some(false),
            }
            Some(true)
        })?;
        let mut header = Self {
            packed: i32::try_from(packed).ok()?.try_into().ok()?,
            size: i32::try_from(size).ok()?.try_into().ok()?,
            data: None,
            dictionary: None,
        };
        const RLE: i64 = 3;
        match kind {
            0 => {
                let Integers(fields) = data?;
                header.data = Some(Data {
                    values: count(fields[1])?,
                    encoding: encoding(fields[2]?)?,
                    are_levels_rle: fields[3]? == RLE && fields[4]? == RLE,
                    levels: None,
                });
            }
            2 => {
                let Integers(fields) = dictionary?;
                header.dictionary = Some((count(fields[1])?, encoding(fields[2]?)?));
            }
            3 => {
                let Integers(fields) = data2?;
                header.data = Some(Data {
                    values: count(fields[1])?,
                    encoding: encoding(fields[4]?)?,
                    are_levels_rle: true,
                    levels: Some((count(fields[6])?, count(fields[5])?, fields[7].unwrap_or(1) == 1)),
                });
            }
            // an index, or a kind of later times
            _ => {}
        }
        Some(header)
    }
}

/// The fields of a struct that are whole numbers or truth values, by number.
struct Integers([Option<i64>; 8]);

impl Integers {
    fn read(reader: &mut Thrift) -> Option<Self> {
        let mut fields = [None; 8];
        reader.fields(|reader, id, field| {
            let Some(target) = usize::try_from(id).ok().and_then(|id| fields.get_mut(id)) else {
                return Some(false);
            };
            *target = Some(match field {
                I32 => reader.integer()?,
                TRUE => 1,
                FALSE => 0,
                _ => return Some(false),
            });
            Some(true)
        })?;
        Some(Self(fields))
    }
}

fn count(field: Option<i64>) -> Option<usize> {
    i32::try_from(field?).ok()?.try_into().ok()
}

fn encoding(number: i64) -> Option<Encoding> {
    Some(match number {
        0 => Encoding::PLAIN,
        2 => Encoding::PLAIN_DICTIONARY,
        5 => Encoding::DELTA_BINARY_PACKED,
        8 => Encoding::RLE_DICTIONARY,
        9 => Encoding::BYTE_STREAM_SPLIT,
        _ => return None,
    })
}

/// Decodes values and hands them out, if they are wanted, as the bytes that a plain page would have.
fn decode(
    decoder: &mut ColumnReader,
    count: usize,
    is_wanted: bool,
    take: &mut impl FnMut(&[u8]),
) -> Result<(), Stop> {
    macro_rules! decode {
        ($reader:expr, $bytes:expr) => {{
            let mut values = Vec::with_capacity(count);
            while values.len() < count {
                let (_, read, _) = $reader.read_records(count - values.len(), None, None, &mut values)?;
                if read == 0 {
                    return Err(ends_early());
                }
            }
            if is_wanted {
                let bytes: Vec<u8> = values.iter().flat_map($bytes).collect();
                take(&bytes);
            }
        }};
    }
    match decoder {
        ColumnReader::FloatColumnReader(reader) => decode!(reader, |value| value.to_le_bytes()),
        ColumnReader::DoubleColumnReader(reader) => decode!(reader, |value| value.to_le_bytes()),
        ColumnReader::Int32ColumnReader(reader) => decode!(reader, |value| value.to_le_bytes()),
        ColumnReader::Int64ColumnReader(reader) => decode!(reader, |value| value.to_le_bytes()),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            decode!(reader, |value| value.data().iter().copied())
        }
        _ => return Err(Stop::Damaged("values of another type".to_owned())),
    }
    Ok(())
}

fn ends_early() -> Stop {
    Stop::Damaged("a page that ends early".to_owned())
}

/// Pages on their way to the crate's reader.
#[derive(Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<Page>>>);

impl Queue {
    fn push(&self, page: Page) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(page);
    }
}

impl Iterator for Queue {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Queue {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front())
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        Err(ParquetError::General("pages are read in order".to_owned()))
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.get_next_page().map(drop)
    }
}

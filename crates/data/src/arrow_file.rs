use std::path::Path;
use std::sync::Arc;

use arrow_ipc::{CompressionType, Endianness, MessageHeader, Precision, RecordBatch, Schema, Type};
use ndarray::{ArrayViewMut2, Axis, s};

use crate::column::Column;
use crate::dataset::{Source, assert_rows};
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, Integer, Number, read_integers, read_values};
use crate::open::{FileSource, Wanted};
use crate::recent::Recent;
use crate::table::{self, Field};
use crate::unpack::{Codec, unpack};

const MAGIC: &[u8] = b"ARROW1";

/// Hidden states in an Arrow file or stream: a column of lists of floats, all of one length.
pub(crate) struct ArrowSource {
    file: Arc<InputFile>,
    name: String,
    element: Element,
    d_in: usize,
    /// Record batches that have rows.
    batches: Vec<Batch>,
    rows: usize,
    columns: Vec<(Column, Integer)>,
    unpacked: Arc<Recent<Unpacked>>,
}

/// Where the values to read start.
enum Part<'a> {
    InFile(u64),
    Unpacked(&'a [u8]),
}

/// A buffer that was unpacked, in memory that is used again for the next one: fresh memory costs more than unpacking.
#[derive(Default)]
pub(crate) struct Unpacked {
    batch: usize,
    packed: Vec<u8>,
    bytes: Vec<u8>,
}

struct Batch {
    start: usize,
    rows: usize,
    states: Values,
    /// Of each column, or why it has none to read.
    columns: Vec<Result<Values, String>>,
}

/// Where the values of a column lie in a batch.
#[derive(Clone, Copy)]
struct Values {
    buffer: Stored,
    /// Byte within the buffer, once unpacked, of the first value.
    start: usize,
}

/// A buffer as a batch has it.
#[derive(Clone, Copy)]
struct Stored {
    /// Byte of the file.
    offset: u64,
    /// Bytes in the file.
    length: u64,
    /// Codec and bytes when unpacked; absent for what lies there as it is.
    packed: Option<(Codec, usize)>,
}

/// A column as the schema has it.
struct Place {
    kind: Kind,
    /// Nodes, buffers and columns of views that lie before it in a batch.
    nodes: usize,
    buffers: usize,
    views: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    /// Lists of that length, lists with offsets of 4 or of 8 bytes.
    Fixed(usize),
    List(usize),
    Other,
}

/// Finds the hidden states and columns in an Arrow file or stream. The tables that describe it are verified by the crate;
/// values are read where they lie, or unpacked batch by batch.
pub(crate) fn open(
    file: Arc<InputFile>,
    wanted: &Wanted,
    unpacked: Arc<Recent<Unpacked>>,
) -> Result<ArrowSource, DataError> {
    let path = file.path().to_owned();
    let damaged = |why: &dyn std::fmt::Display| damaged(&path, why);
    let mut messages = Messages::open(&file)?;
    let bytes = messages.next()?.ok_or_else(|| damaged(&"it holds no schema"))?.bytes;
    let message = arrow_ipc::root_as_message(&bytes).map_err(|error| damaged(&error))?;
    let schema = message.header_as_schema().ok_or_else(|| damaged(&"it does not start with a schema"))?;
    let (fields, places) = fields(&path, &schema, message.version())?;
    let (states, columns) = table::find(&path, &fields, wanted)?;
    let name = format!("{}#{}", path.display(), fields[states].name);
    let Some(Number::Float(element)) = fields[states].number else {
        unreachable!("hidden states are floats")
    };
    let columns: Vec<(Column, Integer, usize)> = columns
        .into_iter()
        .filter_map(|(column, at)| match fields[at].number {
            Some(Number::Integer(integer)) => Some((column, integer, at)),
            _ => None,
        })
        .collect();

    let mut d_in = match places[fields[states].leaf].kind {
        Kind::Fixed(width) => Some(width),
        _ => None,
    };
    let (mut batches, mut rows, mut count): (Vec<Batch>, usize, usize) = (vec![], 0, 0);
    while let Some(Message { bytes, body }) = messages.next()? {
        let message = arrow_ipc::root_as_message(&bytes).map_err(|error| damaged(&error))?;
        let batch = match message.header_type() {
            MessageHeader::DictionaryBatch => continue,
            _ => message.header_as_record_batch(),
        };
        let batch = batch.ok_or_else(|| damaged(&"a message that is no batch of rows"))?;
        count += 1;
        let reader = BatchReader::new(&file, &name, &batch, body, rows)?;
        if reader.rows == 0 {
            continue;
        }
        let states = reader.states(&places[fields[states].leaf], element, &mut d_in)?;
        let mut values = Vec::with_capacity(columns.len());
        for &(column, integer, at) in &columns {
            values.push(match reader.column(&places[fields[at].leaf], integer, column) {
                // nulls in a column that may never be asked for
                Err(DataError::UnsupportedFormat(why)) => Err(why),
                values => Ok(values?),
            });
        }
        batches.push(Batch { start: rows, rows: reader.rows, states, columns: values });
        rows = rows
            .checked_add(reader.rows)
            .filter(|&rows| rows < 1 << 48)
            .ok_or_else(|| damaged(&"too many rows"))?;
    }
    if let Some(claimed) = messages.batches
        && claimed != count
    {
        return Err(damaged(&format_args!("{count} batches of rows, its end names {claimed}")));
    }
    table::check_rows(&path, rows, file.size())?;
    let Some(d_in) = d_in else {
        return Err(DataError::shape(format!("{name} has no rows, so no width; leave the file out")));
    };
    table::check_width(&name, d_in)?;
    let columns = columns.into_iter().map(|(column, integer, _)| (column, integer)).collect();
    Ok(ArrowSource { name, element, d_in, batches, rows, columns, unpacked, file })
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> DataError {
    DataError::corrupt(format!("{} is no intact Arrow file: {why}; make or copy it again", path.display()))
}

/// The messages of a file, one after the other: what a file has more than a stream, it has at its end.
struct Messages<'a> {
    file: &'a InputFile,
    position: u64,
    end: u64,
    /// Batches of rows that the end of the file names.
    batches: Option<usize>,
}

struct Message {
    bytes: Vec<u8>,
    /// First byte of the body and the one behind it.
    body: (u64, u64),
}

impl<'a> Messages<'a> {
    fn open(file: &'a InputFile) -> Result<Self, DataError> {
        let path = file.path();
        let start = file.bytes(0, file.size().min(8))?;
        if start.starts_with(b"FEA1") {
            return Err(DataError::format(format!(
                "{} is of the first version of Feather; save it with version 2",
                path.display()
            )));
        }
        if !start.starts_with(MAGIC) {
            return Ok(Self { file, position: 0, end: file.size(), batches: None });
        }
        let short = || damaged(path, &format_args!("{} bytes are too few", file.size()));
        let end_at = file.size().checked_sub(10).filter(|&at| at >= 8).ok_or_else(short)?;
        let end = file.bytes(end_at, 10)?;
        let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]).into();
        let footer_at = end_at.checked_sub(length).filter(|&at| at >= 8 && &end[4..] == MAGIC);
        let footer_at = footer_at.ok_or_else(|| damaged(path, &"it does not end as one"))?;
        let footer = file.bytes(footer_at, length)?;
        let footer = arrow_ipc::root_as_footer(&footer).map_err(|error| damaged(path, &error))?;
        let batches = footer.recordBatches().map_or(0, |batches| batches.len());
        Ok(Self { file, position: 8, end: footer_at, batches: Some(batches) })
    }

    fn next(&mut self) -> Result<Option<Message>, DataError> {
        let path = self.file.path();
        if self.end - self.position < 4 {
            return Ok(None);
        }
        let mut length = self.word()?;
        if length == u32::MAX {
            if self.end - self.position < 4 {
                return Err(damaged(path, &"it ends within a message"));
            }
            length = self.word()?;
        }
        if length == 0 {
            return Ok(None);
        }
        let short =
            || damaged(path, &format_args!("a message from byte {} on ends behind it", self.position));
        let start =
            self.position.checked_add(length.into()).filter(|&start| start <= self.end).ok_or_else(short)?;
        let bytes = self.file.bytes(self.position, length.into())?;
        let message = arrow_ipc::root_as_message(&bytes).map_err(|error| damaged(path, &error))?;
        let end = u64::try_from(message.bodyLength()).ok().and_then(|body| start.checked_add(body));
        let end = end.filter(|&end| end <= self.end).ok_or_else(short)?;
        self.position = end;
        Ok(Some(Message { bytes, body: (start, end) }))
    }

    fn word(&mut self) -> Result<u32, DataError> {
        let mut word = [0; 4];
        self.file.read_at(&mut word, self.position)?;
        self.position += 4;
        Ok(u32::from_le_bytes(word))
    }
}

/// The columns of a schema: what each is, and where a batch has it.
fn fields(
    path: &Path,
    schema: &Schema,
    version: arrow_ipc::MetadataVersion,
) -> Result<(Vec<Field>, Vec<Place>), DataError> {
    if schema.endianness() != Endianness::Little {
        return Err(DataError::format(format!(
            "{} is big-endian; save it on another machine",
            path.display()
        )));
    }
    let mut before = Size { has_union_validity: version.0 < 4, ..Size::default() };
    let (mut fields, mut places) = (vec![], vec![]);
    for field in schema.fields().into_iter().flatten() {
        let child = field.children().and_then(|children| (children.len() == 1).then(|| children.get(0)));
        let is_encoded = field.dictionary().is_some();
        let kind = match field.type_type() {
            _ if is_encoded => Kind::Other,
            Type::FixedSizeList => {
                let length =
                    field.type_as_fixed_size_list().and_then(|list| usize::try_from(list.listSize()).ok());
                length.map_or(Kind::Other, Kind::Fixed)
            }
            Type::List => Kind::List(4),
            Type::LargeList => Kind::List(8),
            Type::Int | Type::FloatingPoint => Kind::Plain,
            _ => Kind::Other,
        };
        let is_vector = matches!(kind, Kind::Fixed(_) | Kind::List(_));
        let number = match kind {
            Kind::Plain => number(&field),
            Kind::Fixed(_) | Kind::List(_) => child.as_ref().and_then(number),
            Kind::Other => None,
        };
        let name = field.name().unwrap_or_default().to_owned();
        fields.push(Field { name, number, is_vector, leaf: places.len() });
        places.push(Place { kind, nodes: before.nodes, buffers: before.buffers, views: before.views });
        if before.add(&field).is_none() {
            return Err(DataError::format(format!(
                "{} has a column {} of a type that is not known here; save it without",
                path.display(),
                field.name().unwrap_or_default()
            )));
        }
    }
    Ok((fields, places))
}

fn number(field: &arrow_ipc::Field) -> Option<Number> {
    if field.dictionary().is_some() {
        return None;
    }
    if let Some(float) = field.type_as_floating_point() {
        return Some(Number::Float(match float.precision() {
            Precision::HALF => Element::F16,
            Precision::SINGLE => Element::F32,
            Precision::DOUBLE => Element::F64,
            _ => return None,
        }));
    }
    let integer = field.type_as_int()?;
    Some(Number::Integer(match (integer.bitWidth(), integer.is_signed()) {
        (8, true) => Integer::I8,
        (16, true) => Integer::I16,
        (32, true) => Integer::I32,
        (64, true) => Integer::I64,
        (8, false) => Integer::U8,
        (16, false) => Integer::U16,
        (32, false) => Integer::U32,
        (64, false) => Integer::U64,
        _ => return None,
    }))
}

/// Nodes and buffers that columns take in a batch, and columns whose number of buffers only the batch tells.
#[derive(Default)]
struct Size {
    nodes: usize,
    buffers: usize,
    views: usize,
    has_union_validity: bool,
}

impl Size {
    /// `None` for a type whose layout is not known. How deep and how many fields there are, the verifier bounds.
    fn add(&mut self, field: &arrow_ipc::Field) -> Option<()> {
        self.nodes += 1;
        if field.dictionary().is_some() {
            self.buffers += 2;
            return Some(());
        }
        self.buffers += match field.type_type() {
            Type::Null | Type::RunEndEncoded => 0,
            Type::FixedSizeList | Type::Struct_ => 1,
            Type::Int
            | Type::FloatingPoint
            | Type::Bool
            | Type::Decimal
            | Type::Date
            | Type::Time
            | Type::Timestamp
            | Type::Interval
            | Type::Duration
            | Type::FixedSizeBinary
            | Type::List
            | Type::LargeList
            | Type::Map => 2,
            Type::Binary
            | Type::Utf8
            | Type::LargeBinary
            | Type::LargeUtf8
            | Type::ListView
            | Type::LargeListView => 3,
            Type::BinaryView | Type::Utf8View => {
                self.views += 1;
                2
            }
            Type::Union => {
                let is_dense = field.type_as_union()?.mode() == arrow_ipc::UnionMode::Dense;
                1 + usize::from(is_dense) + usize::from(self.has_union_validity)
            }
            _ => return None,
        };
        field.children().into_iter().flatten().try_for_each(|child| self.add(&child))
    }
}

/// One batch while it is looked through.
struct BatchReader<'a> {
    file: &'a InputFile,
    name: &'a str,
    batch: &'a RecordBatch<'a>,
    body: (u64, u64),
    codec: Option<Codec>,
    rows: usize,
    first_row: usize,
}

impl<'a> BatchReader<'a> {
    fn new(
        file: &'a InputFile,
        name: &'a str,
        batch: &'a RecordBatch<'a>,
        body: (u64, u64),
        first_row: usize,
    ) -> Result<Self, DataError> {
        let codec = batch.compression().map(|compression| match compression.codec() {
            CompressionType::LZ4_FRAME => Ok(Codec::Lz4Frame),
            CompressionType::ZSTD => Ok(Codec::Zstd),
            _ => Err(DataError::format(format!(
                "{name} is compressed in a way not known here; save it with zstd"
            ))),
        });
        let rows = usize::try_from(batch.length()).ok().filter(|&rows| rows < 1 << 48);
        let rows =
            rows.ok_or_else(|| damaged(file.path(), &format_args!("a batch of {} rows", batch.length())))?;
        Ok(Self { file, name, batch, body, codec: codec.transpose()?, rows, first_row })
    }

    fn states(&self, place: &Place, element: Element, d_in: &mut Option<usize>) -> Result<Values, DataError> {
        let damaged = |why: &dyn std::fmt::Display| damaged(self.file.path(), why);
        let first = self.first_buffer(place)?;
        self.check_nulls(place.nodes, first, self.rows, 1, self.name)?;
        let (lists, values) = match place.kind {
            Kind::Fixed(width) => (0..width, first + 1),
            Kind::List(bytes) => (self.lists(first + 1, bytes, d_in)?, first + 2),
            Kind::Plain | Kind::Other => unreachable!("hidden states are lists"),
        };
        // the width is that of the first list, and so of all
        let width = *d_in.get_or_insert(lists.len());
        let total = self.rows.checked_mul(width).and_then(|total| total.checked_add(lists.start));
        let total = total.ok_or_else(|| damaged(&"more values than memory has"))?;
        self.check_nulls(place.nodes + 1, values, total, width.max(1), self.name)?;
        self.values(values + 1, lists.start, total, element.bytes())
    }

    fn column(&self, place: &Place, integer: Integer, column: Column) -> Result<Values, DataError> {
        let first = self.first_buffer(place)?;
        let name = format!("{}, column {column}", self.file.path().display());
        self.check_nulls(place.nodes, first, self.rows, 1, &name)?;
        self.values(first + 1, 0, self.rows, integer.bytes())
    }

    fn first_buffer(&self, place: &Place) -> Result<usize, DataError> {
        let counts = self.batch.variadicBufferCounts();
        let views = (0..place.views).try_fold(place.buffers, |buffers, at| {
            let count = counts.and_then(|counts| (at < counts.len()).then(|| counts.get(at)))?;
            buffers.checked_add(usize::try_from(count).ok()?)
        });
        views
            .ok_or_else(|| damaged(self.file.path(), &"a batch does not say how many buffers its texts have"))
    }

    /// The values of the first list; checks that all lists are as long.
    fn lists(
        &self,
        buffer: usize,
        bytes: usize,
        d_in: &Option<usize>,
    ) -> Result<std::ops::Range<usize>, DataError> {
        let damaged = |why: &dyn std::fmt::Display| damaged(self.file.path(), why);
        let stored = self.stored(buffer)?;
        let count = self.rows + 1;
        let mut offsets = Offsets { bytes: vec![], wide: bytes == 8 };
        let needed = count.checked_mul(bytes);
        let has = stored.packed.map_or(stored.length, |(_, size)| size as u64);
        if needed.is_none_or(|needed| needed as u64 > has) {
            return Err(damaged(&format_args!("{} lists in {has} bytes", self.rows)));
        }
        if stored.packed.is_some() {
            offsets.bytes = self.unpack(&stored)?;
        }
        let (mut first, mut width, mut last) = (0, *d_in, None);
        // in pieces: a batch may have any number of rows
        const AT_ONCE: usize = 64 * 1024;
        for start in (0..count).step_by(AT_ONCE) {
            let part = start..(start + AT_ONCE).min(count);
            if stored.packed.is_none() {
                offsets.bytes =
                    self.file.bytes(stored.offset + (start * bytes) as u64, (part.len() * bytes) as u64)?;
            }
            for at in part {
                let in_bytes = if stored.packed.is_none() { at - start } else { at };
                let offset = usize::try_from(offsets.get(in_bytes));
                let offset = offset.map_err(|_| damaged(&"a list that starts before the first value"))?;
                match last {
                    None => first = offset,
                    Some(last) => {
                        let length = offset.checked_sub(last);
                        if length != Some(*width.get_or_insert(length.unwrap_or(0))) {
                            return Err(DataError::format(format!(
                                "{}: row {} has another length than the rows before; remove or repair that row",
                                self.name,
                                self.first_row + at - 1
                            )));
                        }
                    }
                }
                last = Some(offset);
            }
        }
        let width = width.unwrap_or(0);
        let end = first.checked_add(width).ok_or_else(|| damaged(&"a list beyond memory"))?;
        Ok(first..end)
    }

    /// Checks the node of a column and that none of its `count` values is null; `each` are a row's.
    fn check_nulls(
        &self,
        node: usize,
        buffer: usize,
        count: usize,
        each: usize,
        name: &str,
    ) -> Result<(), DataError> {
        let damaged = |why: &dyn std::fmt::Display| damaged(self.file.path(), why);
        let nodes = self.batch.nodes().filter(|nodes| node < nodes.len());
        let node = *nodes.ok_or_else(|| damaged(&"a batch lacks a column"))?.get(node);
        if usize::try_from(node.length()).is_ok_and(|length| length < count) || node.length() < 0 {
            return Err(damaged(&format_args!("{} values where {count} should be", node.length())));
        }
        if node.null_count() == 0 {
            return Ok(());
        }
        let stored = self.stored(buffer)?;
        let bits = match stored.packed {
            Some(_) => self.unpack(&stored)?,
            None => self.file.bytes(stored.offset, stored.length)?,
        };
        let null = (0..count.min(bits.len().saturating_mul(8))).find(|&at| bits[at / 8] >> (at % 8) & 1 == 0);
        match null {
            Some(at) => Err(DataError::format(format!(
                "{name}: row {} is null or holds a null; remove or repair that row",
                self.first_row + at / each
            ))),
            None => Err(damaged(&format_args!("{} nulls, but none is marked", node.null_count()))),
        }
    }

    /// Values `first..end` of a buffer.
    fn values(&self, buffer: usize, first: usize, end: usize, bytes: usize) -> Result<Values, DataError> {
        let buffer = self.stored(buffer)?;
        let has = buffer.packed.map_or(buffer.length, |(_, size)| size as u64);
        if end.checked_mul(bytes).is_none_or(|needed| needed as u64 > has) {
            return Err(damaged(self.file.path(), &format_args!("{end} values of {bytes} bytes in {has}")));
        }
        Ok(Values { buffer, start: first * bytes })
    }

    fn stored(&self, index: usize) -> Result<Stored, DataError> {
        let damaged = |why: &dyn std::fmt::Display| damaged(self.file.path(), why);
        let buffers = self.batch.buffers().filter(|buffers| index < buffers.len());
        let buffer = *buffers.ok_or_else(|| damaged(&"a batch lacks a buffer"))?.get(index);
        let place = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        let place = place.and_then(|(offset, length)| {
            let start = self.body.0.checked_add(offset)?;
            (start.checked_add(length)? <= self.body.1).then_some((start, length))
        });
        let (offset, length) = place.ok_or_else(|| damaged(&"a buffer that lies behind its batch"))?;
        let (Some(codec), true) = (self.codec, length > 0) else {
            return Ok(Stored { offset, length, packed: None });
        };
        let prefix = self.file.bytes(offset, length.min(8))?;
        let prefix = prefix.try_into().map_err(|_| damaged(&"a packed buffer without its size"))?;
        let (offset, length) = (offset + 8, length - 8);
        match i64::from_le_bytes(prefix) {
            // it did not get smaller
            -1 => Ok(Stored { offset, length, packed: None }),
            size => {
                let size = usize::try_from(size).ok().filter(|&size| codec.can_hold(length, size));
                let size = size.ok_or_else(|| damaged(&"a packed buffer of an impossible size"))?;
                Ok(Stored { offset, length, packed: Some((codec, size)) })
            }
        }
    }

    fn unpack(&self, stored: &Stored) -> Result<Vec<u8>, DataError> {
        let bytes = self.file.bytes(stored.offset, stored.length)?;
        let Some((codec, size)) = stored.packed else { return Ok(bytes) };
        let mut out = Vec::new();
        unpack(codec, &bytes, size, &mut out).map_err(|why| damaged(self.file.path(), &why))?;
        Ok(out)
    }
}

struct Offsets {
    bytes: Vec<u8>,
    wide: bool,
}

impl Offsets {
    fn get(&self, at: usize) -> i64 {
        if self.wide {
            i64::from_le_bytes(self.bytes[at * 8..][..8].try_into().expect("8 bytes"))
        } else {
            i32::from_le_bytes(self.bytes[at * 4..][..4].try_into().expect("4 bytes")).into()
        }
    }
}

impl ArrowSource {
    /// Reads bytes `part` of the hidden states (`None`) or of a column, by its index, of a batch: where they lie in the file, or from the unpacked ones.
    fn read_part(
        &self,
        which: Option<usize>,
        batch: usize,
        part: std::ops::Range<usize>,
        read: impl FnOnce(Part) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        let Batch { states, columns, .. } = &self.batches[batch];
        let values = which.map_or(Ok(states), |which| columns[which].as_ref());
        let &Values { buffer, start } = values.map_err(DataError::format)?;
        let part = start + part.start..start + part.end;
        let Some((codec, size)) = buffer.packed else {
            return read(Part::InFile(buffer.offset + part.start as u64));
        };
        let column = which.map(|which| self.columns[which].0);
        self.unpacked.with(&self.file, column, |last| {
            let (is_of_file, mut unpacked) = last.unwrap_or_default();
            if !is_of_file || unpacked.batch != batch {
                unpacked.batch = batch;
                unpacked.packed.resize(buffer.length as usize, 0);
                self.file.read_at(&mut unpacked.packed, buffer.offset)?;
                unpack(codec, &unpacked.packed, size, &mut unpacked.bytes)
                    .map_err(|why| damaged(self.file.path(), &why))?;
            }
            read(Part::Unpacked(&unpacked.bytes[part]))?;
            Ok((unpacked, ()))
        })
    }

    /// Batch, first row in it, and which of the rows asked for it has.
    fn parts(
        &self,
        start: usize,
        count: usize,
    ) -> impl Iterator<Item = (usize, usize, std::ops::Range<usize>)> + '_ {
        let first = self.batches.partition_point(|batch| batch.start + batch.rows <= start);
        (first..self.batches.len()).map_while(move |at| {
            let batch = &self.batches[at];
            let (from, until) = (batch.start.max(start), (batch.start + batch.rows).min(start + count));
            (from < until).then(|| (at, from - batch.start, from - start..until - start))
        })
    }
}

impl FileSource for ArrowSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn tensor(&self) -> Option<&str> {
        self.name.rsplit_once('#').map(|(_, name)| name)
    }

    fn dtype(&self) -> &'static str {
        self.element.name()
    }
}

impl Source for ArrowSource {
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
        let read = |batch: usize, row: usize, values: &mut [f32]| {
            let element = self.element;
            let start = row * self.d_in;
            let part = start * element.bytes()..(start + values.len()) * element.bytes();
            self.read_part(None, batch, part, |part| match part {
                Part::InFile(offset) => read_values(&self.file, element, offset, values),
                Part::Unpacked(bytes) => {
                    element.decode(bytes, values);
                    Ok(())
                }
            })
        };
        let mut one = vec![0.0; self.d_in];
        for (batch, row, part) in self.parts(start, out.nrows()) {
            let mut part = out.slice_mut(s![part, ..]);
            if let Some(values) = part.as_slice_mut() {
                read(batch, row, values)?;
                continue;
            }
            for (at, mut out) in part.axis_iter_mut(Axis(0)).enumerate() {
                read(batch, row + at, &mut one)?;
                out.assign(&ndarray::aview1(&one));
            }
        }
        Ok(())
    }

    fn columns(&self) -> Vec<Column> {
        self.columns.iter().map(|&(column, _)| column).collect()
    }

    fn read_column(&self, column: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
        assert!(start + out.len() <= self.rows, "rows {start}.. of {}", self.rows);
        let which = self.columns.iter().position(|&(known, _)| known == column);
        let which = which.unwrap_or_else(|| panic!("{} has no column {column}", self.name));
        let integer = self.columns[which].1;
        for (batch, row, part) in self.parts(start, out.len()) {
            let out = &mut out[part];
            let part = row * integer.bytes()..(row + out.len()) * integer.bytes();
            self.read_part(Some(which), batch, part, |part| match part {
                Part::InFile(offset) => read_integers(&self.file, integer, offset, out),
                Part::Unpacked(bytes) => {
                    integer.decode(bytes, out);
                    Ok(())
                }
            })?;
        }
        integer.check(out, &format!("{}, column {column}", self.file.path().display()), start)
    }

    fn pieces(&self) -> Vec<usize> {
        let is_packed = self.batches.iter().any(|batch| batch.states.buffer.packed.is_some());
        if is_packed { self.batches.iter().map(|batch| batch.rows).collect() } else { vec![] }
    }

    fn size(&self) -> u64 {
        self.file.size()
    }
}

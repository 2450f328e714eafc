use std::path::Path;
use std::sync::Arc;

use ndarray::{ArrayViewMut2, Axis};
use parquet::basic::{Compression, ConvertedType, LogicalType, Type as Physical};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use bae_model::quietly;

use crate::column::Column;
use crate::dataset::{Source, assert_rows};
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, Integer, Number};
use crate::open::{FileSource, Wanted};
use crate::parquet_pages::{Chunk, Leaf, Pages, Stop};
use crate::recent::Recent;
use crate::table::{self, Field};
use crate::thrift::{BINARY, I32, LIST, STRUCT, Thrift};
use crate::unpack::Codec;

/// Hidden states in a Parquet file: a column of lists of floats, all of one length.
pub(crate) struct ParquetSource {
    file: Arc<InputFile>,
    name: String,
    element: Element,
    d_in: usize,
    /// Rows of each row group that has some, and where they start.
    groups: Vec<Group>,
    rows: usize,
    states: Reader,
    columns: Vec<(Column, Integer, Reader)>,
    /// How far pages are read: reading on does not start again.
    open: Arc<Recent<Pages>>,
}

struct Group {
    start: usize,
    rows: usize,
}

/// Where the pages of one column lie.
struct Reader {
    /// Absent for the hidden states.
    column: Option<Column>,
    leaf: Leaf,
    /// One for each of the groups.
    chunks: Vec<Chunk>,
}

/// Finds the hidden states and columns in a Parquet file.
pub(crate) fn open(
    file: Arc<InputFile>,
    wanted: &Wanted,
    open: Arc<Recent<Pages>>,
) -> Result<ParquetSource, DataError> {
    let path = file.path().to_owned();
    let metadata = metadata(&file)?;
    let schema = metadata.file_metadata().schema_descr();
    let fields: Vec<Field> = (0..schema.num_columns()).filter_map(|leaf| field(schema, leaf)).collect();
    let (states, columns) = table::find(&path, &fields, wanted)?;

    let mut groups = Vec::new();
    let mut rows: usize = 0;
    for group in metadata.row_groups() {
        let count = usize::try_from(group.num_rows()).ok().filter(|&count| count < 1 << 48);
        let Some(count) = count else {
            return Err(damaged(&path, &format_args!("a row group of {} rows", group.num_rows())));
        };
        groups.push(Group { start: rows, rows: count });
        rows = rows
            .checked_add(count)
            .filter(|&rows| rows < 1 << 48)
            .ok_or_else(|| damaged(&path, &"too many rows"))?;
    }
    table::check_rows(&path, rows, file.size())?;
    let reader = |leaf: usize, column: Option<Column>| -> Result<Reader, DataError> {
        let described = schema.column(leaf);
        let chunks = metadata.row_groups().iter().filter(|group| group.num_rows() > 0).map(|group| {
            let column =
                group.columns().get(leaf).ok_or_else(|| damaged(&path, &"a row group lacks a column"))?;
            let codec = match column.compression() {
                Compression::UNCOMPRESSED => None,
                Compression::SNAPPY => Some(Codec::Snappy),
                Compression::GZIP(_) => Some(Codec::Gzip),
                Compression::ZSTD(_) => Some(Codec::Zstd),
                Compression::LZ4_RAW => Some(Codec::Lz4Block),
                other => {
                    return Err(DataError::format(format!(
                        "{} is compressed by {other}; save it with snappy, zstd, lz4 or none",
                        path.display()
                    )));
                }
            };
            let start = column.dictionary_page_offset().into_iter().chain([column.data_page_offset()]).min();
            let (start, length) = (start.unwrap_or(-1), column.compressed_size());
            let place = u64::try_from(start).ok().zip(u64::try_from(length).ok());
            let place = place
                .filter(|&(start, length)| start.checked_add(length).is_some_and(|end| end <= file.size()));
            let (Some((start, length)), Ok(values)) = (place, usize::try_from(column.num_values())) else {
                return Err(damaged(
                    &path,
                    &format_args!("{length} bytes of a column from byte {start} on, of {}", file.size()),
                ));
            };
            Ok(Chunk { codec, start, end: start + length, values })
        });
        let leaf = Leaf {
            width: 1,
            max_rep: described.max_rep_level(),
            max_def: described.max_def_level(),
            kind: described,
        };
        Ok(Reader { column, leaf, chunks: chunks.collect::<Result<_, _>>()? })
    };
    let name = format!("{}#{}", path.display(), fields[states].name);
    groups.retain(|group| group.rows > 0);
    if groups.is_empty() {
        return Err(DataError::shape(format!("{name} has no rows, so no width; leave the file out")));
    }
    let Some(Number::Float(element)) = fields[states].number else {
        unreachable!("hidden states are floats")
    };
    let leaf_of = |field: usize| fields[field].leaf;
    let mut states = reader(leaf_of(states), None)?;
    states.leaf.width = width(&file, &name, &groups, &states)?;
    let columns = columns.into_iter().map(|(column, field)| match fields[field].number {
        Some(Number::Integer(integer)) => Ok((column, integer, reader(leaf_of(field), Some(column))?)),
        _ => unreachable!("columns are whole numbers"),
    });
    let columns = columns.collect::<Result<_, _>>()?;
    Ok(ParquetSource { name, element, d_in: states.leaf.width, groups, rows, states, columns, open, file })
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> DataError {
    DataError::corrupt(format!("{} is no intact Parquet file: {why}; make or copy it again", path.display()))
}

/// Reads what lies behind the pages.
fn metadata(file: &InputFile) -> Result<ParquetMetaData, DataError> {
    const MAGIC: u64 = 4;
    let path = file.path();
    if file.size() < 3 * MAGIC || file.bytes(0, MAGIC)? != b"PAR1" {
        return Err(match file.bytes(0, file.size().min(MAGIC))?.as_slice() {
            b"PARE" => DataError::format(format!("{} is encrypted; save it without", path.display())),
            _ => damaged(path, &"it does not start as one"),
        });
    }
    let end = file.bytes(file.size() - 8, 8)?;
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if &end[4..] != b"PAR1" || length > file.size() - 12 {
        return Err(damaged(path, &"it does not end as one"));
    }
    let bytes = file.bytes(file.size() - 8 - length, length)?;
    if !is_shallow(&bytes) {
        return Err(damaged(path, &"its schema is none of a table"));
    }
    // the crate promises no end of damage that it takes without a panic
    match quietly(|| ParquetMetaDataReader::decode_metadata(&bytes)) {
        Ok(Ok(metadata)) => Ok(metadata),
        Ok(Err(error)) => Err(damaged(path, &error)),
        Err(_) => Err(damaged(path, &"its metadata contradicts itself")),
    }
}

/// Whether the tree of columns is as deep and as large as a table's: the crate recurses into it, reserves room for as many
/// children as a node claims, and gives each leaf the names of all nodes above it.
fn is_shallow(metadata: &[u8]) -> bool {
    const MAX_DEPTH: usize = 64;
    const MAX_NAMES: usize = 1 << 20;
    let mut elements: Vec<(i64, usize)> = Vec::new();
    let schema = |reader: &mut Thrift, id: i64, kind: u8| {
        if (id, kind) != (2, LIST) {
            return Some(false);
        }
        let (length, STRUCT) = reader.list()? else { return None };
        for _ in 0..length {
            let (mut children, mut name) = (0, 0);
            reader.fields(|reader, id, kind| {
                match (id, kind) {
                    (4, BINARY) => name = reader.binary()?.len(),
                    (5, I32) => children = reader.integer()?,
                    _ => return Some(false),
                }
                Some(true)
            })?;
            elements.push((children, name));
        }
        Some(true)
    };
    if Thrift(metadata).fields(schema).is_none() {
        return false;
    }
    // nodes whose children are still to come, and the length of the names down to each
    let mut above: Vec<(i64, usize)> = Vec::new();
    let mut names = 0;
    for (at, &(children, name)) in elements.iter().enumerate() {
        let path = above.last().map_or(0, |&(_, length)| length) + name + 1;
        if children < 0 || children as usize > elements.len() - at || above.len() == MAX_DEPTH {
            return false;
        }
        if children > 0 {
            above.push((children, path));
            continue;
        }
        names += path;
        while let Some((left, _)) = above.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            above.pop();
        }
    }
    above.is_empty() && names <= metadata.len().saturating_mul(16).saturating_add(MAX_NAMES)
}

/// A top-level column that may be hidden states or a column of whole numbers.
fn field(schema: &SchemaDescriptor, leaf: usize) -> Option<Field> {
    let described = schema.column(leaf);
    let number = number(&described);
    let root = schema.get_column_root(leaf);
    let info = root.get_basic_info();
    let is_list = info.converted_type() == ConvertedType::LIST
        || matches!(info.logical_type_ref(), Some(LogicalType::List));
    let is_vector = match (described.path().parts().len(), described.max_rep_level()) {
        (3, 1) if is_list => true,
        (1, 0) => false,
        _ => return None,
    };
    Some(Field { name: root.name().to_owned(), number, is_vector, leaf })
}

fn number(described: &ColumnDescriptor) -> Option<Number> {
    let logical = described.logical_type_ref();
    Some(match (described.physical_type(), logical, described.converted_type()) {
        (Physical::FLOAT, ..) => Number::Float(Element::F32),
        (Physical::DOUBLE, ..) => Number::Float(Element::F64),
        (Physical::FIXED_LEN_BYTE_ARRAY, Some(LogicalType::Float16), _) if described.type_length() == 2 => {
            Number::Float(Element::F16)
        }
        (Physical::INT32, None | Some(LogicalType::Integer { .. }), kind) => match kind {
            ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 => {
                Number::Integer(Integer::U32)
            }
            _ => Number::Integer(Integer::I32),
        },
        (Physical::INT64, None | Some(LogicalType::Integer { .. }), kind) => match kind {
            ConvertedType::UINT_64 => Number::Integer(Integer::U64),
            _ => Number::Integer(Integer::I64),
        },
        _ => return None,
    })
}

/// Values of each row, which must be the same for all: the counts of the chunks tell, or the levels say which row it is not.
fn width(file: &InputFile, name: &str, groups: &[Group], states: &Reader) -> Result<usize, DataError> {
    // run lengths hold any number of values in a few bytes, and readers take memory for each that they ask for: hidden
    // states are not that much alike
    const MOST_IN_A_BYTE: usize = 1 << 16;
    for chunk in &states.chunks {
        if (chunk.values / MOST_IN_A_BYTE) as u64 > chunk.end - chunk.start {
            return Err(damaged(
                file.path(),
                &format_args!("{} values in {} bytes", chunk.values, chunk.end - chunk.start),
            ));
        }
    }
    let first = &states.chunks[0];
    let even = first.values.is_multiple_of(groups[0].rows).then(|| first.values / groups[0].rows);
    let width = match even.filter(|&width| width > 0) {
        Some(width) => width,
        None => {
            let mut pages = Pages::new(states.leaf.clone(), first.clone());
            guarded(file.path(), || pages.first_length(file)).map_err(|stop| stop.into_error(name, 0))?
        }
    };
    table::check_width(name, width)?;
    let fits = |(group, chunk): (&Group, &Chunk)| group.rows.checked_mul(width) == Some(chunk.values);
    if let Some(at) = groups.iter().zip(&states.chunks).position(|pair| !fits(pair)) {
        let leaf = Leaf { width, ..states.leaf.clone() };
        let mut pages = Pages::new(leaf, states.chunks[at].clone());
        guarded(file.path(), || pages.check_levels(file))
            .map_err(|stop| stop.into_error(name, groups[at].start))?;
        return Err(damaged(
            file.path(),
            &format_args!("{} values in {} rows of width {width}", states.chunks[at].values, groups[at].rows),
        ));
    }
    Ok(width)
}

fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    quietly(read).unwrap_or_else(|_| Err(Stop::Error(damaged(path, &"its pages contradict themselves"))))
}

impl ParquetSource {
    /// Hands out the bytes of the values of `count` rows from `start` on, in order and in pieces of whole values.
    fn read_bytes(
        &self,
        reader: &Reader,
        name: &str,
        mut start: usize,
        count: usize,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), DataError> {
        let end = start + count;
        while start < end {
            let at = self.groups.partition_point(|group| group.start <= start) - 1;
            let group = &self.groups[at];
            let rows = (group.start + group.rows).min(end) - start;
            let width = reader.leaf.width;
            let (from, values) = ((start - group.start) * width, rows * width);
            self.open.with(&self.file, reader.column, |last| {
                let mut pages = match last {
                    Some((true, pages)) if pages.is_at_or_before(&reader.chunks[at], from) => pages,
                    _ => Pages::new(reader.leaf.clone(), reader.chunks[at].clone()),
                };
                // after an error the pages are at no known place: they are opened again then
                guarded(self.file.path(), || pages.read(&self.file, from, values, &mut take))
                    .map_err(|stop| stop.into_error(name, group.start))?;
                Ok::<_, DataError>((pages, ()))
            })?;
            start += rows;
        }
        Ok(())
    }
}

impl FileSource for ParquetSource {
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

impl Source for ParquetSource {
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
        let rows = out.nrows();
        if let Some(mut values) = out.as_slice_mut() {
            return self.read_bytes(&self.states, &self.name, start, rows, |bytes| {
                let count = bytes.len() / self.element.bytes();
                let (part, left) = std::mem::take(&mut values).split_at_mut(count);
                self.element.decode(bytes, part);
                values = left;
            });
        }
        let mut row = vec![0.0; self.d_in];
        for (at, mut out) in out.axis_iter_mut(Axis(0)).enumerate() {
            let mut done = 0;
            self.read_bytes(&self.states, &self.name, start + at, 1, |bytes| {
                let count = bytes.len() / self.element.bytes();
                self.element.decode(bytes, &mut row[done..done + count]);
                done += count;
            })?;
            out.assign(&ndarray::aview1(&row));
        }
        Ok(())
    }

    fn columns(&self) -> Vec<Column> {
        self.columns.iter().map(|&(column, ..)| column).collect()
    }

    fn read_column(&self, column: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
        assert!(start + out.len() <= self.rows, "rows {start}.. of {}", self.rows);
        let found = self.columns.iter().find(|&&(known, ..)| known == column);
        let (_, integer, reader) = found.unwrap_or_else(|| panic!("{} has no column {column}", self.name));
        let name = format!("{}, column {column}", self.file.path().display());
        let mut done = 0;
        self.read_bytes(reader, &name, start, out.len(), |bytes| {
            let count = bytes.len() / integer.bytes();
            integer.decode(bytes, &mut out[done..done + count]);
            done += count;
        })?;
        integer.check(out, &name, start)
    }

    fn pieces(&self) -> Vec<usize> {
        self.groups.iter().map(|group| group.rows).collect()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }
}

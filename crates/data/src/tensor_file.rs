use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::{ArrayViewMut2, Axis};

use crate::column::Column;
use crate::dataset::{Source, assert_rows};
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::numbers::{Element, Integer, Number, read_integers, read_values};
use crate::open::{FileSource, Wanted};

/// The tensor taken where several would do.
pub(crate) const PREFERRED: &str = "hidden_states";

/// A tensor as the header of its file describes it.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    /// Empty in a format that has no names.
    pub(crate) name: String,
    /// What the format calls its type.
    pub(crate) dtype: String,
    /// Absent for types that are not read.
    pub(crate) number: Option<Number>,
    pub(crate) shape: Vec<usize>,
}

impl Tensor {
    fn float(&self) -> Option<Element> {
        match self.number {
            Some(Number::Float(element)) => Some(element),
            _ => None,
        }
    }
}

/// Where the numbers of a tensor start.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) file: Arc<InputFile>,
    pub(crate) offset: u64,
}

/// Hidden states that lie row by row in a file, as do their columns.
#[derive(Debug)]
pub(crate) struct TensorSource {
    path: PathBuf,
    size: u64,
    tensor: Option<String>,
    layer: Option<usize>,
    /// Layers that the tensor has, where one is picked.
    layers: Option<usize>,
    element: Element,
    rows: usize,
    d_in: usize,
    place: Place,
    /// Bytes from one row to the next.
    stride: usize,
    columns: Vec<(Column, Numbers)>,
}

/// A column's numbers.
#[derive(Debug)]
enum Numbers {
    Stored(Integer, Place),
    Same(i64),
    RowIndex,
}

impl TensorSource {
    /// Finds the hidden states among the tensors of a file: the one asked for, else the one called hidden_states, else
    /// the only float tensor of rank 2 (of rank 3 where a layer is asked for); and its columns.
    ///
    /// `place` says where the numbers of `tensors[index]`, which its header describes truly, start.
    pub(crate) fn find(
        file: &InputFile,
        tensors: &[Tensor],
        wanted: &Wanted,
        mut place: impl FnMut(usize) -> Result<Place, DataError>,
    ) -> Result<Self, DataError> {
        let path = file.path();
        let index = choose(path, tensors, wanted)?;
        let chosen = &tensors[index];
        let name = full_name(path, &chosen.name);
        let Some(element) = chosen.float() else {
            return Err(DataError::format(format!(
                "{name} is of type {}; hidden states are float16, bfloat16, float32 or float64: convert it or pick \
                 another tensor",
                chosen.dtype
            )));
        };
        let (rows, layers, d_in) = sizes(path, chosen, wanted)?;
        let width = d_in.checked_mul(element.bytes());
        let Some((width, stride)) = width.and_then(|width| Some((width, width.checked_mul(layers)?))) else {
            return Err(DataError::shape(format!(
                "{name} has shape {:?}; its rows are larger than memory: save it anew",
                chosen.shape
            )));
        };
        let mut columns = Vec::new();
        let one_for_each_row = |name: &str| {
            let is_column = |tensor: &Tensor| {
                tensor.name == name
                    && matches!(tensor.number, Some(Number::Integer(_)))
                    && tensor.shape == [rows]
            };
            tensors.iter().position(is_column)
        };
        for (column, index) in named_columns(one_for_each_row) {
            let Some(Number::Integer(integer)) = tensors[index].number else { continue };
            match place(index) {
                // a view, say, that cannot be read as it lies
                Err(DataError::UnsupportedFormat(_)) => {}
                place => columns.push((column, Numbers::Stored(integer, place?))),
            }
        }
        if let Some(layer) = wanted.layer {
            // such a file is the dump of one request
            let own = [
                (Column::Position, Numbers::RowIndex),
                (Column::Sequence, Numbers::Same(name_hash(path))),
                (Column::Layer, Numbers::Same(layer as i64)),
            ];
            for (column, numbers) in own {
                if columns.iter().all(|&(known, _)| known != column) {
                    columns.push((column, numbers));
                }
            }
        }
        let mut place = place(index)?;
        place.offset += (wanted.layer.unwrap_or(0) * width) as u64;
        Ok(Self {
            path: path.to_owned(),
            size: file.size(),
            tensor: (!chosen.name.is_empty()).then(|| chosen.name.clone()),
            layer: wanted.layer,
            layers: wanted.layer.map(|_| layers),
            element,
            rows,
            d_in,
            place,
            stride,
            columns,
        })
    }

    /// Reads rows that lie apart, several of them at once.
    fn read_strided(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        const SPAN: usize = 1 << 20;
        /// Reading over a gap of this many bytes is as fast as asking the system for the next row.
        const GAP: usize = 64 * 1024;
        let width = self.d_in * self.element.bytes();
        let at_once = if self.stride - width > GAP { 1 } else { (SPAN / self.stride).max(1) };
        let mut bytes = Vec::new();
        let mut row = vec![0.0; self.d_in];
        let mut first = start;
        for mut part in out.axis_chunks_iter_mut(Axis(0), at_once) {
            let rows = part.nrows();
            bytes.resize((rows - 1) * self.stride + width, 0);
            self.place.file.read_at(&mut bytes, self.offset(first))?;
            for (row_bytes, mut out) in bytes.chunks(self.stride).zip(part.rows_mut()) {
                match out.as_slice_mut() {
                    Some(out) => self.element.decode(&row_bytes[..width], out),
                    None => {
                        self.element.decode(&row_bytes[..width], &mut row);
                        out.assign(&ndarray::aview1(&row));
                    }
                }
            }
            first += rows;
        }
        Ok(())
    }

    fn offset(&self, row: usize) -> u64 {
        self.place.offset + (row * self.stride) as u64
    }
}

impl FileSource for TensorSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn tensor(&self) -> Option<&str> {
        self.tensor.as_deref()
    }

    fn layer(&self) -> Option<usize> {
        self.layer
    }

    fn layers(&self) -> Option<usize> {
        self.layers
    }

    fn dtype(&self) -> &'static str {
        self.element.name()
    }
}

impl Source for TensorSource {
    fn name(&self) -> String {
        let layer = self.layer.map(|layer| format!(":layer={layer}"));
        match (&self.tensor, layer) {
            (None, None) => self.path.display().to_string(),
            (tensor, layer) => format!(
                "{}#{}{}",
                self.path.display(),
                tensor.as_deref().unwrap_or_default(),
                layer.unwrap_or_default()
            ),
        }
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn d_in(&self) -> usize {
        self.d_in
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert_rows(self, start, &out);
        match out.as_slice_mut() {
            Some(values) if self.stride == self.d_in * self.element.bytes() => {
                read_values(&self.place.file, self.element, self.offset(start), values)
            }
            _ => self.read_strided(start, out),
        }
    }

    fn columns(&self) -> Vec<Column> {
        self.columns.iter().map(|&(column, _)| column).collect()
    }

    fn read_column(&self, column: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
        assert!(start + out.len() <= self.rows, "rows {start}.. of {}", self.rows);
        let numbers = self.columns.iter().find(|&&(known, _)| known == column);
        let (_, numbers) = numbers.unwrap_or_else(|| panic!("{} has no column {column}", self.name()));
        match numbers {
            Numbers::Stored(integer, Place { file, offset }) => {
                read_integers(file, *integer, offset + (start * integer.bytes()) as u64, out)?;
                integer.check(out, &format!("{}, column {column}", file.path().display()), start)?;
            }
            Numbers::Same(value) => out.fill(*value),
            Numbers::RowIndex => {
                for (row, value) in (start..).zip(out) {
                    *value = row as i64;
                }
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Names, types and shapes, for messages.
pub(crate) fn listing(tensors: &[Tensor]) -> String {
    const SHOWN: usize = 8;
    if tensors.is_empty() {
        return "nothing".to_owned();
    }
    let mut parts: Vec<String> = tensors
        .iter()
        .take(SHOWN)
        .map(|tensor| format!("{} {} {:?}", tensor.name, tensor.dtype, tensor.shape))
        .collect();
    if tensors.len() > SHOWN {
        parts.push(format!("{} more", tensors.len() - SHOWN));
    }
    parts.join(", ")
}

fn full_name(path: &Path, tensor: &str) -> String {
    if tensor.is_empty() { path.display().to_string() } else { format!("{}#{tensor}", path.display()) }
}

fn choose(path: &Path, tensors: &[Tensor], wanted: &Wanted) -> Result<usize, DataError> {
    let named = |name: &str| tensors.iter().position(|tensor| tensor.name == name);
    let path = path.display();
    if let Some(name) = &wanted.tensor {
        return named(name).ok_or_else(|| {
            DataError::argument(format!("{path} has no tensor {name}; it holds {}", listing(tensors)))
        });
    }
    let floats = |ranks: &[usize]| -> Vec<usize> {
        let is_candidate = |tensor: &Tensor| tensor.float().is_some() && ranks.contains(&tensor.shape.len());
        (0..tensors.len()).filter(|&at| is_candidate(&tensors[at])).collect()
    };
    let candidates = floats(&[if wanted.layer.is_some() { 3 } else { 2 }]);
    match (named(PREFERRED), &candidates[..]) {
        (Some(preferred), _) => Ok(preferred),
        (None, &[only]) => Ok(only),
        (None, []) => match (&floats(&[2, 3])[..], tensors.len()) {
            // what is wrong with it is said where its shape is taken apart
            (&[only], _) => Ok(only),
            (_, 1) => Ok(0),
            _ => Err(DataError::format(format!(
                "{path} holds no float tensor [rows, d_in], only {}; save the hidden states as one",
                listing(tensors)
            ))),
        },
        (None, &[first, ..]) => Err(DataError::format(format!(
            "{path} holds several tensors that could be hidden states: {}; pick one, as {path}#{}",
            listing(tensors),
            tensors[first].name
        ))),
    }
}

/// Rows, layers and width of hidden states.
fn sizes(path: &Path, chosen: &Tensor, wanted: &Wanted) -> Result<(usize, usize, usize), DataError> {
    let name = full_name(path, &chosen.name);
    let shape = &chosen.shape;
    let (rows, layers, d_in) = match (shape[..].first_chunk(), &shape[..], wanted.layer) {
        (_, &[rows, d_in], None) => (rows, 1, d_in),
        (Some(&[rows, layers, d_in]), [_, _, _], Some(layer)) if layer < layers => (rows, layers, d_in),
        (_, &[_, layers, _], _) => {
            let form = format!("{}#{}:layer=", path.display(), chosen.name);
            return Err(match (wanted.layer, layers) {
                (_, 0) => DataError::shape(format!("{name} has shape {shape:?}; it holds no layer")),
                (Some(layer), _) => DataError::argument(format!(
                    "{name} has shape {shape:?}, so no layer {layer}; pick one, as {form}0 to layer={}",
                    layers - 1
                )),
                (None, _) => DataError::shape(format!(
                    "{name} has shape {shape:?}, which is [tokens, layers, d_in]; pick a layer, as {form}0 to layer={} (or save \
                     [batch, tokens, d_in] as [batch * tokens, d_in])",
                    layers - 1
                )),
            });
        }
        (_, &[_, _], Some(layer)) => {
            return Err(DataError::argument(format!(
                "{name} has shape {shape:?}, [rows, d_in] without layers; leave :layer={layer} away"
            )));
        }
        _ => {
            return Err(DataError::shape(format!(
                "{name} has shape {shape:?}; hidden states are [rows, d_in]: save one layer as a tensor of rank 2"
            )));
        }
    };
    if d_in == 0 {
        return Err(DataError::shape(format!(
            "{name} has shape {shape:?}; hidden states need a width of at least 1"
        )));
    }
    Ok((rows, layers, d_in))
}

/// The columns in a file, each by the first of its names that `index` finds something fitting under.
pub(crate) fn named_columns(index: impl Fn(&str) -> Option<usize>) -> Vec<(Column, usize)> {
    let found = |column: Column| column.names().iter().find_map(|&name| Some((column, index(name)?)));
    Column::ALL.into_iter().filter_map(found).collect()
}

/// A number for a file that is one sequence: FNV-1a of its name, the same on every machine, without the sign.
fn name_hash(path: &Path) -> i64 {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (hash >> 1) as i64
}

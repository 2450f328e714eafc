use std::fmt;
use std::ops::Range;

use ndarray::{ArrayView2, ArrayViewMut2, Dimension, s};

use crate::column::Column;
use crate::error::DataError;
use crate::open;

/// Rows of hidden states that can be read in any order, from several threads at once.
pub trait Source: Send + Sync {
    /// What messages call it: a path with its tensor, or whatever the caller knows it by.
    fn name(&self) -> String;

    /// Number of hidden states.
    fn rows(&self) -> usize;

    /// Width of a hidden state.
    fn d_in(&self) -> usize;

    /// Reads the rows from `start` on into `out [n, d_in]`, values as they are: [`Dataset`] checks them.
    ///
    /// # Errors
    /// Whatever keeps the rows from being read.
    ///
    /// # Panics
    /// May panic if the source has no such rows or `out` is of another width.
    fn read(&self, start: usize, out: ArrayViewMut2<f32>) -> Result<(), DataError>;

    /// Columns that come with the rows.
    fn columns(&self) -> Vec<Column> {
        vec![]
    }

    /// Reads `out.len()` values of a column that [`Source::columns`] names, from row `start` on.
    ///
    /// # Errors
    /// Whatever keeps them from being read.
    ///
    /// # Panics
    /// May panic if the source has no such rows or column.
    fn read_column(&self, column: Column, _start: usize, _out: &mut [i64]) -> Result<(), DataError> {
        panic!("{} has no column {column}", self.name())
    }

    /// Rows of each piece that is decoded as a whole or from its start on (a row group, say), in order; empty where any
    /// row can be read for the same price. Readers that jump about keep to these pieces where they can.
    fn pieces(&self) -> Vec<usize> {
        vec![]
    }

    /// What tells this source from another of the same shape: bytes of its file, or 0.
    fn size(&self) -> u64 {
        0
    }
}

/// One or more sources of equal width, stacked; every value that comes out is finite.
pub struct Dataset {
    sources: Vec<Box<dyn Source>>,
    /// First row of each source.
    starts: Vec<usize>,
    rows: usize,
    d_in: usize,
}

impl Dataset {
    /// Stacks `sources` in the order given.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` if the widths differ or are 0, `INVALID_ARGUMENT` if there is no row.
    pub fn new(sources: Vec<Box<dyn Source>>) -> Result<Self, DataError> {
        let Some(first) = sources.first() else {
            return Err(DataError::argument(
                "no hidden states given: name at least one file, folder or pattern",
            ));
        };
        let d_in = first.d_in();
        if d_in == 0 {
            return Err(DataError::shape(format!("{}: hidden states of width 0 hold nothing", first.name())));
        }
        if let Some(other) = sources.iter().find(|source| source.d_in() != d_in) {
            return Err(DataError::shape(format!(
                "{} has hidden states of width {d_in}, {} of width {}; give files of one model's width only",
                first.name(),
                other.name(),
                other.d_in()
            )));
        }
        let mut starts = Vec::with_capacity(sources.len());
        let mut rows = 0;
        for source in &sources {
            starts.push(rows);
            rows += source.rows();
        }
        if rows == 0 {
            let others =
                if sources.len() > 1 { format!(" and {} more", sources.len() - 1) } else { String::new() };
            return Err(DataError::argument(format!(
                "{}{others}: no rows; give at least one hidden state",
                first.name()
            )));
        }
        Ok(Self { sources, starts, rows, d_in })
    }

    /// Opens files, folders (their .safetensors and .npy files by name) and glob patterns, each with an optional
    /// `#tensor`, and stacks them: in the order given, sorted within a folder or pattern.
    ///
    /// Only headers are read; values are read, and checked, when they are asked for.
    ///
    /// # Errors
    /// As [`Dataset::new`]; `INVALID_ARGUMENT` for a pattern or folder without data, `IO` for a path that cannot be
    /// read, `UNSUPPORTED_FORMAT`, `SHAPE_MISMATCH` or `CORRUPT_FILE` for what is in it.
    pub fn open(specs: &[String]) -> Result<Self, DataError> {
        let files = open::files(specs)?;
        Self::new(files.into_iter().map(|file| Box::new(file) as Box<dyn Source>).collect())
    }

    /// Number of hidden states.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Checks that the hidden states fit a model of width `d_in`, which messages call `model`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`
    pub fn require_d_in(&self, d_in: usize, model: &str) -> Result<(), DataError> {
        if self.d_in == d_in {
            return Ok(());
        }
        Err(DataError::shape(format!(
            "{} has hidden states of width {}, {model} takes width {d_in}; give states of the layer it was trained on",
            self.sources[0].name(),
            self.d_in
        )))
    }

    /// Name of the source of a row, and the row's number there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn locate(&self, row: usize) -> (String, usize) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        let source = self.source_of(row);
        (self.sources[source].name(), row - self.starts[source])
    }

    /// Reads the rows `range` into `out [range.len(), d_in]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for rows that are not there, `NOT_FINITE`, or what the source says.
    ///
    /// # Panics
    /// If `out` has another shape.
    pub fn read(&self, range: Range<usize>, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert_eq!(out.dim(), (range.len(), self.d_in), "shape of the rows to read");
        if range.end > self.rows {
            return Err(self.no_row(range.end - 1));
        }
        let mut row = range.start;
        while row < range.end {
            let at = self.source_of(row);
            let (source, first) = (&self.sources[at], row - self.starts[at]);
            let count = (source.rows() - first).min(range.end - row);
            let done = row - range.start;
            let mut part = out.slice_mut(s![done..done + count, ..]);
            source.read(first, part.view_mut())?;
            if let Some((in_part, column, value)) = first_non_finite(part.view()) {
                return Err(DataError::not_finite(&source.name(), first + in_part, column, value));
            }
            row += count;
        }
        Ok(())
    }

    /// Reads `rows`, in the order given and repeated as given, into `out [rows.len(), d_in]`.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    ///
    /// # Panics
    /// If `out` has another shape.
    pub fn read_rows(&self, rows: &[usize], mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert_eq!(out.dim(), (rows.len(), self.d_in), "shape of the rows to read");
        if let Some(&row) = rows.iter().find(|&&row| row >= self.rows) {
            return Err(self.no_row(row));
        }
        let mut done = 0;
        // neighbours in the data that are neighbours in the batch take one read
        for run in rows.chunk_by(|row, next| row + 1 == *next) {
            self.read(run[0]..run[0] + run.len(), out.slice_mut(s![done..done + run.len(), ..]))?;
            done += run.len();
        }
        Ok(())
    }

    fn no_row(&self, row: usize) -> DataError {
        DataError::argument(format!(
            "row {row} was asked for, the data has {}; is it the same data as before?",
            self.rows
        ))
    }

    fn source_of(&self, row: usize) -> usize {
        // sources without rows start where the next one does: the last that starts here has the row
        self.starts.partition_point(|&start| start <= row) - 1
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Dataset of {} sources, [{}, {}]", self.sources.len(), self.rows, self.d_in)
    }
}

/// Hidden states in memory.
#[derive(Clone, Debug)]
pub struct MemorySource {
    name: String,
    values: Vec<f32>,
    d_in: usize,
}

impl MemorySource {
    /// `values` row by row, `d_in` to a row; `name` is what messages call them.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` if the values are not whole rows.
    pub fn new(name: impl Into<String>, values: Vec<f32>, d_in: usize) -> Result<Self, DataError> {
        let name = name.into();
        if d_in == 0 || !values.len().is_multiple_of(d_in) {
            return Err(DataError::shape(format!(
                "{name}: {} values are not rows of width {d_in}",
                values.len()
            )));
        }
        Ok(Self { name, values, d_in })
    }
}

impl Source for MemorySource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rows(&self) -> usize {
        self.values.len() / self.d_in
    }

    fn d_in(&self) -> usize {
        self.d_in
    }

    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        let shape = out.raw_dim();
        assert_eq!(shape[1], self.d_in, "width of the rows to read");
        let values = &self.values[start * self.d_in..][..shape.size()];
        out.assign(&ArrayView2::from_shape(shape, values).expect("as many values as out has"));
        Ok(())
    }
}

/// Checks that all values are finite; `name` is what the message calls them, `first_row` the number of the first row.
///
/// A [`Dataset`] does this to everything it reads: it is for values that come another way.
///
/// # Errors
/// `NOT_FINITE` for the first value that is NaN or infinite, by row and column.
pub fn check_finite(values: ArrayView2<f32>, name: &str, first_row: usize) -> Result<(), DataError> {
    match first_non_finite(values) {
        Some((row, column, value)) => Err(DataError::not_finite(name, first_row + row, column, value)),
        None => Ok(()),
    }
}

fn first_non_finite(values: ArrayView2<f32>) -> Option<(usize, usize, f32)> {
    // a maximum has no early exit, so it vectorises; magnitudes order like their bits, NaN above infinity
    let largest = values.fold(0, |largest: u32, value| largest.max(value.abs().to_bits()));
    if largest < f32::INFINITY.to_bits() {
        return None;
    }
    values
        .indexed_iter()
        .find(|(_, value)| !value.is_finite())
        .map(|((row, column), &value)| (row, column, value))
}

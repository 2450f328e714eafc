use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, Dimension, s};
use sha2::{Digest, Sha256};

use crate::column::Column;
use crate::error::DataError;
use crate::kept_files::KeptFiles;
use crate::open;
use crate::row_set::RowSet;

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

/// Values that are read before they are checked.
const CHECKED_VALUES: usize = 1 << 16;

/// One or more sources of equal width, stacked; every value that comes out is finite.
///
/// With a target ([`Dataset::with_target`]) each row has the values of the hidden state first, then those of its target.
pub struct Dataset {
    sources: Vec<Box<dyn Source>>,
    /// First row of each source.
    starts: Vec<usize>,
    rows: usize,
    d_in: usize,
    target: Option<Box<Dataset>>,
}

/// Columns that say which token a row is of: a row and its target are of the same one.
const OF_TOKENS: [Column; 3] = [Column::Sequence, Column::Position, Column::Token];

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
        Ok(Self { sources, starts, rows, d_in, target: None })
    }

    /// Opens files, folders (their files of [`EXTENSIONS`](crate::EXTENSIONS)) and glob patterns, each with an optional
    /// `#tensor`, `#tensor:layer=INDEX` or `#:layer=INDEX`, and stacks them: in the order given, sorted by name within a
    /// folder or pattern.
    ///
    /// Only headers are read; values are read, and checked, when they are asked for.
    ///
    /// # Errors
    /// As [`Dataset::new`]; `INVALID_ARGUMENT` for a pattern or folder without data, `IO` for a path that cannot be
    /// read, `UNSUPPORTED_FORMAT`, `SHAPE_MISMATCH` or `CORRUPT_FILE` for what is in it.
    pub fn open(specs: &[String]) -> Result<Self, DataError> {
        Self::new(open::open_sources(specs)?)
    }

    /// The same, with files whose bytes are shared with whoever opens them with the same `kept`: each byte is read once as long as
    /// they fit.
    ///
    /// # Errors
    /// As [`Dataset::open`], and `CORRUPT_FILE` for a file that has changed since it was first opened so.
    pub fn open_kept(specs: &[String], kept: &Arc<KeptFiles>) -> Result<Self, DataError> {
        Self::new(open::open_kept_sources(specs, kept)?)
    }

    /// Puts beside each hidden state what is to be made of it: the row of `target` with the same number. Columns, names and
    /// pieces stay those of the hidden states.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` if there are more targets or fewer.
    pub fn with_target(self, target: Self) -> Result<Self, DataError> {
        if target.rows != self.rows {
            return Err(DataError::shape(format!(
                "{} has {} rows, the target {} has {}; give one target for each hidden state, in the same order",
                self.named(),
                self.rows,
                target.named(),
                target.rows
            )));
        }
        Ok(Self { target: Some(Box::new(target)), ..self })
    }

    /// Number of hidden states.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.d_in
    }

    /// Width of what is to be made of a hidden state: of its target, where there is one, or its own.
    pub fn d_out(&self) -> usize {
        self.target.as_ref().map_or(self.d_in, |target| target.d_in)
    }

    /// Values of a row as it is read: `d_in`, and those of its target behind them.
    pub fn width(&self) -> usize {
        self.d_in + self.target.as_ref().map_or(0, |target| target.d_in)
    }

    /// Whether there is a target.
    pub fn has_target(&self) -> bool {
        self.target.is_some()
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

    /// Checks that the targets fit a model that gives width `d_out`, which messages call `model`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`
    pub fn require_d_out(&self, d_out: usize, model: &str) -> Result<(), DataError> {
        if self.d_out() == d_out {
            return Ok(());
        }
        Err(DataError::shape(format!(
            "{} has targets of width {}, {model} gives width {d_out}; give targets of the layer it was trained on",
            self.target.as_deref().unwrap_or(self).sources[0].name(),
            self.d_out()
        )))
    }

    /// Name of the source of a row, and the row's number there.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn locate(&self, row: usize) -> (String, usize) {
        let source = self.source_of(row);
        (self.sources[source].name(), row - self.starts[source])
    }

    /// Reads the rows `range` into `out [range.len(), width]`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for rows that are not there, `NOT_FINITE`, or what the source says.
    ///
    /// # Panics
    /// If `out` has another shape.
    pub fn read(&self, range: Range<usize>, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert_eq!(out.dim(), (range.len(), self.width()), "shape of the rows to read");
        if range.end > self.rows {
            return Err(self.no_row(range.end - 1));
        }
        // small enough to be checked while it is in the cache
        let together = (CHECKED_VALUES / self.width()).max(1);
        for start in range.clone().step_by(together) {
            let part = start..range.end.min(start + together);
            let mut out = out.slice_mut(s![part.start - range.start..part.end - range.start, ..]);
            self.read_raw(part, out.view_mut())?;
            if let Some((row, column, value)) = first_non_finite(out.view()) {
                return Err(self.not_finite(start + row, column, value));
            }
        }
        Ok(())
    }

    /// Reads those rows of `range` that are in `rows`, which are as many as `out [n, width]` has; the others may hold
    /// anything. Several ranges in turn use one `scratch`.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    ///
    /// # Panics
    /// If `out` has another shape.
    pub(crate) fn read_selected(
        &self,
        range: Range<usize>,
        rows: &RowSet,
        mut out: ArrayViewMut2<f32>,
        scratch: &mut Vec<f32>,
    ) -> Result<(), DataError> {
        let count = rows.count_in(range.clone());
        assert_eq!(out.dim(), (count, self.width()), "shape of the rows to read");
        if count == range.len() {
            return self.read(range, out);
        }
        scratch.resize(range.len() * self.width(), 0.0);
        let mut all =
            ArrayViewMut2::from_shape((range.len(), self.width()), scratch).expect("as many values");
        self.read_raw(range.clone(), all.view_mut())?;
        for (mut out, row) in out.axis_iter_mut(Axis(0)).zip(rows.rows_in(range.clone())) {
            out.assign(&all.row(row - range.start));
        }
        if let Some((at, column, value)) = first_non_finite(out.view()) {
            let row = rows.rows_in(range).nth(at).expect("as many rows as were read");
            return Err(self.not_finite(row, column, value));
        }
        Ok(())
    }

    /// Reads the rows `range`, finite or not.
    pub(crate) fn read_raw(&self, range: Range<usize>, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        let Some(target) = &self.target else {
            for (source, first, part) in self.parts(range) {
                source.read(first, out.slice_mut(s![part, ..]))?;
            }
            return Ok(());
        };
        let (x, y) = out.view_mut().split_at(Axis(1), self.d_in);
        for (of, mut out) in [(self, x), (&**target, y)] {
            // sources read fastest into rows without anything between them
            let mut values = Array2::zeros(out.raw_dim());
            for (source, first, part) in of.parts(range.clone()) {
                source.read(first, values.slice_mut(s![part, ..]))?;
            }
            out.assign(&values);
        }
        Ok(())
    }

    /// Checks that the rows `range` and their targets are of the same tokens, as far as both say which they are of.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the first row where they are not; those of reading.
    pub(crate) fn check_order(&self, range: Range<usize>) -> Result<(), DataError> {
        let Some(target) = &self.target else { return Ok(()) };
        let (mut of_rows, mut of_targets) = (vec![0; range.len()], vec![0; range.len()]);
        for column in OF_TOKENS {
            if !self.has_column(column) || !target.has_column(column) {
                continue;
            }
            self.read_column(column, range.clone(), &mut of_rows)?;
            target.read_column(column, range.clone(), &mut of_targets)?;
            let Some(at) = (0..range.len()).find(|&at| of_rows[at] != of_targets[at]) else { continue };
            let ((name, row), (other, other_row)) =
                (self.locate(range.start + at), target.locate(range.start + at));
            return Err(DataError::argument(format!(
                "{name}: row {row} has {column} {}, its target, {other} row {other_row}, has {}; give targets of the \
                 same tokens in the same order",
                of_rows[at], of_targets[at]
            )));
        }
        Ok(())
    }

    /// Whether all sources bring this column.
    pub fn has_column(&self, column: Column) -> bool {
        self.sources.iter().all(|source| source.columns().contains(&column))
    }

    /// The first source that lacks a column which others bring.
    pub fn lacks(&self, column: Column) -> Option<String> {
        let has = |source: &dyn Source| source.columns().contains(&column);
        let lacking = self.sources.iter().find(|source| !has(&***source))?;
        self.sources.iter().any(|source| has(&**source)).then(|| lacking.name())
    }

    /// Reads the values of a column for the rows `range` into `out`, which is as long.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the first source that lacks it; those of reading.
    ///
    /// # Panics
    /// If `out` has another length, or for rows that are not there.
    pub fn read_column(&self, column: Column, range: Range<usize>, out: &mut [i64]) -> Result<(), DataError> {
        assert_eq!(out.len(), range.len(), "rows of the column to read");
        for (source, first, part) in self.parts(range) {
            if !source.columns().contains(&column) {
                return Err(no_column(source, column));
            }
            source.read_column(column, first, &mut out[part])?;
        }
        Ok(())
    }

    /// The values of a column for some rows, which come ascending.
    ///
    /// # Errors
    /// As [`Dataset::read_column`].
    ///
    /// # Panics
    /// If there is no such row, or they do not ascend.
    pub fn read_column_of(&self, column: Column, rows: &[usize]) -> Result<Vec<i64>, DataError> {
        // what lies between is read too: at most so many rows for one that is wanted
        const SPAN: usize = 4096;
        let mut values = Vec::with_capacity(rows.len());
        let mut read = vec![];
        let mut rest = rows;
        while let Some(&start) = rest.first() {
            let near = rest.partition_point(|&row| row < start + SPAN);
            read.resize(rest[near - 1] + 1 - start, 0);
            self.read_column(column, start..start + read.len(), &mut read)?;
            values.extend(rest[..near].iter().map(|&row| read[row - start]));
            rest = &rest[near..];
        }
        Ok(values)
    }

    /// Calls `each` with the row and its value for all of `rows`, in order.
    ///
    /// # Errors
    /// As [`Dataset::read_column`].
    pub(crate) fn for_each_of(
        &self,
        column: Column,
        rows: &RowSet,
        mut each: impl FnMut(usize, i64),
    ) -> Result<(), DataError> {
        const CHUNK: usize = 65_536;
        let mut values = vec![];
        for start in (0..self.rows).step_by(CHUNK) {
            let range = start..self.rows.min(start + CHUNK);
            values.resize(range.len(), 0);
            self.read_column(column, range.clone(), &mut values)?;
            for row in rows.rows_in(range) {
                each(row, values[row - start]);
            }
        }
        Ok(())
    }

    /// Where blocks of about `rows` rows start, and where the last one ends: as even as can be, and with the pieces of
    /// sources that are decoded from their start on, cut into no more than eight unless that makes more than `most` rows.
    pub(crate) fn blocks(&self, rows: usize, most: usize) -> Vec<usize> {
        const CUTS: usize = 8;
        if let Some(target) =
            self.target.as_ref().filter(|_| self.sources.iter().all(|source| source.pieces().is_empty()))
        {
            return target.blocks(rows, most);
        }
        let rows = rows.max(1);
        let mut starts = vec![0];
        let mut end = 0;
        for source in &self.sources {
            let pieces = source.pieces();
            if pieces.is_empty() {
                end += source.rows();
                // short sources share a block
                while end - starts[starts.len() - 1] >= rows {
                    starts.push(starts[starts.len() - 1] + rows);
                }
                continue;
            }
            for piece in pieces {
                let block = rows.max(piece.div_ceil(CUTS).min(most));
                if end > starts[starts.len() - 1] {
                    starts.push(end);
                }
                starts.extend((block..piece).step_by(block).map(|at| end + at));
                end += piece;
            }
            if end > starts[starts.len() - 1] {
                starts.push(end);
            }
        }
        if end > starts[starts.len() - 1] {
            starts.push(end);
        }
        starts
    }

    /// Number of sources.
    pub fn sources(&self) -> usize {
        self.sources.len()
    }

    /// Number of the source that holds a row, from 0.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn source_of(&self, row: usize) -> usize {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        // sources without rows start where the next one does: the last that starts here has the row
        self.starts.partition_point(|&start| start <= row) - 1
    }

    /// A checksum (SHA-256, hexadecimal) that tells this data from other data: over the names without folders, rows and bytes of all sources in
    /// their order, and the values of the first and last row of some; then over that of the targets.
    ///
    /// # Errors
    /// Those of reading.
    pub fn fingerprint(&self) -> Result<String, DataError> {
        const LOOKED_INTO: usize = 64;
        let mut hash = Sha256::new();
        let mut row = Array2::zeros((1, self.d_in));
        for (at, source) in self.sources.iter().enumerate() {
            let name = source.name();
            let name = name.rsplit(['/', '\\']).next().unwrap_or(&name);
            hash.update(format!("{name} {} {} {}\n", source.rows(), source.d_in(), source.size()));
            let far = at % self.sources.len().div_ceil(LOOKED_INTO) != 0;
            if far || source.rows() == 0 || !source.pieces().is_empty() {
                continue;
            }
            for number in [0, source.rows() - 1] {
                source.read(number, row.view_mut())?;
                row.iter().for_each(|value: &f32| hash.update(value.to_le_bytes()));
            }
        }
        if let Some(target) = &self.target {
            hash.update(format!("target {}\n", target.fingerprint()?));
        }
        Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The error for a value that is not finite, by its row of the data and its column as it is read.
    pub(crate) fn not_finite(&self, row: usize, column: usize, value: f32) -> DataError {
        if let Some(target) = self.target.as_ref().filter(|_| column >= self.d_in) {
            return target.not_finite(row, column - self.d_in, value);
        }
        let (name, row) = self.locate(row);
        let advice = "remove or repair that row, or leave such rows out (--skip-invalid, skipInvalid)";
        DataError::NotFinite { name, row, column, value, advice }
    }

    /// The sources that hold the rows `range`, each with its first row of them and where they come in the range.
    fn parts(&self, range: Range<usize>) -> impl Iterator<Item = (&dyn Source, usize, Range<usize>)> {
        let mut row = range.start;
        std::iter::from_fn(move || {
            if row >= range.end {
                return None;
            }
            let at = self.source_of(row);
            let (source, first) = (&*self.sources[at], row - self.starts[at]);
            let count = (source.rows() - first).min(range.end - row);
            let done = row - range.start;
            row += count;
            Some((source, first, done..done + count))
        })
    }

    /// What messages call all of it.
    fn named(&self) -> String {
        let others = self.sources.len() - 1;
        let more = if others > 0 { format!(" and {others} more") } else { String::new() };
        format!("{}{more}", self.sources[0].name())
    }

    fn no_row(&self, row: usize) -> DataError {
        DataError::argument(format!(
            "row {row} was asked for, the data has {}; is it the same data as before?",
            self.rows
        ))
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

/// What a [`Source`] may rely on: a [`Dataset`] asks for rows that are there only.
pub(crate) fn assert_rows(source: &impl Source, start: usize, out: &ArrayViewMut2<f32>) {
    let rows = source.rows();
    assert!(out.ncols() == source.d_in() && start + out.nrows() <= rows, "rows {start}.. of {rows}");
}

fn no_column(source: &dyn Source, column: Column) -> DataError {
    let columns: Vec<String> = source.columns().iter().map(Column::to_string).collect();
    DataError::argument(format!(
        "{} has no column {column}{}; name another one, or add it, one whole number a row, under one of the names {}",
        source.name(),
        if columns.is_empty() { String::new() } else { format!(", only {}", columns.join(", ")) },
        column.names().join(", ")
    ))
}

fn first_non_finite(values: ArrayView2<f32>) -> Option<(usize, usize, f32)> {
    // no early exit, so it vectorises, and in instructions that every CPU has
    const EXPONENT: u32 = f32::INFINITY.to_bits();
    let found = values.fold(0, |found, value| found | u32::from(value.to_bits() & EXPONENT == EXPONENT));
    if found == 0 {
        return None;
    }
    values
        .indexed_iter()
        .find(|(_, value)| !value.is_finite())
        .map(|((row, column), &value)| (row, column, value))
}

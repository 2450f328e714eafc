//! A matrix cut into panels of columns, so that work on a few columns of all rows stays in the cache.

use ndarray::{Array2, ArrayView2};
use rayon::prelude::*;

/// Columns of a panel.
pub const WIDTH: usize = 64;

/// `[rows, columns]` as panels `[panel][row][64]`; what fills up the last panel is never read.
#[derive(Clone, Debug, Default)]
pub struct ColumnPanels {
    rows: usize,
    columns: usize,
    values: Vec<[f32; WIDTH]>,
}

impl ColumnPanels {
    /// All values 0.
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![[0.0; WIDTH]; rows * columns.div_ceil(WIDTH)] }
    }

    /// A copy of a matrix.
    pub fn from_rows(from: ArrayView2<f32>) -> Self {
        let mut panels = Self::zeros(from.nrows(), from.ncols());
        panels.panels_mut().for_each(|(first, panel)| {
            for (to, row) in panel.iter_mut().zip(from.rows()) {
                to.iter_mut().zip(row.iter().skip(first)).for_each(|(to, &value)| *to = value);
            }
        });
        panels
    }

    /// The matrix, row-major.
    pub fn to_rows(&self) -> Array2<f32> {
        let mut rows = vec![];
        self.copy_rows(&mut rows);
        Array2::from_shape_vec((self.rows, self.columns), rows).expect("rows and columns")
    }

    /// The matrix, row-major, into memory that is used again.
    pub fn copy_rows(&self, to: &mut Vec<f32>) {
        to.resize(self.rows * self.columns, 0.0);
        to.par_chunks_exact_mut(self.columns.max(1)).enumerate().for_each(|(row, to)| {
            for (panel, to) in to.chunks_mut(WIDTH).enumerate() {
                to.copy_from_slice(&self.values[panel * self.rows + row][..to.len()]);
            }
        });
    }

    /// Makes it `[rows, columns]`, with any values, using its memory again.
    pub fn resize(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.values.resize(rows * columns.div_ceil(WIDTH), [0.0; WIDTH]);
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, without padding.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Columns 64 · panel and on, row by row.
    pub fn panel(&self, panel: usize) -> &[[f32; WIDTH]] {
        &self.values[panel * self.rows..(panel + 1) * self.rows]
    }

    /// All panels with their first column, to write in parallel.
    pub fn panels_mut(&mut self) -> impl IndexedParallelIterator<Item = (usize, &mut [[f32; WIDTH]])> {
        self.values
            .par_chunks_mut(self.rows.max(1))
            .with_max_len(1)
            .enumerate()
            .map(|(at, panel)| (at * WIDTH, panel))
    }
}

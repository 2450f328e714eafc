//! The f32 matrix product, one chain of fused multiply-adds for each output element.
//!
//! c[i, j] starts from what it is and takes `c = fma(a[i, l], b[l, j], c)` for ascending l, rounded once each. The bits
//! therefore depend on nothing but the data. Rows of a are packed once; b comes in panels of 32 columns, which is how
//! the encoder is stored and how gradients are made.

use crate::Isa;
use crate::batch::PANEL;
use crate::columns::{ColumnPanels, WIDTH};
use crate::isa::per_isa;
use crate::lanes::Simd;
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;
use std::ops::Range;

/// Depth of a block: a panel of b stays in the second-level cache, a tile's rows of a in the first.
const DEPTH: usize = 512;

/// The left side of products, `[rows, depth]`, packed for the registers of one instruction set.
#[derive(Default)]
pub struct PackedRows<T = f32> {
    rows: usize,
    depth: usize,
    tile_rows: usize,
    /// `[block of DEPTH][tile][depth in the block][tile_rows]`; what is missing in the last tile is 0.
    values: Vec<T>,
}

/// What the product multiplies: one depth in 32 bits, or more.
pub(crate) trait Factor: Copy + Default + Send + Sync {
    /// A register of factors.
    type Register<S: Simd>: Copy;
    /// The same in all lanes.
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Register<S>;
    /// The first factors of `from`.
    fn load<S: Simd>(simd: S, from: &[Self]) -> Self::Register<S>;
    /// A sum as [`Factor::mul_add`] may take it.
    fn start<S: Simd>(simd: S, sum: S::Floats) -> S::Floats;
    /// a·b + c.
    fn mul_add<S: Simd>(simd: S, a: Self::Register<S>, b: Self::Register<S>, c: S::Floats) -> S::Floats;
}

impl Factor for f32 {
    type Register<S: Simd> = S::Floats;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: f32) -> S::Floats {
        simd.splat(value)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[f32]) -> S::Floats {
        simd.load(from)
    }
    #[inline(always)]
    fn start<S: Simd>(_: S, sum: S::Floats) -> S::Floats {
        sum
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::Floats, b: S::Floats, c: S::Floats) -> S::Floats {
        simd.mul_add(a, b, c)
    }
}

impl PackedRows {
    /// Packs a matrix `[rows, depth]`; a transposed view packs its transpose. Memory is used again.
    pub fn pack(&mut self, isa: Isa, from: ArrayView2<f32>) {
        let (rows, depth) = from.dim();
        self.fill(isa, rows, depth, |rows, depths, tile_rows, to| {
            copy_tile(from.slice(s![rows, depths]), tile_rows, to);
        });
    }

    /// Packs `[rows, columns]` that is cut into panels of columns.
    pub fn pack_columns(&mut self, isa: Isa, from: &ColumnPanels) {
        self.fill(isa, from.rows(), from.columns(), |rows, depths, tile_rows, to| {
            copy_columns(from, rows, depths, tile_rows, to);
        });
    }
}

impl<T: Copy + Default + Send + Sync> PackedRows<T> {
    /// Packs by a function that writes the given rows and depths of one tile as `[depth][rows of a tile]`; rows that
    /// the last tile lacks are 0 before.
    pub(crate) fn fill(
        &mut self,
        isa: Isa,
        rows: usize,
        depth: usize,
        fill: impl Fn(Range<usize>, Range<usize>, usize, &mut [T]) + Sync,
    ) {
        let tile_rows = tile_rows(isa);
        let tiles = rows.div_ceil(tile_rows);
        (self.rows, self.depth, self.tile_rows) = (rows, depth, tile_rows);
        self.values.resize(tiles * tile_rows * depth, T::default());
        let mut blocks = self.values.as_mut_slice();
        for start in (0..depth).step_by(DEPTH) {
            let depths = start..depth.min(start + DEPTH);
            let (block, rest) = blocks.split_at_mut(tiles * tile_rows * depths.len());
            blocks = rest;
            block.par_chunks_mut(tile_rows * depths.len()).enumerate().for_each(|(tile, to)| {
                let first = tile * tile_rows;
                let here = first..rows.min(first + tile_rows);
                if here.len() < tile_rows {
                    to.fill(T::default());
                }
                fill(here, depths.clone(), tile_rows, to);
            });
        }
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> &[T] {
        &self.values
    }

    /// The blocks: first depth, and the tiles one after another.
    fn blocks(&self) -> impl Iterator<Item = (Range<usize>, &[T])> {
        let lanes = self.rows.div_ceil(self.tile_rows.max(1)) * self.tile_rows;
        (0..self.depth).step_by(DEPTH).map(move |start| {
            let end = self.depth.min(start + DEPTH);
            (start..end, &self.values[start * lanes..end * lanes])
        })
    }
}

impl<T> PackedRows<T> {
    /// Rows packed.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values to a row.
    pub fn depth(&self) -> usize {
        self.depth
    }
}

/// Copies up to `tile_rows` rows to `[depth][tile_rows]`.
pub(crate) fn copy_tile(from: ArrayView2<f32>, tile_rows: usize, to: &mut [f32]) {
    if from.strides()[0] == 1 {
        for (column, to) in from.columns().into_iter().zip(to.chunks_exact_mut(tile_rows)) {
            match column.to_slice() {
                Some(column) => to[..column.len()].copy_from_slice(column),
                None => to.iter_mut().zip(column).for_each(|(to, &value)| *to = value),
            }
        }
        return;
    }
    for (row, values) in from.rows().into_iter().enumerate() {
        for (to, &value) in to.chunks_exact_mut(tile_rows).zip(values) {
            to[row] = value;
        }
    }
}

/// Copies rows and depths of a matrix in panels of columns to `[depth][tile_rows]`; the first depth begins a panel.
pub(crate) fn copy_columns(
    from: &ColumnPanels,
    rows: Range<usize>,
    depths: Range<usize>,
    tile_rows: usize,
    to: &mut [f32],
) {
    for first in depths.clone().step_by(WIDTH) {
        let count = WIDTH.min(depths.end - first);
        let panel = &from.panel(first / WIDTH)[rows.clone()];
        let to = &mut to[(first - depths.start) * tile_rows..];
        for (row, values) in panel.iter().enumerate() {
            for (to, &value) in to.chunks_exact_mut(tile_rows).zip(&values[..count]) {
                to[row] = value;
            }
        }
    }
}

per_isa! {
    fn tile_rows[simd: S]() -> usize {
        S::TILE_ROWS
    }
}

per_isa! {
    /// out += a · b for one panel or several, which read each row of a once: b `[panel][depth][32]`, out
    /// `[panel][rows][32]`.
    ///
    /// Panics if the lengths do not fit `a`.
    pub fn add_panel[simd: S](a: &PackedRows, b: &[f32], out: &mut [f32]) {
        add_tiles(simd, a, b, out);
    }
}

/// [`add_panel`] for any factors.
#[inline(always)]
pub(crate) fn add_tiles<S: Simd, T: Factor>(simd: S, a: &PackedRows<T>, b: &[T], out: &mut [f32]) {
    let panels = b.len().checked_div(a.depth * PANEL).unwrap_or(1);
    let lengths = (panels * a.depth * PANEL, panels * a.rows * PANEL);
    assert!(b.len() == lengths.0 && (a.depth == 0 || out.len() == lengths.1), "panels of b and of c");
    let (b, _) = b.as_chunks::<PANEL>();
    let (out, _) = out.as_chunks_mut::<PANEL>();
    for (depths, tiles) in a.blocks() {
        assert_eq!(a.tile_rows, S::TILE_ROWS, "rows packed for another instruction set");
        for (tile, values) in tiles.chunks_exact(S::TILE_ROWS * depths.len()).enumerate() {
            let rows = tile * S::TILE_ROWS..a.rows.min((tile + 1) * S::TILE_ROWS);
            for (b, out) in b.chunks_exact(a.depth).zip(out.chunks_exact_mut(a.rows)) {
                let (b, out) = (&b[depths.clone()], &mut out[rows.clone()]);
                match S::TILE_VECTORS {
                    1 => rows_of_tile::<S, T, 1>(simd, values, b, out),
                    _ => rows_of_tile::<S, T, 2>(simd, values, b, out),
                }
            }
        }
    }
}

/// The last tile has fewer rows: a kernel for each number, so that none are computed in vain.
#[inline(always)]
fn rows_of_tile<S: Simd, T: Factor, const VECTORS: usize>(
    simd: S,
    a: &[T],
    b: &[[T; PANEL]],
    out: &mut [[f32; PANEL]],
) {
    macro_rules! tile {
        ($($rows:literal)*) => {
            match out.len() {
                $($rows if $rows <= S::TILE_ROWS => tile::<S, T, VECTORS, $rows>(simd, a, b, out),)*
                rows => unreachable!("{rows} rows in a tile of {}", S::TILE_ROWS),
            }
        };
    }
    tile!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn tile<S: Simd, T: Factor, const VECTORS: usize, const ROWS: usize>(
    simd: S,
    a: &[T],
    b: &[[T; PANEL]],
    out: &mut [[f32; PANEL]],
) {
    let out: &mut [[f32; PANEL]; ROWS] = out.first_chunk_mut().expect("rows of a tile");
    // plain loops over indices: a register that passes through a closure of the library may be left uninlined in code
    // that knows nothing of the instruction set
    let mut first = 0;
    while first + VECTORS * S::LANES <= PANEL {
        let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                sums[row][vector] = T::start(simd, simd.load(&out[row][first + vector * S::LANES..]));
            }
        }
        for (a, b) in a.chunks_exact(S::TILE_ROWS).zip(b) {
            let mut columns = [T::splat(simd, T::default()); VECTORS];
            for vector in 0..VECTORS {
                columns[vector] = T::load(simd, &b[first + vector * S::LANES..]);
            }
            for row in 0..ROWS {
                let value = T::splat(simd, a[row]);
                for vector in 0..VECTORS {
                    sums[row][vector] = T::mul_add(simd, value, columns[vector], sums[row][vector]);
                }
            }
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                simd.store(sums[row][vector], &mut out[row][first + vector * S::LANES..]);
            }
        }
        first += VECTORS * S::LANES;
    }
}

per_isa! {
    /// Turns up to 32 rows of `width` values into a panel `[width][32]`; missing rows become 0.
    ///
    /// Panics if `rows` is more than 32 rows, or `panel` has another length.
    pub fn turn_rows[simd: S](rows: &[f32], width: usize, panel: &mut [f32]) {
        assert!(rows.len() <= PANEL * width && panel.len() == PANEL * width, "rows of a panel");
        let count = rows.len().checked_div(width).unwrap_or(0);
        if count < PANEL {
            panel.fill(0.0);
        }
        let (whole_rows, whole) = (count - count % S::LANES, width - width % S::LANES);
        for row in (0..whole_rows).step_by(S::LANES) {
            for column in (0..whole).step_by(S::LANES) {
                simd.transpose(&rows[row * width + column..], width, &mut panel[column * PANEL + row..], PANEL);
            }
        }
        for row in 0..count {
            let rest = if row < whole_rows { whole } else { 0 };
            for column in rest..width {
                panel[column * PANEL + row] = rows[row * width + column];
            }
        }
    }
}

per_isa! {
    /// Turns a panel `[width][32]` into up to 32 rows of `width` values: as many as `rows` has.
    ///
    /// Panics if `rows` is more than 32 rows, or `panel` has another length.
    pub fn turn_panel[simd: S](panel: &[f32], width: usize, rows: &mut [f32]) {
        assert!(rows.len() <= PANEL * width && panel.len() == PANEL * width, "rows of a panel");
        let count = rows.len().checked_div(width).unwrap_or(0);
        let (whole_rows, whole) = (count - count % S::LANES, width - width % S::LANES);
        for row in (0..whole_rows).step_by(S::LANES) {
            for column in (0..whole).step_by(S::LANES) {
                simd.transpose(&panel[column * PANEL + row..], PANEL, &mut rows[row * width + column..], width);
            }
        }
        for row in 0..count {
            let rest = if row < whole_rows { whole } else { 0 };
            for column in rest..width {
                rows[row * width + column] = panel[column * PANEL + row];
            }
        }
    }
}

/// c += a · b for a `[m, k]`, b `[k, n]`, c `[m, n]`, whatever their strides: for work outside the training step.
///
/// # Panics
/// If the shapes do not agree.
pub fn add_product(isa: Isa, a: ArrayView2<f32>, b: ArrayView2<f32>, mut c: ArrayViewMut2<f32>) {
    assert_eq!((a.nrows(), a.ncols(), b.ncols()), (c.nrows(), b.nrows(), c.ncols()), "shapes of c += a b");
    let mut packed = PackedRows::default();
    packed.pack(isa, a);
    let (m, k) = a.dim();
    c.axis_chunks_iter_mut(ndarray::Axis(1), PANEL).into_par_iter().enumerate().for_each(|(panel, mut c)| {
        let columns = panel * PANEL..panel * PANEL + c.ncols();
        let mut b_panel = vec![0f32; k * PANEL];
        let b = b.slice(s![.., columns]).reversed_axes();
        match b.to_slice() {
            Some(rows) => turn_rows(isa, rows, k, &mut b_panel),
            None => copy_tile(b, PANEL, &mut b_panel),
        }
        let mut out = vec![0f32; m * PANEL];
        for (out, row) in out.chunks_exact_mut(PANEL).zip(c.rows()) {
            out.iter_mut().zip(row).for_each(|(out, &value)| *out = value);
        }
        add_panel(isa, &packed, &b_panel, &mut out);
        for (out, row) in out.chunks_exact(PANEL).zip(c.rows_mut()) {
            row.into_iter().zip(out).for_each(|(value, &out)| *value = out);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values;
    use crate::{cases, up_to};
    use ndarray::Array2;
    use proptest::prelude::*;

    fn chain(a: &Array2<f32>, b: &Array2<f32>, c: &Array2<f32>) -> Array2<f32> {
        let element =
            |i: usize, j: usize| (0..a.ncols()).fold(c[[i, j]], |sum, l| a[[i, l]].mul_add(b[[l, j]], sum));
        Array2::from_shape_fn(c.dim(), |(i, j)| element(i, j))
    }

    fn same_bits(got: &[f32], want: &[f32]) -> bool {
        got.len() == want.len() && got.iter().zip(want).all(|(x, y)| x.to_bits() == y.to_bits())
    }

    fn check(m: usize, k: usize, n: usize, seed: u64) {
        let (a, b, c) = (values(m, k, seed), values(k, n, seed ^ 77), values(m, n, seed ^ 1234));
        let want = chain(&a, &b, &c);
        let (at, bt) = (a.t().as_standard_layout().into_owned(), b.t().as_standard_layout().into_owned());
        for isa in Isa::available() {
            for (a, b) in [(a.view(), b.view()), (at.t(), bt.t())] {
                let mut got = c.clone();
                add_product(isa, a, b, got.view_mut());
                let same = same_bits(got.as_slice().unwrap(), want.as_slice().unwrap());
                assert!(same, "{} {m}x{k}x{n}", isa.name());
            }
            let panels = ColumnPanels::from_rows(a.view());
            let (mut rows, mut columns) = (PackedRows::default(), PackedRows::default());
            rows.pack(isa, a.view());
            columns.pack_columns(isa, &panels);
            assert!(same_bits(&rows.values, &columns.values), "{} {m}x{k}", isa.name());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn equals_the_scalar_chain_at_block_edges() {
        for size in [1, 15, 16, 17, 31, 33, 64] {
            check(size, 17, 33, 5);
            check(15, size, 31, 6);
            check(13, 5, size, 7);
        }
        check(3, 1100, 40, 8);
        check(0, 4, 4, 9);
        check(4, 0, 4, 10);
        check(4, 4, 0, 11);
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn equals_the_scalar_chain(m in 0..up_to(60), k in 0..up_to(90), n in 0..up_to(90), seed: u64) {
            check(m, k, n, seed);
        }

        #[test]
        fn rows_turn_into_a_panel(count in 0..up_to(33), width in 0..up_to(70), seed: u64) {
            let rows = values(count, width, seed);
            for isa in Isa::available() {
                let mut panel = vec![7f32; width * PANEL];
                turn_rows(isa, rows.as_slice().unwrap(), width, &mut panel);
                for (column, panel) in panel.chunks_exact(PANEL).enumerate() {
                    for (row, &value) in panel.iter().enumerate() {
                        prop_assert_eq!(value, if row < count { rows[[row, column]] } else { 0.0 });
                    }
                }
                let mut back = vec![7f32; count * width];
                turn_panel(isa, &panel, width, &mut back);
                prop_assert_eq!(&back, rows.as_slice().unwrap());
            }
        }
    }
}

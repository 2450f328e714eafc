//! The f32 matrix product, one chain of fused multiply-adds for each output element.

use crate::isa::{Isa, Kind};
use crate::vector::{self, Vector};
use ndarray::{ArrayView2, ArrayViewMut2, s};
use rayon::prelude::*;

/// Depth of a block: the packed panels of one block stay in the first- and second-level cache.
const DEPTH: usize = 512;

/// Values in the largest block of c that is kept in registers.
const LARGEST_TILE: usize = 14 * 32;

/// c += a · b for a `[m, k]`, b `[k, n]`, c `[m, n]`.
///
/// c[i, j] is one chain: starting from c[i, j], `c = fma(a[i, l], b[l, j], c)` for ascending l, rounded once each.
/// The bits therefore depend on nothing but the data. a and b may be transposed views; c is row-major.
///
/// # Panics
/// If the shapes do not agree or c is not row-major.
pub fn add_product(isa: Isa, a: ArrayView2<f32>, b: ArrayView2<f32>, mut c: ArrayViewMut2<f32>) {
    assert_eq!((a.nrows(), a.ncols(), b.ncols()), (c.nrows(), b.nrows(), c.ncols()), "shapes of c += a b");
    let columns = c.ncols();
    let c = c.as_slice_mut().expect("c is row-major");
    match isa.0 {
        // SAFETY: plain Rust needs no feature.
        Kind::Portable => unsafe { blocked::<vector::Portable, 4, 1>(isa, a, b, c, columns) },
        // SAFETY: an `Isa` of this kind exists only where AVX2 and FMA were detected.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { blocked::<vector::x86::Avx2, 6, 2>(isa, a, b, c, columns) },
        // SAFETY: as above with AVX-512 F.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { blocked::<vector::x86::Avx512, 14, 2>(isa, a, b, c, columns) },
    }
}

/// A raw pointer that threads may share because each writes its own columns.
#[derive(Clone, Copy)]
struct Shared(*mut f32);
// SAFETY: the tasks of `blocked` write disjoint column panels of the matrix behind the pointer.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}
impl Shared {
    fn pointer(self) -> *mut f32 {
        self.0
    }
}

/// # Safety
/// V is the register of `isa`.
unsafe fn blocked<V: Vector, const ROWS: usize, const VECTORS: usize>(
    isa: Isa,
    a: ArrayView2<f32>,
    b: ArrayView2<f32>,
    c: &mut [f32],
    columns: usize,
) {
    let width = V::LANES * VECTORS;
    let (m, k) = a.dim();
    let mut a_panels = vec![0f32; m.div_ceil(ROWS) * ROWS * k.min(DEPTH)];
    let target = Shared(c.as_mut_ptr());
    for depth_start in (0..k).step_by(DEPTH) {
        let depth = DEPTH.min(k - depth_start);
        let a_block = a.slice(s![.., depth_start..depth_start + depth]);
        let b_block = b.slice(s![depth_start..depth_start + depth, ..]);
        a_panels.par_chunks_mut(ROWS * depth).take(m.div_ceil(ROWS)).enumerate().for_each(|(panel, to)| {
            let rows = ROWS.min(m - panel * ROWS);
            pack(to, ROWS, a_block.slice(s![panel * ROWS..panel * ROWS + rows, ..]));
        });
        (0..columns.div_ceil(width)).into_par_iter().for_each_init(
            || vec![0f32; width * depth],
            |b_panel, panel| {
                let first = panel * width;
                let lanes = width.min(columns - first);
                pack(b_panel, width, b_block.slice(s![.., first..first + lanes]).reversed_axes());
                for (row_panel, a_panel) in
                    a_panels.chunks_exact(ROWS * depth).take(m.div_ceil(ROWS)).enumerate()
                {
                    let rows = ROWS.min(m - row_panel * ROWS);
                    // SAFETY: rows row_panel·ROWS.. and columns first..first+lanes lie inside c, which has
                    // `columns` to a row; no other task touches these columns.
                    let corner = unsafe { target.pointer().add(row_panel * ROWS * columns + first) };
                    let tile = Tile { depth, a: a_panel, b: b_panel, corner, stride: columns, rows, lanes };
                    // SAFETY: V is the register of `isa`; the block is this task's alone, as said above.
                    unsafe { run_tile::<V, ROWS, VECTORS>(isa, tile) };
                }
            },
        );
    }
}

/// Copies `from` `[lanes, k]` to `to` `[k, width]`, missing lanes as 0.
fn pack(to: &mut [f32], width: usize, from: ArrayView2<f32>) {
    let (lanes, depth) = from.dim();
    if lanes < width {
        to.fill(0.0);
    }
    if from.strides()[0] == 1 || lanes == 1 && from.strides()[1] != 1 {
        for (l, to) in to.chunks_exact_mut(width).take(depth).enumerate() {
            match from.column(l).to_slice() {
                Some(column) => to[..lanes].copy_from_slice(column),
                None => (0..lanes).for_each(|lane| to[lane] = from[[lane, l]]),
            }
        }
    } else {
        for lane in 0..lanes {
            for (to, &value) in to.chunks_exact_mut(width).zip(from.row(lane)) {
                to[lane] = value;
            }
        }
    }
}

/// One block of c: `rows` × `lanes` values at `corner`, `stride` values from row to row.
struct Tile<'a> {
    depth: usize,
    a: &'a [f32],
    b: &'a [f32],
    corner: *mut f32,
    stride: usize,
    rows: usize,
    lanes: usize,
}

/// # Safety
/// V is the register of `isa`, and the block of c behind `tile` is the caller's alone.
unsafe fn run_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(isa: Isa, tile: Tile) {
    assert!(tile.a.len() >= ROWS * tile.depth && tile.b.len() >= V::LANES * VECTORS * tile.depth);
    match isa.0 {
        // SAFETY: plain Rust; the panels were checked above and the caller of `run_tile` owns the block of c.
        Kind::Portable => unsafe { body::<V, ROWS, VECTORS>(tile) },
        // SAFETY: an `Isa` of this kind exists only where AVX2 and FMA were detected; otherwise as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => unsafe { avx2::<V, ROWS, VECTORS>(tile) },
        // SAFETY: as above with AVX-512 F.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512 => unsafe { avx512::<V, ROWS, VECTORS>(tile) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<V: Vector, const ROWS: usize, const VECTORS: usize>(tile: Tile) {
    // SAFETY: passed on from the caller.
    unsafe { body::<V, ROWS, VECTORS>(tile) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<V: Vector, const ROWS: usize, const VECTORS: usize>(tile: Tile) {
    // SAFETY: passed on from the caller.
    unsafe { body::<V, ROWS, VECTORS>(tile) }
}

/// A block at the edge of c is computed in a full-size copy.
///
/// # Safety
/// The instruction set of V is there, the panels hold `depth` steps, and the block of c is the caller's alone.
#[inline(always)]
unsafe fn body<V: Vector, const ROWS: usize, const VECTORS: usize>(tile: Tile) {
    let width = V::LANES * VECTORS;
    let (a, b) = (tile.a.as_ptr(), tile.b.as_ptr());
    if tile.rows == ROWS && tile.lanes == width {
        // SAFETY: the whole block lies in c.
        unsafe { full_tile::<V, ROWS, VECTORS>(tile.depth, a, b, tile.corner, tile.stride) };
        return;
    }
    let mut copy = [0f32; LARGEST_TILE];
    const { assert!(ROWS * V::LANES * VECTORS <= LARGEST_TILE) };
    for row in 0..tile.rows {
        // SAFETY: `lanes` values of a row of the block; `copy` has room for ROWS rows of `width`.
        unsafe {
            tile.corner
                .add(row * tile.stride)
                .copy_to_nonoverlapping(copy.as_mut_ptr().add(row * width), tile.lanes);
        }
    }
    // SAFETY: `copy` holds a full block.
    unsafe { full_tile::<V, ROWS, VECTORS>(tile.depth, a, b, copy.as_mut_ptr(), width) };
    for row in 0..tile.rows {
        // SAFETY: the way back of the copy above.
        unsafe {
            tile.corner
                .add(row * tile.stride)
                .copy_from_nonoverlapping(copy.as_ptr().add(row * width), tile.lanes);
        }
    }
}

/// # Safety
/// As for `body`, for a block of ROWS rows and VECTORS registers that may be read and written at `c`.
#[inline(always)]
unsafe fn full_tile<V: Vector, const ROWS: usize, const VECTORS: usize>(
    depth: usize,
    mut a: *const f32,
    mut b: *const f32,
    c: *mut f32,
    stride: usize,
) {
    // SAFETY: `a` advances ROWS and `b` VECTORS registers a step, `depth` steps, as the panels hold; c as promised.
    unsafe {
        let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
        for (row, sums) in sums.iter_mut().enumerate() {
            for (vector, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(c.add(row * stride + vector * V::LANES));
            }
        }
        for _ in 0..depth {
            let mut columns = [V::splat(0.0); VECTORS];
            for (vector, column) in columns.iter_mut().enumerate() {
                *column = V::load(b.add(vector * V::LANES));
            }
            for (row, sums) in sums.iter_mut().enumerate() {
                let value = V::splat(*a.add(row));
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = sum.add_product(value, column);
                }
            }
            a = a.add(ROWS);
            b = b.add(VECTORS * V::LANES);
        }
        for (row, sums) in sums.iter().enumerate() {
            for (vector, sum) in sums.iter().enumerate() {
                sum.store(c.add(row * stride + vector * V::LANES));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;
    use proptest::prelude::*;

    fn values(rows: usize, columns: usize, seed: u64) -> Array2<f32> {
        let mut state = seed | 1;
        Array2::from_shape_simple_fn((rows, columns), || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
    }

    fn chain(a: &Array2<f32>, b: &Array2<f32>, c: &Array2<f32>) -> Array2<f32> {
        let element =
            |i: usize, j: usize| (0..a.ncols()).fold(c[[i, j]], |sum, l| a[[i, l]].mul_add(b[[l, j]], sum));
        Array2::from_shape_fn(c.dim(), |(i, j)| element(i, j))
    }

    fn check(m: usize, k: usize, n: usize, seed: u64) {
        let (a, b, c) = (values(m, k, seed), values(k, n, seed ^ 77), values(m, n, seed ^ 1234));
        let want = chain(&a, &b, &c);
        let (at, bt) = (a.t().as_standard_layout().into_owned(), b.t().as_standard_layout().into_owned());
        for isa in Isa::available() {
            for (a, b) in [(a.view(), b.view()), (at.t(), bt.t())] {
                let mut got = c.clone();
                add_product(isa, a, b, got.view_mut());
                assert!(
                    got.iter().zip(&want).all(|(x, y)| x.to_bits() == y.to_bits()),
                    "{} {m}x{k}x{n}",
                    isa.name()
                );
            }
        }
    }

    #[test]
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
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn equals_the_scalar_chain(m in 0usize..60, k in 0usize..90, n in 0usize..90, seed: u64) {
            check(m, k, n, seed);
        }
    }
}

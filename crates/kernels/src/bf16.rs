//! The matrix product with factors rounded to bfloat16 and sums in f32: twice as fast where the CPU has AVX-512 BF16,
//! and the same bits everywhere else.
//!
//! c[i, j] starts from what it is. For each pair of depths, ascending, it takes first the odd one and then the even
//! one: `c = fma(a[i, 2p + 1], b[2p + 1, j], c)`, `c = fma(a[i, 2p], b[2p, j], c)`. Each step rounds once to the
//! nearest, ties to even. Denormals count as 0 on the way in (factors, and c) and become 0 on the way out, keeping
//! their sign; a result is denormal if it would lie below the lowest normal after rounding to 24 bits at any exponent.
//! An odd depth is filled up with 0 · 0, which turns a sum of −0 into 0. That is VDPBF16PS as Intel's manual (volume 2)
//! describes it; which results it takes for denormal the manual leaves open, and the above was measured on AMD's Zen 4:
//! 6.4 million lanes of numbers of all kinds agree, and no other order, rounding or test for denormals does. NaN and
//! infinities go as in IEEE 754; the payload of a NaN means nothing.
//!
//! Factors are rounded to the nearest, ties to even, as VCVTNE2PS2BF16 does: denormals of f32 become 0 first, NaN stays
//! NaN, and what is beyond the highest bfloat16 becomes infinite.

use crate::Isa;
use crate::batch::PANEL;
use crate::columns::ColumnPanels;
use crate::isa::per_isa;
use crate::lanes::Simd;
use crate::product::{Factor, PackedRows, add_tiles, copy_columns, copy_tile};
use ndarray::{ArrayView2, s};
use std::ops::Range;

/// The left side of products, `[rows, depth]`, rounded and packed for the registers of one instruction set.
#[derive(Default)]
pub struct PackedPairs {
    depth: usize,
    /// Two depths to a word.
    pairs: PackedRows<Pair>,
}

impl PackedPairs {
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

    /// Rows packed.
    pub fn rows(&self) -> usize {
        self.pairs.rows()
    }

    /// Values to a row.
    pub fn depth(&self) -> usize {
        self.depth
    }

    fn fill(
        &mut self,
        isa: Isa,
        rows: usize,
        depth: usize,
        fill: impl Fn(Range<usize>, Range<usize>, usize, &mut [f32]) + Sync,
    ) {
        self.depth = depth;
        self.pairs.fill(isa, rows, depth.div_ceil(2), |rows, pairs, tile_rows, to| {
            let depths = 2 * pairs.start..depth.min(2 * pairs.end);
            let mut tile = vec![0f32; depths.len() * tile_rows];
            fill(rows, depths, tile_rows, &mut tile);
            pair_rows(isa, &tile, tile_rows, to);
        });
    }
}

/// Rounds a panel `[depth][32]` and pairs its rows, `[depth.div_ceil(2)][32]`, for [`add_panel`]. Memory is used again.
///
/// # Panics
/// If `b` is not whole rows.
pub fn pack_panel_pairs(isa: Isa, b: &[f32], to: &mut Vec<u32>) {
    assert_eq!(b.len() % PANEL, 0, "rows of a panel");
    to.resize((b.len() / PANEL).div_ceil(2) * PANEL, 0);
    pair_rows(isa, b, PANEL, to);
}

per_isa! {
    /// out += a · b for one panel: b `[depth.div_ceil(2)][32]` as [`pack_panel_pairs`] makes it, out `[rows][32]`.
    ///
    /// Panics if the lengths do not fit `a`.
    pub fn add_panel[simd: S](a: &PackedPairs, b: &[u32], out: &mut [f32]) {
        add_tiles(simd, &a.pairs, b, out);
    }
}

/// Two bfloat16: the even depth in the lower half, the odd one in the upper.
type Pair = u32;

impl Factor for Pair {
    type Register<S: Simd> = S::Words;
    #[inline(always)]
    fn splat<S: Simd>(simd: S, value: Pair) -> S::Words {
        simd.splat_words(value)
    }
    #[inline(always)]
    fn load<S: Simd>(simd: S, from: &[Pair]) -> S::Words {
        simd.load_words(from)
    }
    #[inline(always)]
    fn start<S: Simd>(simd: S, sum: S::Floats) -> S::Floats {
        simd.flush(sum)
    }
    #[inline(always)]
    fn mul_add<S: Simd>(simd: S, a: S::Words, b: S::Words, c: S::Floats) -> S::Floats {
        simd.dot_pairs(a, b, c)
    }
}

per_isa! {
    /// Rounds rows of `width` values and pairs each two of them; the partner of a last one is 0.
    // the loops are the compiler's to turn into vector code
    fn pair_rows[simd: S](rows: &[f32], width: usize, to: &mut [Pair]) {
        for (rows, to) in rows.chunks(2 * width).zip(to.chunks_exact_mut(width)) {
            let (even, odd) = rows.split_at(width);
            if odd.is_empty() {
                for (to, &even) in to.iter_mut().zip(even) {
                    *to = pair(even, 0.0);
                }
                continue;
            }
            for ((to, &even), &odd) in to.iter_mut().zip(even).zip(odd) {
                *to = pair(even, odd);
            }
        }
    }
}

#[inline(always)]
fn pair(even: f32, odd: f32) -> Pair {
    rounded(even) >> 16 | rounded(odd) & 0xFFFF_0000
}

/// The bfloat16 next to a value, in the upper half; the lower half is anything.
#[inline(always)]
fn rounded(value: f32) -> u32 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    // to the next bfloat16 if above the middle, or in the middle and odd
    let near = bits.wrapping_add(0x7FFF + (bits >> 16 & 1));
    let number = if magnitude < 0x0080_0000 { bits & 0x8000_0000 } else { near };
    // the bits that are kept may be those of infinity: this one makes any NaN a quiet one
    if magnitude > 0x7F80_0000 { bits | 0x0040_0000 } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, up_to};
    use ndarray::Array2;
    use proptest::prelude::*;

    /// Numbers that begin anywhere but go through the same few steps.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u32 {
            self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            (self.0 >> 32) as u32 ^ (self.0 >> 45) as u32
        }

        /// About 2 to the power of `exponent`, at most 16 bits long if `short`.
        fn about(&mut self, exponent: u32, short: bool) -> f32 {
            let bits = self.next();
            let mantissa = if short { self.next() & 0x7F_0000 } else { self.next() & 0x7F_FFFF };
            f32::from_bits(bits & 0x8000_0000 | (exponent + 127) << 23 | mantissa)
        }

        fn any_of(&mut self, values: &[f32]) -> f32 {
            values[self.next() as usize % values.len()]
        }
    }

    const EDGES: [f32; 16] = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        1e-45,
        -1e-39,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        3.0,
        1e-20,
        1e20,
    ];

    /// Values of all kinds: ordinary ones, any bits, edges, and those whose products and sums come near the denormals
    /// or the highest numbers.
    fn values(rows: usize, columns: usize, kind: u32, numbers: &mut Numbers) -> Array2<f32> {
        Array2::from_shape_simple_fn((rows, columns), || {
            let spread = numbers.next() % 16;
            match kind % 6 {
                0 => numbers.about(0u32.wrapping_sub(spread), false),
                1 => f32::from_bits(numbers.next()),
                2 => numbers.any_of(&EDGES),
                // products about the lowest normal
                3 => numbers.about(0u32.wrapping_sub(56 + spread), true),
                // sums about it
                4 if spread < 4 => numbers.any_of(&[0.0, f32::MIN_POSITIVE, -f32::MIN_POSITIVE]),
                4 => numbers.about(0u32.wrapping_sub(114 + spread % 12), false),
                _ => numbers.about(56 + spread % 10, false),
            }
        })
    }

    fn round(value: f32) -> f32 {
        f32::from_bits(rounded(value) & 0xFFFF_0000)
    }

    fn denormal_as_zero(value: f32) -> f32 {
        if value.abs() < f32::MIN_POSITIVE { 0f32.copysign(value) } else { value }
    }

    /// a·b + c by another way than the kernel's: the exact sum, made odd where f64 cannot hold it, so that the second
    /// rounding sees on which side it was; denormals as the rounding of a scaled sum says.
    fn step(a: f32, b: f32, c: f32) -> f32 {
        let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
        let sum = product + c;
        if !sum.is_finite() {
            return sum as f32;
        }
        let part = sum - c;
        let error = (c - (sum - part)) + (product - part);
        let outwards = (error > 0.0) == (sum > 0.0);
        let odd = match (error == 0.0 || sum.to_bits() & 1 == 1, outwards) {
            (true, _) => sum,
            (_, true) => f64::from_bits(sum.to_bits() + 1),
            (_, false) => f64::from_bits(sum.to_bits() - 1),
        };
        let scale = 2f64.powi(100);
        let scaled = (odd * scale) as f32;
        let tiny = odd.abs() < 1.0 && f64::from(scaled.abs()) < f64::from(f32::MIN_POSITIVE) * scale;
        if tiny { 0f32.copysign(odd as f32) } else { odd as f32 }
    }

    fn element(a: &Array2<f32>, b: &Array2<f32>, c: f32, (i, j): (usize, usize)) -> f32 {
        let depth = a.ncols();
        let factors = |l: usize| if l < depth { (round(a[[i, l]]), round(b[[l, j]])) } else { (0.0, 0.0) };
        (0..depth).step_by(2).fold(c, |sum, even| {
            let ((a0, b0), (a1, b1)) = (factors(even), factors(even + 1));
            step(a0, b0, step(a1, b1, denormal_as_zero(sum)))
        })
    }

    /// c + a · b for one panel.
    fn product(isa: Isa, a: &Array2<f32>, b: &Array2<f32>, c: &Array2<f32>) -> Array2<f32> {
        let (mut packed, mut pairs, mut out) = (PackedPairs::default(), vec![7; 3], c.clone());
        packed.pack(isa, a.view());
        assert_eq!((packed.rows(), packed.depth()), a.dim());
        pack_panel_pairs(isa, b.as_slice().unwrap(), &mut pairs);
        add_panel(isa, &packed, &pairs, out.as_slice_mut().unwrap());
        out
    }

    fn same(x: f32, y: f32) -> bool {
        x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
    }

    fn check(m: usize, k: usize, kinds: [u32; 3], seed: u64) {
        let mut numbers = Numbers(seed);
        let (a, b) = (values(m, k, kinds[0], &mut numbers), values(k, PANEL, kinds[1], &mut numbers));
        let c = values(m, PANEL, kinds[2], &mut numbers);
        let want = Array2::from_shape_fn(c.dim(), |at| element(&a, &b, c[at], at));
        for isa in Isa::available() {
            for (at, got) in product(isa, &a, &b, &c).indexed_iter() {
                let name = isa.name();
                assert!(same(*got, want[at]), "{name} {m}x{k} {kinds:?} {at:?}: {got:e} {:e}", want[at]);
            }
            let mut packed = [PackedPairs::default(), PackedPairs::default(), PackedPairs::default()];
            let turned = a.t().as_standard_layout().into_owned();
            packed[0].pack(isa, a.view());
            packed[1].pack(isa, turned.t());
            packed[2].pack_columns(isa, &ColumnPanels::from_rows(a.view()));
            for other in &packed[1..] {
                assert_eq!(packed[0].pairs.values(), other.pairs.values(), "{} {m}x{k}", isa.name());
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn equals_the_scalar_chain_at_block_edges() {
        for size in [0, 1, 2, 15, 16, 17, 31, 33] {
            for kind in 0..6 {
                check(size, 17, [kind; 3], 5);
                check(13, size, [kind; 3], 6);
            }
        }
        check(3, 1023, [0; 3], 7);
        check(15, 2051, [0; 3], 8);
    }

    #[test]
    fn a_sum_that_rounds_up_to_the_lowest_normal_may_be_tiny() {
        let low = f32::MIN_POSITIVE;
        let half = |power: i32| 2f32.powi(-power);
        // lowest − 2⁻¹⁵⁰ has 24 bits and is tiny; lowest − 2⁻¹⁵¹ is a tie that rounds up; both are the lowest normal
        // to IEEE 754
        for (power, want) in [(149, 0.0), (150, 0.0), (151, low), (152, low)] {
            for sign in [1.0, -1.0] {
                let a = Array2::from_elem((3, 1), -sign * half(75));
                let b = Array2::from_elem((1, PANEL), half(power - 75));
                for isa in Isa::available() {
                    let got = product(isa, &a, &b, &Array2::from_elem((3, PANEL), sign * low));
                    assert!(got.iter().all(|&got| same(got, sign * want) || got == 0.0 && want == 0.0));
                }
            }
        }
    }

    #[test]
    fn rounds_to_the_nearest() {
        let bfloat = |bits: u32| f64::from(f32::from_bits(bits << 16));
        for upper in (0x80..0x7F7F).step_by(if cfg!(miri) { 999 } else { 1 }) {
            for (lower, up) in [(0, 0), (1, 0), (0x7FFF, 0), (0x8000, upper & 1), (0x8001, 1), (0xFFFF, 1)] {
                let value = f32::from_bits(upper << 16 | lower);
                for (value, sign) in [(value, 1.0), (-value, -1.0)] {
                    assert_eq!(f64::from(round(value)), sign * bfloat(upper + up), "{value:e}");
                }
            }
        }
        for (value, want) in [
            (f32::MAX, f32::INFINITY),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
            (f32::from_bits(0x7F_FFFF), 0.0),
            (f32::from_bits(0x8000_0001), -0.0),
            (-0.0, -0.0),
        ] {
            assert_eq!(round(value).to_bits(), f32::to_bits(want), "{value:e}");
        }
        for nan in [0x7F80_0001, 0xFF80_0001, 0x7FFF_FFFF, 0xFFFF_FFFF, 0x7FC0_0000] {
            assert!(round(f32::from_bits(nan)).is_nan(), "{nan:x}");
        }
    }

    #[test]
    fn is_as_close_to_the_exact_product_as_the_factors() {
        let (m, k) = (17, up_to(777));
        let mut numbers = Numbers(3);
        let (a, b) = (values(m, k, 0, &mut numbers), values(k, PANEL, 0, &mut numbers));
        let c = Array2::zeros((m, PANEL));
        for isa in Isa::available() {
            for ((i, j), &got) in product(isa, &a, &b, &c).indexed_iter() {
                let products = || (0..k).map(|l| f64::from(a[[i, l]]) * f64::from(b[[l, j]]));
                let (exact, size) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
                // each factor, of eight bits, is off by at most 2⁻⁸ of itself; each sum of f32 by 2⁻²⁴ of what is added up so far
                let bound = size * (2.0 * 2f64.powi(-8) * 1.01 + 2f64.powi(-24) * (k + 1) as f64);
                assert!((f64::from(got) - exact).abs() <= bound, "{}: {got} {exact}", isa.name());
            }
        }
    }

    #[test]
    fn infinities_and_nan_pass() {
        for isa in Isa::available() {
            let mut a = Array2::<f32>::ones((2, 3));
            a[[1, 2]] = f32::NAN;
            let mut b = Array2::<f32>::ones((3, PANEL));
            (b[[0, 1]], b[[1, 2]], b[[2, 3]]) = (f32::INFINITY, f32::NEG_INFINITY, f32::NAN);
            let got = product(isa, &a, &b, &Array2::zeros((2, PANEL)));
            assert_eq!(got.row(0).to_vec()[..3], [3.0, f32::INFINITY, f32::NEG_INFINITY], "{}", isa.name());
            assert!(got[[0, 3]].is_nan() && got.row(1).iter().all(|got| got.is_nan()), "{}", isa.name());
        }
    }

    proptest! {
        #![proptest_config(cases(60))]
        #[test]
        fn equals_the_scalar_chain(
            m in 0..up_to(40),
            k in 0..up_to(60),
            kinds in proptest::array::uniform3(0..6u32),
            seed: u64,
        ) {
            check(m, k, kinds, seed);
        }
    }
}

//! Registers of 32-bit lanes: all that the kernels need of an instruction set, one file for each.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::{Avx512, Avx512Base, Avx512Bf16};
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;

/// Proof that an instruction set is there, and its operations. A value other than [`Portable`] can only be made by an
/// `unsafe` constructor, behind detection; so its methods are safe.
///
/// Every operation rounds once, as IEEE 754 says, so all instruction sets give the same bits. Methods are
/// `inline(always)`: they become single instructions in a caller compiled for the instruction set.
pub(crate) trait Simd: Copy {
    /// Lanes in a register: a power of two, at most 16.
    const LANES: usize;
    /// Rows of c that the product keeps in registers, for [`Simd::TILE_VECTORS`] registers each.
    const TILE_ROWS: usize;
    /// Registers along a row of c that the product keeps.
    const TILE_VECTORS: usize;
    /// Words that [`Simd::count`] may add up before [`Simd::counted`] must be asked.
    const COUNTS: usize;
    /// A register of f32.
    type Floats: Copy;
    /// A register of 32-bit integers, signed or not.
    type Words: Copy;

    /// The same value in all lanes.
    fn splat(self, value: f32) -> Self::Floats;
    /// The first LANES values of `from`. Panics if there are fewer.
    fn load(self, from: &[f32]) -> Self::Floats;
    /// Into the first LANES values of `to`. Panics if there are fewer.
    fn store(self, value: Self::Floats, to: &mut [f32]);
    /// Asks for values that will be read soon.
    fn prefetch<T>(self, values: &[T]);
    /// a·b + c, rounded once.
    fn mul_add(self, a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
    /// a + b.
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// a − b.
    fn sub(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// Bit l set where lane l is above 0 (so not for NaN).
    fn above_zero(self, value: Self::Floats) -> u32;

    /// The same word in all lanes.
    fn splat_words(self, value: u32) -> Self::Words;
    /// The first LANES words of `from`. Panics if there are fewer.
    fn load_words(self, from: &[u32]) -> Self::Words;
    /// Into the first LANES words of `to`. Panics if there are fewer.
    fn store_words(self, value: Self::Words, to: &mut [u32]);
    /// The first LANES / 2 of `from`, each as two words, the lower half first. Panics if there are fewer.
    fn load_halves(self, from: &[u64]) -> Self::Words;
    /// a & b.
    fn and(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// a | b.
    fn or(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// a ^ b.
    fn xor(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The digits of a + b + c for each bit on its own: what stays and what is carried.
    #[inline(always)]
    fn full_add(self, a: Self::Words, b: Self::Words, c: Self::Words) -> (Self::Words, Self::Words) {
        let either = self.xor(a, b);
        (self.xor(either, c), self.or(self.and(a, b), self.and(either, c)))
    }
    /// a + b, wrapping.
    fn add_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// a − b, wrapping.
    fn sub_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The low half of a·b.
    fn mul_words(self, a: Self::Words, b: Self::Words) -> Self::Words;
    /// The upper 16 bits of each lane.
    fn high_half(self, a: Self::Words) -> Self::Words;
    /// The lower 16 bits of each lane, moved to the upper half.
    fn low_half(self, a: Self::Words) -> Self::Words;
    /// |a| of signed lanes.
    fn abs_words(self, a: Self::Words) -> Self::Words;
    /// Bit l set where lane l, signed, is above 0.
    fn positive_words(self, a: Self::Words) -> u32;
    /// Bit l set where lane l is 0.
    fn zero_words(self, a: Self::Words) -> u32;
    /// The lanes of `value` where those of `a`, signed, are above 0; 0 elsewhere.
    fn where_positive(self, a: Self::Words, value: Self::Words) -> Self::Words;

    /// The bits of floats.
    fn bits_of(self, value: Self::Floats) -> Self::Words;
    /// The floats of these bits.
    fn floats_of(self, bits: Self::Words) -> Self::Floats;
    /// Denormals become 0 and keep their sign.
    #[inline(always)]
    fn flush(self, value: Self::Floats) -> Self::Floats {
        let bits = self.bits_of(value);
        let magnitude = self.and(bits, self.splat_words(!SIGN));
        let normal = self.where_positive(self.sub_words(magnitude, self.splat_words(HIGHEST_DENORMAL)), bits);
        self.floats_of(self.or(normal, self.and(bits, self.splat_words(SIGN))))
    }
    /// c plus the products of two bfloat16 a lane: [`flushed_mul_add`] of the upper halves of a and b, then of the
    /// lower halves. This is VDPBF16PS for a, b and c without denormals; only NaN payloads differ.
    #[inline(always)]
    fn dot_pairs(self, a: Self::Words, b: Self::Words, c: Self::Floats) -> Self::Floats {
        let high = self.splat_words(0xFFFF_0000);
        let (a_odd, a_even) = (self.floats_of(self.and(a, high)), self.floats_of(self.low_half(a)));
        let (b_odd, b_even) = (self.floats_of(self.and(b, high)), self.floats_of(self.low_half(b)));
        let odd = self.mul_add(a_odd, b_odd, c);
        let sum = self.mul_add(a_even, b_even, odd);
        if self.may_be_tiny(odd) | self.may_be_tiny(sum) == 0 {
            return sum;
        }
        let (mut a_lanes, mut b_lanes, mut c_lanes) = ([0; 16], [0; 16], [0.0; 16]);
        self.store_words(a, &mut a_lanes);
        self.store_words(b, &mut b_lanes);
        self.store(c, &mut c_lanes);
        dot_lanes(&a_lanes, &b_lanes, &mut c_lanes);
        self.load(&c_lanes)
    }
    /// Bit l set where lane l is a denormal or the lowest normal, of either sign.
    #[inline(always)]
    fn may_be_tiny(self, value: Self::Floats) -> u32 {
        let bits = self.bits_of(value);
        // without the sign, and without 0: that wraps
        let below = self.sub_words(self.add_words(bits, bits), self.splat_words(1));
        self.zero_words(self.and(below, self.splat_words(0xFF00_0000)))
    }

    /// Adds the bits set in `word` to `sums`, which starts from zero and holds partial counts in a form of its own:
    /// at most [`Simd::COUNTS`] words, then [`Simd::counted`].
    fn count(self, sums: Self::Words, word: Self::Words) -> Self::Words;
    /// What [`Simd::count`] added up, one number a lane.
    fn counted(self, sums: Self::Words) -> Self::Words;

    /// Turns LANES rows of LANES values: `from` has `stride` values from row to row, `to` likewise `to_stride`.
    /// Panics if either is too short.
    fn transpose(self, from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                to[column * to_stride + row] = from[row * stride + column];
            }
        }
    }
    /// Turns sixteen rows of sixteen words.
    #[inline(always)]
    fn transpose_words(self, block: &mut [[u32; 16]; 16]) {
        *block = std::array::from_fn(|row| block.each_ref().map(|words| words[row]));
    }
}

const SIGN: u32 = 1 << 31;
const HIGHEST_DENORMAL: u32 = 0x007F_FFFF;

/// [`Simd::dot_pairs`] where something comes near the denormals, which is rare.
#[cold]
#[inline(never)]
fn dot_lanes(a: &[u32; 16], b: &[u32; 16], c: &mut [f32; 16]) {
    let (odd, even) = (|pair| f32::from_bits(pair & 0xFFFF_0000), |pair| f32::from_bits(pair << 16));
    for ((&a, &b), c) in a.iter().zip(b).zip(c) {
        *c = flushed_mul_add(even(a), even(b), flushed_mul_add(odd(a), odd(b), *c));
    }
}

/// a·b + c, rounded once to the nearest, ties to even; a result that is tiny becomes 0 and keeps its sign. None of the
/// three may be denormal; a and b are bfloat16.
///
/// As x86 decides it everywhere, tiny is what lies below the normals if rounded to 24 bits at any exponent. So a sum
/// that IEEE 754 rounds up to the lowest normal may be tiny: the denormals end at a coarser grid than the numbers
/// just below the lowest normal would have.
#[inline]
fn flushed_mul_add(a: f32, b: f32, c: f32) -> f32 {
    const LOWEST: f32 = f32::MIN_POSITIVE;
    // half a unit of 24 bits below the lowest normal; the tie rounds up, to even
    const NOT_TINY: f64 = LOWEST as f64 * (1.0 - 1.0 / (1 << 25) as f64);
    let sum = a.mul_add(b, c);
    // exact where the comparison is close: a·b has 16 bits
    let tiny = sum.abs() <= LOWEST && (f64::from(a) * f64::from(b) + f64::from(c)).abs() < NOT_TINY;
    if tiny { 0f32.copysign(sum) } else { sum }
}

#[cfg(test)]
mod tests {
    use crate::Isa;

    crate::isa::per_isa! {
        fn floats[simd: S](a: &[f32], b: &[f32], c: &[f32]) -> Vec<Vec<u32>> {
            let each = |f: &dyn Fn(S::Floats, S::Floats, S::Floats) -> S::Floats| {
                let mut out = vec![0f32; a.len()];
                for at in (0..a.len()).step_by(S::LANES) {
                    simd.store(f(simd.load(&a[at..]), simd.load(&b[at..]), simd.load(&c[at..])), &mut out[at..]);
                }
                out.iter().map(|value| value.to_bits()).collect()
            };
            let mut masks = vec![];
            for at in (0..a.len()).step_by(S::LANES) {
                let mask = simd.above_zero(simd.load(&a[at..]));
                masks.extend((0..S::LANES).map(|lane| mask >> lane & 1));
            }
            vec![
                each(&|a, b, c| simd.mul_add(a, b, c)),
                each(&|a, b, _| simd.add(a, b)),
                each(&|a, b, _| simd.sub(a, b)),
                each(&|_, _, _| simd.splat(a[3])),
                each(&|a, b, _| simd.floats_of(simd.xor(simd.bits_of(a), simd.bits_of(b)))),
                each(&|a, _, _| simd.flush(a)),
                masks,
            ]
        }
    }

    crate::isa::per_isa! {
        fn words[simd: S](a: &[u32], b: &[u32]) -> Vec<Vec<u32>> {
            let each = |f: &dyn Fn(S::Words, S::Words) -> S::Words| {
                let mut out = vec![0u32; a.len()];
                for at in (0..a.len()).step_by(S::LANES) {
                    simd.store_words(f(simd.load_words(&a[at..]), simd.load_words(&b[at..])), &mut out[at..]);
                }
                out
            };
            let mask = |f: &dyn Fn(S::Words) -> u32| {
                let mut out = vec![];
                for at in (0..a.len()).step_by(S::LANES) {
                    let mask = f(simd.load_words(&a[at..]));
                    out.extend((0..S::LANES).map(|lane| mask >> lane & 1));
                }
                out
            };
            vec![
                each(&|a, b| simd.and(a, b)),
                each(&|a, b| simd.or(a, b)),
                each(&|a, b| simd.xor(a, b)),
                each(&|a, b| simd.add_words(a, b)),
                each(&|a, b| simd.sub_words(a, b)),
                each(&|a, b| simd.mul_words(a, b)),
                each(&|a, _| simd.abs_words(a)),
                each(&|a, _| simd.high_half(a)),
                each(&|a, _| simd.low_half(a)),
                mask(&|a| simd.positive_words(a)),
                mask(&|a| simd.zero_words(a)),
                each(&|a, b| simd.where_positive(a, b)),
                each(&|a, b| simd.full_add(a, b, simd.add_words(a, b)).0),
                each(&|a, b| simd.full_add(a, b, simd.add_words(a, b)).1),
                each(&|a, b| {
                    let mut sums = simd.splat_words(0);
                    for at in 0..S::COUNTS.min(28) {
                        sums = simd.count(sums, if at % 3 == 0 { a } else { b });
                    }
                    simd.counted(sums)
                }),
            ]
        }
    }

    crate::isa::per_isa! {
        fn transposed[simd: S](from: &[f32]) -> Vec<f32> {
            let mut to = vec![0f32; 16 * 18];
            for row in (0..16).step_by(S::LANES) {
                for column in (0..16).step_by(S::LANES) {
                    simd.transpose(&from[row * 20 + column..], 20, &mut to[column * 18 + row..], 18);
                }
            }
            to
        }
    }

    crate::isa::per_isa! {
        fn turned_words[simd: S](words: &[u32]) -> [[u32; 16]; 16] {
            let mut block = std::array::from_fn(|row| std::array::from_fn(|column| words[(row * 16 + column) % 64].wrapping_add(row as u32)));
            simd.transpose_words(&mut block);
            block
        }
    }

    crate::isa::per_isa! {
        fn halves[simd: S](from: &[u64]) -> Vec<u32> {
            let mut to = vec![0; 2 * from.len()];
            for at in (0..to.len()).step_by(S::LANES) {
                simd.store_words(simd.load_halves(&from[at / 2..]), &mut to[at..]);
            }
            to
        }
    }

    #[test]
    fn every_instruction_set_does_as_plain_rust() {
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
            (state >> 32) as u32
        };
        let edge = [0.0, -0.0, f32::NAN, f32::INFINITY, 1e-45, -1e-45, f32::MAX, f32::MIN];
        for round in 0..if cfg!(miri) { 2 } else { 200 } {
            let mut values = || -> Vec<f32> {
                let value = |bits: u32| {
                    let value = f32::from_bits(bits);
                    // NaN payloads are nobody's contract
                    if value.is_nan() { 1.5 } else { value }
                };
                (0..64).map(|at| if round == 0 { edge[at % 8] } else { value(next()) }).collect()
            };
            let (a, b, c) = (values(), values(), values());
            let same = |got: &[Vec<u32>], want: &[Vec<u32>], name: &str| {
                for (got, want) in got.iter().flatten().zip(want.iter().flatten()) {
                    let nan = f32::from_bits(*got).is_nan() && f32::from_bits(*want).is_nan();
                    assert!(got == want || nan, "{name}: {got:x} {want:x}");
                }
            };
            let mut integers: Vec<u32> = (0..64).map(|_| next()).collect();
            integers[5] = 0;
            let others: Vec<u32> = (0..64).map(|_| next()).collect();
            let wide: Vec<u64> = (0..16).map(|_| u64::from(next()) << 32 | u64::from(next())).collect();
            let turned: Vec<f32> = (0..16 * 20).map(|at| at as f32).collect();
            for isa in Isa::available() {
                let name = isa.name();
                same(&floats(isa, &a, &b, &c), &floats(Isa::PORTABLE, &a, &b, &c), name);
                assert_eq!(
                    words(isa, &integers, &others),
                    words(Isa::PORTABLE, &integers, &others),
                    "{name}"
                );
                let split = wide.iter().flat_map(|&wide| [wide as u32, (wide >> 32) as u32]);
                assert_eq!(halves(isa, &wide), split.collect::<Vec<_>>(), "{name}");
                assert_eq!(turned_words(isa, &others), turned_words(Isa::PORTABLE, &others), "{name}");
                assert_eq!(transposed(isa, &turned), transposed(Isa::PORTABLE, &turned), "{name}");
            }
        }
    }
}

use super::Simd;
use std::arch::x86_64::*;

/// Eight lanes; bits are counted by looking up nibbles.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The CPU has AVX2, FMA and POPCNT.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }
}

const LANES: usize = 8;

// A value of `Avx2` exists only where the CPU has AVX2 and FMA: that is the reason of every block below.
impl Simd for Avx2 {
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 2;
    // bytes hold 255, a word adds at most 8 to each
    const COUNTS: usize = 31;
    type Floats = __m256;
    type Words = __m256i;

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: by `self`.
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> __m256 {
        let from = from[..LANES].as_ptr();
        // SAFETY: by `self`; eight values can be read.
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    fn store(self, value: __m256, to: &mut [f32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: by `self`; eight values can be written.
        unsafe { _mm256_storeu_ps(to, value) }
    }
    #[inline(always)]
    fn prefetch<T>(self, values: &[T]) {
        for line in values.chunks(64 / size_of::<T>()) {
            // SAFETY: a hint that reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
        }
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: by `self`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: by `self`.
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        // SAFETY: by `self`.
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    fn above_zero(self, value: __m256) -> u32 {
        // SAFETY: by `self`.
        unsafe { _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(value, _mm256_setzero_ps())) as u32 }
    }

    #[inline(always)]
    fn splat_words(self, value: u32) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_set1_epi32(value as i32) }
    }
    #[inline(always)]
    fn load_words(self, from: &[u32]) -> __m256i {
        let from = from[..LANES].as_ptr();
        // SAFETY: by `self`; eight words can be read.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    fn store_words(self, value: __m256i, to: &mut [u32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: by `self`; eight words can be written.
        unsafe { _mm256_storeu_si256(to.cast(), value) }
    }
    #[inline(always)]
    fn load_halves(self, from: &[u64]) -> __m256i {
        let from = from[..LANES / 2].as_ptr();
        // SAFETY: by `self`; four values can be read.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    fn and(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    fn or(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_xor_si256(a, b) }
    }
    #[inline(always)]
    fn add_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    fn sub_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    fn mul_words(self, a: __m256i, b: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_mullo_epi32(a, b) }
    }
    #[inline(always)]
    fn high_half(self, a: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_srli_epi32::<16>(a) }
    }
    #[inline(always)]
    fn low_half(self, a: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_slli_epi32::<16>(a) }
    }
    #[inline(always)]
    fn bits_of(self, value: __m256) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_castps_si256(value) }
    }
    #[inline(always)]
    fn floats_of(self, bits: __m256i) -> __m256 {
        // SAFETY: by `self`.
        unsafe { _mm256_castsi256_ps(bits) }
    }
    #[inline(always)]
    fn abs_words(self, a: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_abs_epi32(a) }
    }
    #[inline(always)]
    fn positive_words(self, a: __m256i) -> u32 {
        // SAFETY: by `self`.
        unsafe {
            _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(a, _mm256_setzero_si256()))) as u32
        }
    }
    #[inline(always)]
    fn zero_words(self, a: __m256i) -> u32 {
        // SAFETY: by `self`.
        unsafe {
            _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(a, _mm256_setzero_si256()))) as u32
        }
    }
    #[inline(always)]
    fn where_positive(self, a: __m256i, value: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe { _mm256_and_si256(_mm256_cmpgt_epi32(a, _mm256_setzero_si256()), value) }
    }

    #[inline(always)]
    fn count(self, sums: __m256i, word: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe {
            let ones = _mm256_setr_epi8(
                0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3,
                4,
            );
            let nibble = _mm256_set1_epi8(15);
            let low = _mm256_shuffle_epi8(ones, _mm256_and_si256(word, nibble));
            let high = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16::<4>(word), nibble));
            _mm256_add_epi8(sums, _mm256_add_epi8(low, high))
        }
    }
    #[inline(always)]
    fn counted(self, sums: __m256i) -> __m256i {
        // SAFETY: by `self`.
        unsafe {
            let pairs = _mm256_maddubs_epi16(sums, _mm256_set1_epi8(1));
            _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
        }
    }

    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
        // SAFETY: by `self`.
        let mut rows = [unsafe { _mm256_setzero_ps() }; 8];
        for (at, row) in rows.iter_mut().enumerate() {
            *row = self.load(&from[at * stride..]);
        }
        // SAFETY: by `self`.
        let columns = unsafe { transpose(rows) };
        for (at, column) in columns.into_iter().enumerate() {
            self.store(column, &mut to[at * to_stride..]);
        }
    }
    #[inline(always)]
    fn transpose_words(self, block: &mut [[u32; 16]; 16]) {
        for (row, column) in [(0, 0), (8, 8), (0, 8)] {
            let (upper, lower) =
                (self.quarter_turned(block, row, column), self.quarter_turned(block, column, row));
            for at in 0..LANES {
                self.store_words(upper[at], &mut block[column + at][row..]);
                self.store_words(lower[at], &mut block[row + at][column..]);
            }
        }
    }
}

impl Avx2 {
    #[inline(always)]
    fn quarter_turned(self, block: &[[u32; 16]; 16], row: usize, column: usize) -> [__m256i; LANES] {
        let mut rows = [self.splat(0.0); LANES];
        for (at, words) in rows.iter_mut().enumerate() {
            // SAFETY: by `self`.
            *words = unsafe { _mm256_castsi256_ps(self.load_words(&block[row + at][column..])) };
        }
        // SAFETY: by `self`.
        let columns = unsafe { transpose(rows) };
        let mut turned = [self.splat_words(0); LANES];
        for (at, words) in turned.iter_mut().enumerate() {
            // SAFETY: by `self`.
            *words = unsafe { _mm256_castps_si256(columns[at]) };
        }
        turned
    }
}

/// Eight rows of eight values turned into columns: pairs, then quarters, then halves.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn transpose(r: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: as the caller vouches.
    unsafe {
        macro_rules! pair {
            ($a:expr, $b:expr) => {
                (_mm256_unpacklo_ps($a, $b), _mm256_unpackhi_ps($a, $b))
            };
        }
        macro_rules! quarter {
            ($a:expr, $b:expr) => {
                (_mm256_shuffle_ps::<0x44>($a, $b), _mm256_shuffle_ps::<0xEE>($a, $b))
            };
        }
        macro_rules! half {
            ($which:literal, $a:expr, $b:expr) => {
                _mm256_permute2f128_ps::<$which>($a, $b)
            };
        }
        let ((a0, a1), (a2, a3)) = (pair!(r[0], r[1]), pair!(r[2], r[3]));
        let ((b0, b1), (b2, b3)) = (pair!(r[4], r[5]), pair!(r[6], r[7]));
        let ((c0, c1), (c2, c3)) = (quarter!(a0, a2), quarter!(a1, a3));
        let ((d0, d1), (d2, d3)) = (quarter!(b0, b2), quarter!(b1, b3));
        [
            half!(0x20, c0, d0),
            half!(0x20, c1, d1),
            half!(0x20, c2, d2),
            half!(0x20, c3, d3),
            half!(0x31, c0, d0),
            half!(0x31, c1, d1),
            half!(0x31, c2, d2),
            half!(0x31, c3, d3),
        ]
    }
}

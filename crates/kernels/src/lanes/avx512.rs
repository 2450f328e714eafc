use super::Simd;
use std::arch::x86_64::*;

const LANES: usize = 16;

/// Sixteen lanes, alike but for how bits are counted. A value of the type exists only where the CPU has its features:
/// that is the reason of every block below.
macro_rules! avx512 {
    ($(#[$meta:meta])* $name:ident, counts: $counts:expr, |$sums:ident, $word:ident| count: $count:block, counted: $counted:block
        $(, |$a:ident, $b:ident, $c:ident| dot_pairs: $dot_pairs:block)?) => {
        $(#[$meta])*
        #[derive(Clone, Copy)]
        pub(crate) struct $name(());

        impl $name {
            /// # Safety
            /// The CPU has the features of this type.
            #[inline(always)]
            pub(crate) unsafe fn new() -> Self {
                Self(())
            }
        }

        impl Simd for $name {
            const LANES: usize = LANES;
            const TILE_ROWS: usize = 14;
            const TILE_VECTORS: usize = 2;
            const COUNTS: usize = $counts;
            type Floats = __m512;
            type Words = __m512i;

            #[inline(always)]
            fn splat(self, value: f32) -> __m512 {
                // SAFETY: by `self`.
                unsafe { _mm512_set1_ps(value) }
            }
            #[inline(always)]
            fn load(self, from: &[f32]) -> __m512 {
                let from = from[..LANES].as_ptr();
                // SAFETY: by `self`; sixteen values can be read.
                unsafe { _mm512_loadu_ps(from) }
            }
            #[inline(always)]
            fn store(self, value: __m512, to: &mut [f32]) {
                let to = to[..LANES].as_mut_ptr();
                // SAFETY: by `self`; sixteen values can be written.
                unsafe { _mm512_storeu_ps(to, value) }
            }
            #[inline(always)]
            fn prefetch<T>(self, values: &[T]) {
                for line in values.chunks(64 / size_of::<T>()) {
                    // SAFETY: a hint that reads nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) }
                }
            }
            #[inline(always)]
            fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
                // SAFETY: by `self`.
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            fn add(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: by `self`.
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            fn sub(self, a: __m512, b: __m512) -> __m512 {
                // SAFETY: by `self`.
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            fn above_zero(self, value: __m512) -> u32 {
                // SAFETY: by `self`.
                unsafe { u32::from(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(value, _mm512_setzero_ps())) }
            }

            #[inline(always)]
            fn splat_words(self, value: u32) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_set1_epi32(value as i32) }
            }
            #[inline(always)]
            fn load_words(self, from: &[u32]) -> __m512i {
                let from = from[..LANES].as_ptr();
                // SAFETY: by `self`; sixteen words can be read.
                unsafe { _mm512_loadu_si512(from.cast()) }
            }
            #[inline(always)]
            fn store_words(self, value: __m512i, to: &mut [u32]) {
                let to = to[..LANES].as_mut_ptr();
                // SAFETY: by `self`; sixteen words can be written.
                unsafe { _mm512_storeu_si512(to.cast(), value) }
            }
            #[inline(always)]
            fn load_halves(self, from: &[u64]) -> __m512i {
                let from = from[..LANES / 2].as_ptr();
                // SAFETY: by `self`; eight values can be read.
                unsafe { _mm512_loadu_si512(from.cast()) }
            }
            #[inline(always)]
            fn and(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_and_si512(a, b) }
            }
            #[inline(always)]
            fn or(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_or_si512(a, b) }
            }
            #[inline(always)]
            fn xor(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_xor_si512(a, b) }
            }
            #[inline(always)]
            fn full_add(self, a: __m512i, b: __m512i, c: __m512i) -> (__m512i, __m512i) {
                // SAFETY: by `self`. The numbers are the truth tables of odd and of at least two.
                unsafe {
                    (_mm512_ternarylogic_epi32::<0x96>(a, b, c), _mm512_ternarylogic_epi32::<0xE8>(a, b, c))
                }
            }
            #[inline(always)]
            fn add_words(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_add_epi32(a, b) }
            }
            #[inline(always)]
            fn sub_words(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_sub_epi32(a, b) }
            }
            #[inline(always)]
            fn mul_words(self, a: __m512i, b: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_mullo_epi32(a, b) }
            }
            #[inline(always)]
            fn high_half(self, a: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_srli_epi32::<16>(a) }
            }
            #[inline(always)]
            fn low_half(self, a: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_slli_epi32::<16>(a) }
            }
            #[inline(always)]
            fn bits_of(self, value: __m512) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_castps_si512(value) }
            }
            #[inline(always)]
            fn floats_of(self, bits: __m512i) -> __m512 {
                // SAFETY: by `self`.
                unsafe { _mm512_castsi512_ps(bits) }
            }
            #[inline(always)]
            fn abs_words(self, a: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_abs_epi32(a) }
            }
            #[inline(always)]
            fn positive_words(self, a: __m512i) -> u32 {
                // SAFETY: by `self`.
                unsafe { u32::from(_mm512_cmpgt_epi32_mask(a, _mm512_setzero_si512())) }
            }
            #[inline(always)]
            fn zero_words(self, a: __m512i) -> u32 {
                // SAFETY: by `self`.
                unsafe { u32::from(_mm512_testn_epi32_mask(a, a)) }
            }
            #[inline(always)]
            fn where_positive(self, a: __m512i, value: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { _mm512_maskz_mov_epi32(_mm512_cmpgt_epi32_mask(a, _mm512_setzero_si512()), value) }
            }

            #[inline(always)]
            fn count(self, $sums: __m512i, $word: __m512i) -> __m512i {
                // SAFETY: by `self`.
                unsafe { $count }
            }
            #[inline(always)]
            fn counted(self, $sums: __m512i) -> __m512i {
                $counted
            }
            $(
                #[inline(always)]
                fn dot_pairs(self, $a: __m512i, $b: __m512i, $c: __m512) -> __m512 {
                    // SAFETY: by `self`.
                    unsafe { $dot_pairs }
                }
            )?

            #[inline(always)]
            fn transpose(self, from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
                // SAFETY: AVX-512 VL comes with AVX2.
                let half = unsafe { super::Avx2::new() };
                for row in [0, 8] {
                    for column in [0, 8] {
                        let from = &from[row * stride + column..];
                        half.transpose(from, stride, &mut to[column * to_stride + row..], to_stride);
                    }
                }
            }
            #[inline(always)]
            fn transpose_words(self, block: &mut [[u32; 16]; 16]) {
                // SAFETY: AVX-512 VL comes with AVX2.
                let half = unsafe { super::Avx2::new() };
                half.transpose_words(block);
            }
        }
    };
}

avx512! {
    /// AVX-512 F, BW, DQ, VL and VPOPCNTDQ.
    Avx512, counts: 1 << 20,
    |sums, word| count: { _mm512_add_epi32(sums, _mm512_popcnt_epi32(word)) },
    counted: { sums }
}

avx512! {
    /// AVX-512 F, BW, DQ, VL, VPOPCNTDQ and BF16.
    Avx512Bf16, counts: 1 << 20,
    |sums, word| count: { _mm512_add_epi32(sums, _mm512_popcnt_epi32(word)) },
    counted: { sums },
    |a, b, c| dot_pairs: { _mm512_dpbf16_ps(c, pairs(a), pairs(b)) }
}

/// Words taken for pairs of bfloat16: the lower half comes first.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits of which any are valid.
    unsafe { std::mem::transmute(words) }
}

avx512! {
    /// AVX-512 F, BW, DQ and VL: bits are counted by looking up nibbles.
    // bytes hold 255, a word adds at most 8 to each
    Avx512Base, counts: 31,
    |sums, word| count: {
        let ones = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
        let nibble = _mm512_set1_epi8(15);
        let low = _mm512_shuffle_epi8(ones, _mm512_and_si512(word, nibble));
        let high = _mm512_shuffle_epi8(ones, _mm512_and_si512(_mm512_srli_epi16::<4>(word), nibble));
        _mm512_add_epi8(sums, _mm512_add_epi8(low, high))
    },
    counted: {
        // SAFETY: by the value of this type that this is asked of.
        unsafe {
            let pairs = _mm512_maddubs_epi16(sums, _mm512_set1_epi8(1));
            _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))
        }
    }
}

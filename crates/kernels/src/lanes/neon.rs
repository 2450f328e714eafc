use super::Simd;
use std::arch::aarch64::*;

/// Four lanes; bits of bytes have an instruction of their own.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    /// # Safety
    /// The CPU has NEON.
    #[inline(always)]
    pub(crate) unsafe fn new() -> Self {
        Self(())
    }

    /// Bit l set where lane l is all ones, of lanes that are all ones or 0.
    #[inline(always)]
    fn mask(self, lanes: uint32x4_t) -> u32 {
        let bits = self.load_words(&[1, 2, 4, 8]);
        // SAFETY: by `self`.
        unsafe { vaddvq_u32(vandq_u32(lanes, bits)) }
    }
}

const LANES: usize = 4;

// A value of `Neon` exists only where the CPU has NEON: that is the reason of every block below.
impl Simd for Neon {
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 8;
    const TILE_VECTORS: usize = 2;
    // bytes hold 255, a word adds at most 8 to each
    const COUNTS: usize = 31;
    type Floats = float32x4_t;
    type Words = uint32x4_t;

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: by `self`.
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> float32x4_t {
        let from = from[..LANES].as_ptr();
        // SAFETY: by `self`; four values can be read.
        unsafe { vld1q_f32(from) }
    }
    #[inline(always)]
    fn store(self, value: float32x4_t, to: &mut [f32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: by `self`; four values can be written.
        unsafe { vst1q_f32(to, value) }
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &[T]) {
        // stable Rust has no such instruction for arm64
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: by `self`.
        unsafe { vfmaq_f32(c, a, b) }
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: by `self`.
        unsafe { vaddq_f32(a, b) }
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        // SAFETY: by `self`.
        unsafe { vsubq_f32(a, b) }
    }
    #[inline(always)]
    fn above_zero(self, value: float32x4_t) -> u32 {
        // SAFETY: by `self`.
        self.mask(unsafe { vcgtzq_f32(value) })
    }

    #[inline(always)]
    fn splat_words(self, value: u32) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vdupq_n_u32(value) }
    }
    #[inline(always)]
    fn load_words(self, from: &[u32]) -> uint32x4_t {
        let from = from[..LANES].as_ptr();
        // SAFETY: by `self`; four words can be read.
        unsafe { vld1q_u32(from) }
    }
    #[inline(always)]
    fn store_words(self, value: uint32x4_t, to: &mut [u32]) {
        let to = to[..LANES].as_mut_ptr();
        // SAFETY: by `self`; four words can be written.
        unsafe { vst1q_u32(to, value) }
    }
    #[inline(always)]
    fn load_halves(self, from: &[u64]) -> uint32x4_t {
        let from = from[..LANES / 2].as_ptr();
        // SAFETY: by `self`; two values can be read, and Rust's arm64 targets with NEON put the lower half first.
        unsafe { vreinterpretq_u32_u64(vld1q_u64(from)) }
    }
    #[inline(always)]
    fn and(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vandq_u32(a, b) }
    }
    #[inline(always)]
    fn or(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vorrq_u32(a, b) }
    }
    #[inline(always)]
    fn xor(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { veorq_u32(a, b) }
    }
    #[inline(always)]
    fn add_words(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vaddq_u32(a, b) }
    }
    #[inline(always)]
    fn sub_words(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vsubq_u32(a, b) }
    }
    #[inline(always)]
    fn mul_words(self, a: uint32x4_t, b: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vmulq_u32(a, b) }
    }
    #[inline(always)]
    fn high_half(self, a: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vshrq_n_u32::<16>(a) }
    }
    #[inline(always)]
    fn low_half(self, a: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vshlq_n_u32::<16>(a) }
    }
    #[inline(always)]
    fn bits_of(self, value: float32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vreinterpretq_u32_f32(value) }
    }
    #[inline(always)]
    fn floats_of(self, bits: uint32x4_t) -> float32x4_t {
        // SAFETY: by `self`.
        unsafe { vreinterpretq_f32_u32(bits) }
    }
    #[inline(always)]
    fn abs_words(self, a: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vreinterpretq_u32_s32(vabsq_s32(vreinterpretq_s32_u32(a))) }
    }
    #[inline(always)]
    fn positive_words(self, a: uint32x4_t) -> u32 {
        // SAFETY: by `self`.
        self.mask(unsafe { vcgtzq_s32(vreinterpretq_s32_u32(a)) })
    }
    #[inline(always)]
    fn zero_words(self, a: uint32x4_t) -> u32 {
        // SAFETY: by `self`.
        self.mask(unsafe { vceqzq_u32(a) })
    }
    #[inline(always)]
    fn where_positive(self, a: uint32x4_t, value: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vandq_u32(vcgtzq_s32(vreinterpretq_s32_u32(a)), value) }
    }

    #[inline(always)]
    fn count(self, sums: uint32x4_t, word: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe {
            let ones = vcntq_u8(vreinterpretq_u8_u32(word));
            vreinterpretq_u32_u8(vaddq_u8(vreinterpretq_u8_u32(sums), ones))
        }
    }
    #[inline(always)]
    fn counted(self, sums: uint32x4_t) -> uint32x4_t {
        // SAFETY: by `self`.
        unsafe { vpaddlq_u16(vpaddlq_u8(vreinterpretq_u8_u32(sums))) }
    }

    #[inline(always)]
    fn transpose(self, from: &[f32], stride: usize, to: &mut [f32], to_stride: usize) {
        let row = |at: usize| self.load(&from[at * stride..]);
        let rows = [row(0), row(1), row(2), row(3)];
        // SAFETY: by `self`.
        let columns = unsafe { transpose(rows) };
        for (at, column) in columns.into_iter().enumerate() {
            self.store(column, &mut to[at * to_stride..]);
        }
    }
}

/// Four rows of four values turned into columns: pairs, then halves.
///
/// # Safety
/// The CPU has NEON.
#[inline(always)]
unsafe fn transpose(r: [float32x4_t; 4]) -> [float32x4_t; 4] {
    // SAFETY: as the caller vouches.
    unsafe {
        let pair = |a, b| (vreinterpretq_f64_f32(vtrn1q_f32(a, b)), vreinterpretq_f64_f32(vtrn2q_f32(a, b)));
        let ((a0, a1), (b0, b1)) = (pair(r[0], r[1]), pair(r[2], r[3]));
        [vtrn1q_f64(a0, b0), vtrn1q_f64(a1, b1), vtrn2q_f64(a0, b0), vtrn2q_f64(a1, b1)]
            .map(|column| vreinterpretq_f32_f64(column))
    }
}

use super::Simd;

/// Plain Rust, eight lanes wide: for any CPU, and what all others are tested against.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const LANES: usize = 8;

fn first<T: Copy>(from: &[T]) -> [T; LANES] {
    *from.first_chunk().expect("as many values as lanes")
}

fn each<T: Copy>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    std::array::from_fn(|lane| f(a[lane], b[lane]))
}

fn mask<T: Copy>(a: [T; LANES], f: impl Fn(T) -> bool) -> u32 {
    (0..LANES).fold(0, |mask, lane| mask | u32::from(f(a[lane])) << lane)
}

impl Simd for Portable {
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;
    const COUNTS: usize = 1 << 20;
    type Floats = [f32; LANES];
    type Words = [u32; LANES];

    #[inline(always)]
    fn splat(self, value: f32) -> [f32; LANES] {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32]) -> [f32; LANES] {
        first(from)
    }
    #[inline(always)]
    fn store(self, value: [f32; LANES], to: &mut [f32]) {
        to[..LANES].copy_from_slice(&value);
    }
    #[inline(always)]
    fn prefetch<T>(self, _: &[T]) {}
    #[inline(always)]
    fn mul_add(self, a: [f32; LANES], b: [f32; LANES], c: [f32; LANES]) -> [f32; LANES] {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }
    #[inline(always)]
    fn add(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; LANES], b: [f32; LANES]) -> [f32; LANES] {
        each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn above_zero(self, value: [f32; LANES]) -> u32 {
        mask(value, |value| value > 0.0)
    }

    #[inline(always)]
    fn splat_words(self, value: u32) -> [u32; LANES] {
        [value; LANES]
    }
    #[inline(always)]
    fn load_words(self, from: &[u32]) -> [u32; LANES] {
        first(from)
    }
    #[inline(always)]
    fn store_words(self, value: [u32; LANES], to: &mut [u32]) {
        to[..LANES].copy_from_slice(&value);
    }
    #[inline(always)]
    fn load_halves(self, from: &[u64]) -> [u32; LANES] {
        let from: &[u64; LANES / 2] = from.first_chunk().expect("half as many values as lanes");
        std::array::from_fn(|lane| (from[lane / 2] >> (32 * (lane % 2))) as u32)
    }
    #[inline(always)]
    fn and(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, |a, b| a & b)
    }
    #[inline(always)]
    fn or(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, |a, b| a | b)
    }
    #[inline(always)]
    fn xor(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, |a, b| a ^ b)
    }
    #[inline(always)]
    fn add_words(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, u32::wrapping_add)
    }
    #[inline(always)]
    fn sub_words(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, u32::wrapping_sub)
    }
    #[inline(always)]
    fn mul_words(self, a: [u32; LANES], b: [u32; LANES]) -> [u32; LANES] {
        each(a, b, u32::wrapping_mul)
    }
    #[inline(always)]
    fn high_half(self, a: [u32; LANES]) -> [u32; LANES] {
        a.map(|a| a >> 16)
    }
    #[inline(always)]
    fn low_half(self, a: [u32; LANES]) -> [u32; LANES] {
        a.map(|a| a << 16)
    }
    #[inline(always)]
    fn bits_of(self, value: [f32; LANES]) -> [u32; LANES] {
        value.map(f32::to_bits)
    }
    #[inline(always)]
    fn floats_of(self, bits: [u32; LANES]) -> [f32; LANES] {
        bits.map(f32::from_bits)
    }
    #[inline(always)]
    fn abs_words(self, a: [u32; LANES]) -> [u32; LANES] {
        a.map(|a| (a as i32).wrapping_abs() as u32)
    }
    #[inline(always)]
    fn positive_words(self, a: [u32; LANES]) -> u32 {
        mask(a, |a| a as i32 > 0)
    }
    #[inline(always)]
    fn zero_words(self, a: [u32; LANES]) -> u32 {
        mask(a, |a| a == 0)
    }
    #[inline(always)]
    fn where_positive(self, a: [u32; LANES], value: [u32; LANES]) -> [u32; LANES] {
        each(a, value, |a, value| if a as i32 > 0 { value } else { 0 })
    }

    #[inline(always)]
    fn count(self, sums: [u32; LANES], word: [u32; LANES]) -> [u32; LANES] {
        each(sums, word, |sum, word| sum + word.count_ones())
    }
    #[inline(always)]
    fn counted(self, sums: [u32; LANES]) -> [u32; LANES] {
        sums
    }
}

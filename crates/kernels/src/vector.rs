/// A register of f32 lanes: all that the product needs of an instruction set.
///
/// # Safety
/// The methods of an implementation may only run where its instruction set was detected; each is
/// `inline(always)`, to be compiled into a caller that enables the features.
pub(crate) unsafe trait Vector: Copy {
    /// Lanes in a register.
    const LANES: usize;
    /// # Safety
    /// The instruction set is there.
    unsafe fn splat(value: f32) -> Self;
    /// # Safety
    /// The instruction set is there; `LANES` values can be read at `from`.
    unsafe fn load(from: *const f32) -> Self;
    /// # Safety
    /// The instruction set is there; `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32);
    /// self + a·b, rounded once.
    /// # Safety
    /// The instruction set is there.
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
}

/// Eight lanes of plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

// SAFETY: plain Rust needs no feature.
unsafe impl Vector for Portable {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 8])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for eight readable values; arrays of f32 need no more alignment than f32.
        Portable(unsafe { from.cast::<[f32; 8]>().read() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as in `load`.
        unsafe { to.cast::<[f32; 8]>().write(self.0) }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        Portable(std::array::from_fn(|lane| a.0[lane].mul_add(b.0[lane], self.0[lane])))
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2(__m256);

    // SAFETY: used only behind an `Isa` that was detected.
    unsafe impl Vector for Avx2 {
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for AVX2.
            Avx2(unsafe { _mm256_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for AVX2 and eight readable values.
            Avx2(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for AVX2 and eight writable values.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller vouches for FMA.
            Avx2(unsafe { _mm256_fmadd_ps(a.0, b.0, self.0) })
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512(__m512);

    // SAFETY: used only behind an `Isa` that was detected.
    unsafe impl Vector for Avx512 {
        const LANES: usize = 16;
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            Avx512(unsafe { _mm512_set1_ps(value) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: the caller vouches for AVX-512 F and sixteen readable values.
            Avx512(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: the caller vouches for AVX-512 F and sixteen writable values.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: the caller vouches for AVX-512 F.
            Avx512(unsafe { _mm512_fmadd_ps(a.0, b.0, self.0) })
        }
    }
}

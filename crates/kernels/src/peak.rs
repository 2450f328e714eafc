//! What an instruction set can do at best, in registers alone: the measure of the benchmarks.

use crate::isa::per_isa;

/// Registers that are summed into at a time: as many as hide the latency of an addition.
const SUMS: usize = 12;

per_isa! {
    /// Does `rounds` times 12 fused multiply-adds of a register; gives their number of floating-point operations, and a
    /// value so that nothing is left out.
    pub fn multiply_adds[simd: S](rounds: usize) -> (usize, f32) {
        let (a, b) = (simd.splat(1.000_000_1), simd.splat(1e-9));
        let mut sums = [simd.splat(1.0); SUMS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = simd.mul_add(*sum, a, b);
            }
        }
        let mut lanes = [0f32; 16];
        let mut total = 0.0;
        for sum in &sums {
            simd.store(*sum, &mut lanes);
            total += lanes[0];
        }
        (2 * rounds * SUMS * S::LANES, total)
    }
}

per_isa! {
    /// Does `rounds` times 12 conjunctions and counts of a register of bits; gives the number of bits, and a value so that
    /// nothing is left out.
    pub fn counts[simd: S](rounds: usize) -> (usize, u32) {
        let mut words = [simd.splat_words(0x5555_3333); SUMS];
        let mut totals = [simd.splat_words(0); SUMS];
        let block = S::COUNTS.min(16);
        let other = simd.splat_words(0x0F0F_00FF);
        for _ in 0..rounds.div_ceil(block) {
            let mut sums = [simd.splat_words(0); SUMS];
            for _ in 0..block {
                for at in 0..SUMS {
                    sums[at] = simd.count(sums[at], simd.and(words[at], other));
                    // or the compiler would count once
                    words[at] = std::hint::black_box(words[at]);
                }
            }
            for at in 0..SUMS {
                totals[at] = simd.add_words(totals[at], simd.counted(sums[at]));
            }
        }
        let mut lanes = [0u32; 16];
        let mut total = 0u32;
        for sum in &totals {
            simd.store_words(*sum, &mut lanes);
            total = total.wrapping_add(lanes[0]);
        }
        (rounds.div_ceil(block) * block * SUMS * S::LANES * 32, total)
    }
}

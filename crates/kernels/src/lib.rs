//! Loops over bits and floats, written once and compiled for each instruction set.
//!
//! Every kernel gives the same bits on every instruction set and any number of threads: a sum is one chain in a
//! fixed order, vector lanes run along the output only, and threads split the output, never a sum. Kernels run on
//! the current rayon pool.

pub mod adam;
pub mod batch;
pub mod bf16;
pub mod bits;
pub mod columns;
pub mod counts;
pub mod gather;
mod isa;
mod lanes;
pub mod pairs;
pub mod peak;
mod planes;
pub mod product;
pub mod pulls;
pub mod signs;
pub mod slope;
pub mod slots;
pub mod sparse;
pub mod window;

pub use isa::{ISA_VARIABLE, Isa};

/// How often a property test runs: a few times under Miri, which is slow and lets no test look for the file of its
/// earlier failures.
#[cfg(test)]
fn cases(count: u32) -> proptest::test_runner::Config {
    let mut config = proptest::test_runner::Config::with_cases(count);
    if cfg!(miri) {
        config.cases = config.cases.min(2);
        config.failure_persistence = None;
    }
    config
}

/// The end of a range of sizes in a property test: lower under Miri, still above one panel.
#[cfg(test)]
fn up_to(size: usize) -> usize {
    if cfg!(miri) { size.min(36) } else { size }
}

/// A matrix of numbers between −1 and 1, the same for one seed.
#[cfg(test)]
fn values(rows: usize, columns: usize, seed: u64) -> ndarray::Array2<f32> {
    let mut state = seed | 1;
    ndarray::Array2::from_shape_simple_fn((rows, columns), || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    })
}

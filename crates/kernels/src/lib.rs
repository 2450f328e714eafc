//! Loops over bits and floats, written once and compiled for each instruction set.
//!
//! Every kernel gives the same bits on every instruction set and any number of threads: a sum is one chain in a
//! fixed order, vector lanes run along the output only, and threads split the output, never a sum. Kernels run on
//! the current rayon pool.

pub mod batch;
mod isa;
mod lanes;
pub mod pairs;
pub mod signs;
pub mod slots;

pub use isa::{ISA_VARIABLE, Isa};

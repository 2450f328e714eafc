//! Arithmetic alone: for measuring what a device allows.

use super::{Access, Shader};

macro_rules! four {
    ($text:expr) => {
        concat!($text, $text, $text, $text)
    };
}

/// A function of 32 rounds, written out so that a loop's counters do not count.
macro_rules! rounds {
    ($arguments:literal, $round:literal) => {
        concat!("fn rounds(", $arguments, ") {\n", four!(four!(concat!($round, $round))), "}\n")
    };
}

/// Operations of one call of `rounds`: 32 rounds of four chains of vectors of four.
pub const PEAK_OPERATIONS: usize = 32 * 16;

/// Multiply-adds.
pub const PEAK_VALUES: Shader = Shader {
    name: "peak_values",
    parts: &[
        include_str!("peak_values.wgsl"),
        rounds!(
            "a: ptr<function, vec4f>, b: ptr<function, vec4f>, c: ptr<function, vec4f>, d: ptr<function, vec4f>, f: vec4f, s: vec4f",
            "*a = fma(*a, f, s); *b = fma(*b, f, s); *c = fma(*c, f, s); *d = fma(*d, f, s);\n"
        ),
    ],
    access: &[Access::Write],
    product: None,
};

/// Counts of bits.
pub const PEAK_BITS: Shader = Shader {
    name: "peak_bits",
    parts: &[
        include_str!("peak_bits.wgsl"),
        rounds!(
            "a: ptr<function, vec4u>, b: ptr<function, vec4u>, c: ptr<function, vec4u>, d: ptr<function, vec4u>, m: vec4u",
            "*a += countOneBits(*a & m); *b += countOneBits(*b & m); *c += countOneBits(*c & m); *d += countOneBits(*d & m);\n"
        ),
    ],
    access: &[Access::Write],
    product: None,
};

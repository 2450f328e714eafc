//! Scalars of a step.

use super::{Access, Shader};

/// Adds up the squared errors.
pub const SQUARES_TOTAL: Shader = Shader {
    name: "squares_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return ERROR; } fn count() -> u32 { return ((params.d_out + 31u) / 32u) * ((params.rows + 63u) / 64u); }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the cross-entropies.
pub const CROSS_ENTROPY_TOTAL: Shader = Shader {
    name: "cross_entropy_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return ERROR; } fn count() -> u32 { return params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the hits.
pub const HITS_TOTAL: Shader = Shader {
    name: "hits_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return params.rows; } fn place() -> u32 { return HITS; } fn count() -> u32 { return params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Adds up the sizes of codes.
pub const SIZES_TOTAL: Shader = Shader {
    name: "sizes_total",
    parts: &[
        include_str!("totals.wgsl"),
        "fn begin() -> u32 { return 0u; } fn place() -> u32 { return SIZES; } fn count() -> u32 { return ((params.features + 63u) / 64u) * params.rows; }",
    ],
    access: &[Access::Read, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::{CROSS_ENTROPY_TOTAL, HITS_TOTAL, SIZES_TOTAL, SQUARES_TOTAL};
    use crate::shaders::results;
    use crate::shaders::testing::{device, near, random, read, run, shapes, uniform, write};

    fn totals(partials: &[f32]) -> f64 {
        partials.iter().map(|&partial| f64::from(partial)).sum()
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let rows = shape.rows;
            let squares = shape.d_out.div_ceil(32) * rows.div_ceil(64);
            let sizes = shape.features.div_ceil(64) * rows;
            for (shader, place, range) in [
                (&SQUARES_TOTAL, results::ERROR, 0..squares),
                (&CROSS_ENTROPY_TOTAL, results::ERROR, 0..rows),
                (&HITS_TOTAL, results::HITS, rows..2 * rows),
                (&SIZES_TOTAL, results::SIZES, 0..sizes),
            ] {
                // what lies behind the range is not to count
                let partials = uniform(&mut rng, range.end + 300);
                let want = totals(&partials[range.clone()]);
                let mut words = [9u32; results::COUNT];
                run(&device, shader, [1, 1, 1], shape.params(), [read(&partials), write(&mut words)]);
                let got = f32::from_bits(std::mem::replace(&mut words[place], 9));
                let what = format!("{} {shape:?}", shader.name);
                near(&what, &[got], &[want], range.len(), 1.0);
                assert_eq!(words, [9; results::COUNT], "{what}");
            }
        }
    }
}

//! Sums of columns.

use super::{Access, Shader};

/// What is as wide as a block.
pub const FEATURES: &str = "fn columns() -> u32 { return params.features; }";
/// What is as wide as the output.
pub const OUTPUTS: &str = "fn columns() -> u32 { return params.d_out; }";

/// Of a matrix as wide as a block.
pub const SUMS_OF_FEATURES: Shader = Shader {
    name: "sums_of_features",
    parts: &[include_str!("column_sums.wgsl"), FEATURES],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Of a matrix as wide as the output.
pub const SUMS_OF_OUTPUTS: Shader = Shader {
    name: "sums_of_outputs",
    parts: &[include_str!("column_sums.wgsl"), OUTPUTS],
    access: &[Access::Read, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::{SUMS_OF_FEATURES, SUMS_OF_OUTPUTS};
    use crate::shaders::testing::{blocks, device, near, random, read, run, uniform, write};

    fn column_sums(rows: usize, columns: usize, values: &[f32]) -> Vec<f64> {
        let mut partials = vec![0.0; rows.div_ceil(64) * columns];
        for row in 0..rows {
            for column in 0..columns {
                partials[row / 64 * columns + column] += f64::from(values[row * columns + column]);
            }
        }
        partials
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in blocks() {
            let rows = shape.rows;
            for (shader, columns) in [(&SUMS_OF_FEATURES, shape.features), (&SUMS_OF_OUTPUTS, shape.d_out)] {
                let values = uniform(&mut rng, rows * columns);
                let want = column_sums(rows, columns, &values);
                let mut got = vec![f32::NAN; want.len()];
                let groups = [columns.div_ceil(32), rows.div_ceil(64), 1];
                run(&device, shader, groups, shape.params(), [read(&values), write(&mut got)]);
                near(&format!("{} {shape:?}", shader.name), &got, &want, rows.min(64), 1.0);
            }
        }
    }
}

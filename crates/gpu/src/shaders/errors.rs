//! Squared errors and their gradient.

use super::{Access, Shader};

/// Reads y and targets; writes errors, the gradient by the outputs (if kept), column sums and sums of squares.
pub const ERRORS: Shader = Shader {
    name: "errors",
    parts: &[include_str!("errors.wgsl"), include_str!("output_slope.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
pub(super) mod tests {
    use super::ERRORS;
    use crate::shaders::Params;
    use crate::shaders::testing::{OUTPUTS, Shape, device, near, random, read, run, shapes, uniform, write};
    use bae_model::OutputActivation;

    /// The twin of output_slope.wgsl.
    pub fn output_slope(activation: OutputActivation, y: f64) -> f64 {
        match activation {
            OutputActivation::None => 1.0,
            OutputActivation::Relu => f64::from(u8::from(y > 0.0)),
            OutputActivation::Sigmoid => y * (1.0 - y),
            OutputActivation::Tanh => 1.0 - y * y,
        }
    }

    struct Errors {
        errors: Vec<f64>,
        grad_y: Vec<f64>,
        column_partials: Vec<f64>,
        partials: Vec<f64>,
    }

    fn errors(shape: Shape, activation: OutputActivation, y: &[f32], states: &[f32]) -> Errors {
        let Shape { rows, d_out, .. } = shape;
        let (chunks, groups) = (rows.div_ceil(64), d_out.div_ceil(32));
        let mut all = Errors {
            errors: vec![],
            grad_y: vec![],
            column_partials: vec![0.0; chunks * d_out],
            partials: vec![0.0; chunks * groups],
        };
        for row in 0..rows {
            for column in 0..d_out {
                let at = row * d_out + column;
                let error = f64::from(y[at]) - f64::from(states[at]);
                let gradient = 2.0 * error / (rows * d_out) as f64;
                let through = gradient * output_slope(activation, f64::from(y[at]));
                all.grad_y.push(gradient);
                all.errors.push(through);
                all.column_partials[row / 64 * d_out + column] += through;
                all.partials[row / 64 * groups + column / 32] += error * error;
            }
        }
        all
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, activation) in
            shapes().into_iter().flat_map(|shape| OUTPUTS.map(|output| (shape, output)))
        {
            let Shape { rows, d_out, .. } = shape;
            let (y, states) = (uniform(&mut rng, rows * d_out), uniform(&mut rng, rows * d_out));
            let want = errors(shape, activation, &y, &states);
            for keep in [0, 1] {
                let mut got = vec![f32::NAN; rows * d_out];
                let mut grad_y = vec![7.0f32; if keep == 1 { rows * d_out } else { 1 }];
                let mut column_partials = vec![f32::NAN; want.column_partials.len()];
                let mut partials = vec![f32::NAN; want.partials.len()];
                let values = [
                    read(&y),
                    read(&states),
                    write(&mut got),
                    write(&mut grad_y),
                    write(&mut column_partials),
                    write(&mut partials),
                ];
                let params = Params { keep, ..shape.params().output(activation) };
                run(&device, &ERRORS, [d_out.div_ceil(32), rows.div_ceil(64), 1], params, values);
                let what = format!("{shape:?} {activation:?}");
                let term = 2.0 / (rows * d_out) as f64;
                near(&what, &got, &want.errors, 1, term);
                near(&what, &column_partials, &want.column_partials, rows.min(64), term);
                near(&what, &partials, &want.partials, rows.min(64) * d_out.min(32), 1.0);
                if keep == 1 {
                    near(&what, &grad_y, &want.grad_y, 1, term);
                } else {
                    assert_eq!(grad_y, [7.0], "{what}");
                }
            }
        }
    }
}

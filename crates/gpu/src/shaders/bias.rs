//! Gradients of biases, and their step.

use super::{ADAM, Access, FEATURES, OUTPUTS, Shader};

/// b_enc of a block.
pub const BIAS_OF_FEATURES: Shader = Shader {
    name: "bias_of_features",
    parts: &[include_str!("bias.wgsl"), ADAM, FEATURES],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

/// b_dec.
pub const BIAS_OF_OUTPUTS: Shader = Shader {
    name: "bias_of_outputs",
    parts: &[include_str!("bias.wgsl"), ADAM, OUTPUTS],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::{BIAS_OF_FEATURES, BIAS_OF_OUTPUTS};
    use crate::shaders::testing::{blocks, device, random, read, run, uniform, updates, write};

    /// The gradient; its way through Adam is [`crate::shaders::testing::adam`].
    fn bias(columns: usize, column_partials: &[f32]) -> Vec<f64> {
        let mut gradient = vec![0.0; columns];
        for (at, &partial) in column_partials.iter().enumerate() {
            gradient[at % columns] += f64::from(partial);
        }
        gradient
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in blocks() {
            for (shader, columns) in [(&BIAS_OF_FEATURES, shape.features), (&BIAS_OF_OUTPUTS, shape.d_out)] {
                let parts = shape.rows.div_ceil(64);
                let partials = uniform(&mut rng, parts * columns);
                let gradient = bias(columns, &partials);
                let what = format!("{} {shape:?}", shader.name);
                updates(&mut rng, shape.params(), &what, &gradient, parts, |params, poison, tensors| {
                    let [parameters, first, second] = tensors.each_mut().map(|tensor| write(tensor));
                    let values = [read(&partials), read(poison), parameters, first, second];
                    run(&device, shader, [columns.div_ceil(64), 1, 1], params, values);
                });
            }
        }
    }
}

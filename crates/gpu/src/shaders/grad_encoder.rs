//! The encoder's gradient, and its step.

use super::{ADAM, Access, Kind, Product, Shader};

/// Reads x, grad_z and poison; writes W_enc and its moments.
pub const GRAD_ENCODER: Shader = Shader {
    name: "grad_encoder",
    parts: &[include_str!("grad_encoder.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

#[cfg(test)]
mod tests {
    use super::GRAD_ENCODER;
    use crate::shaders::testing::{
        Shape, blocks, device, product, random, read, tiles, uniform, updates, write,
    };

    /// The gradient; its way through Adam is [`crate::shaders::testing::adam`].
    fn grad_encoder(shape: Shape, x: &[f32], grad_z: &[f32]) -> Vec<f64> {
        let Shape { rows, d_in, features, .. } = shape;
        let mut gradient = vec![0.0; d_in * features];
        for row in 0..rows {
            for k in 0..d_in {
                for j in 0..features {
                    let [x, g] = [x[row * d_in + k], grad_z[row * features + j]].map(f64::from);
                    gradient[k * features + j] += x * g;
                }
            }
        }
        gradient
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in blocks() {
            let Shape { rows, d_in, features, .. } = shape;
            let x = uniform(&mut rng, rows * d_in);
            let grad_z = uniform(&mut rng, rows * features);
            let gradient = grad_encoder(shape, &x, &grad_z);
            for tile in tiles(&device) {
                let what = format!("{shape:?} {tile:?}");
                updates(&mut rng, shape.params(), &what, &gradient, rows, |params, poison, tensors| {
                    let [parameters, first, second] = tensors.each_mut().map(|tensor| write(tensor));
                    let values = [read(&x), read(&grad_z), read(poison), parameters, first, second];
                    product(&device, &GRAD_ENCODER, tile, [d_in, features], params, values);
                });
            }
        }
    }
}

//! The decoder's gradient, and its step.

use super::{ADAM, Access, Kind, Product, Shader};

/// Reads codes by feature, errors and poison; writes W_dec and its moments.
pub const GRAD_DECODER: Shader = Shader {
    name: "grad_decoder",
    parts: &[include_str!("grad_decoder.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

#[cfg(test)]
mod tests {
    use super::super::turn::tests::turn;
    use super::GRAD_DECODER;
    use crate::shaders::testing::{
        Shape, bit, device, product, random, random_codes, read, shapes, tiles, uniform, updates, write,
    };

    /// The gradient; its way through Adam is [`crate::shaders::testing::adam`].
    fn grad_decoder(shape: Shape, turned: &[u32], errors: &[f32]) -> Vec<f64> {
        let Shape { rows, d_out, first, features, .. } = shape;
        let mut gradient = vec![0.0; features * d_out];
        for j in 0..features {
            for row in (0..rows).filter(|row| bit(turned, (first + j) * shape.row_words() + row / 32, *row)) {
                for column in 0..d_out {
                    gradient[j * d_out + column] += f64::from(errors[row * d_out + column]);
                }
            }
        }
        gradient
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let Shape { rows, d_out, .. } = shape;
            let [turned, _] = turn(shape, &random_codes(&mut rng, shape));
            let errors = uniform(&mut rng, rows * d_out);
            for block in shape.splits().concat() {
                let gradient = grad_decoder(block, &turned, &errors);
                for tile in tiles(&device) {
                    let what = format!("{block:?} {tile:?}");
                    updates(&mut rng, block.params(), &what, &gradient, rows, |params, poison, tensors| {
                        let [parameters, first, second] = tensors.each_mut().map(|tensor| write(tensor));
                        let values = [read(&turned), read(&errors), read(poison), parameters, first, second];
                        product(&device, &GRAD_DECODER, tile, [block.features, d_out], params, values);
                    });
                }
            }
        }
    }
}

//! Pre-activations.

use super::{Access, Kind, Product, Shader};

/// Reads x, W_enc and b_enc; writes z.
pub const ENCODE: Shader = Shader {
    name: "encode",
    parts: &[include_str!("encode.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

#[cfg(test)]
mod tests {
    use super::ENCODE;
    use crate::shaders::testing::{
        Shape, blocks, device, near, product, random, read, tiles, uniform, write,
    };

    fn encode(shape: Shape, x: &[f32], w_enc: &[f32], b_enc: &[f32]) -> Vec<f64> {
        let Shape { rows, d_in, features, .. } = shape;
        let mut z = vec![];
        for row in 0..rows {
            for j in 0..features {
                let mut sum = f64::from(b_enc[j]);
                for k in 0..d_in {
                    sum += f64::from(x[row * d_in + k]) * f64::from(w_enc[k * features + j]);
                }
                z.push(sum);
            }
        }
        z
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in blocks() {
            let Shape { rows, d_in, features, .. } = shape;
            let x = uniform(&mut rng, rows * d_in);
            let w_enc = uniform(&mut rng, d_in * features);
            let b_enc = uniform(&mut rng, features);
            let want = encode(shape, &x, &w_enc, &b_enc);
            for tile in tiles(&device) {
                let mut z = vec![f32::NAN; rows * features];
                let values = [read(&x), read(&w_enc), read(&b_enc), write(&mut z)];
                product(&device, &ENCODE, tile, [rows, features], shape.params(), values);
                near(&format!("{shape:?} {tile:?}"), &z, &want, d_in, 1.0);
            }
        }
    }
}

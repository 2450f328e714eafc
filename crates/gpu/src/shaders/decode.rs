//! Outputs of codes that are bits.

use super::{Access, Kind, Product, Shader, TANH};

/// Reads codes, W_dec and b_dec; writes y.
pub const DECODE: Shader = Shader {
    name: "decode",
    parts: &[include_str!("decode.wgsl"), include_str!("output.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

#[cfg(test)]
pub(super) mod tests {
    use super::DECODE;
    use crate::shaders::testing::{
        OUTPUTS, Shape, code, device, near, product, random, random_codes, read, shapes, tiles, uniform,
        write,
    };
    use bae_model::OutputActivation;

    /// The twin of output.wgsl: a block's share is added to `before`, which the first one does not look at.
    pub fn output(
        shape: Shape,
        activation: OutputActivation,
        share: &[f64],
        b_dec: &[f32],
        before: &[f32],
    ) -> Vec<f64> {
        let Shape { d_sae, d_out, first, features, .. } = shape;
        let mut y = vec![];
        for (at, share) in share.iter().enumerate() {
            let sum = share + f64::from(if first == 0 { b_dec[at % d_out] } else { before[at] });
            y.push(match activation {
                _ if first + features < d_sae => sum,
                OutputActivation::None => sum,
                OutputActivation::Relu => sum.max(0.0),
                OutputActivation::Sigmoid => 1.0 / (1.0 + (-sum).exp()),
                OutputActivation::Tanh => sum.tanh(),
            });
        }
        y
    }

    /// What a block of codes gives before the bias.
    fn decode(shape: Shape, codes: &[u32], w_dec: &[f32]) -> Vec<f64> {
        let Shape { rows, d_out, first, features, .. } = shape;
        let mut y = vec![];
        for row in 0..rows {
            for column in 0..d_out {
                let mut sum = 0.0;
                for j in (0..features).filter(|j| code(codes, rows, row, first + j)) {
                    sum += f64::from(w_dec[j * d_out + column]);
                }
                y.push(sum);
            }
        }
        y
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let Shape { rows, d_out, .. } = shape;
            let codes = random_codes(&mut rng, shape);
            let b_dec = uniform(&mut rng, d_out);
            for split in shape.splits() {
                let mut y = vec![f32::NAN; rows * d_out];
                for block in split {
                    let w_dec = uniform(&mut rng, block.features * d_out);
                    let (before, share) = (y.clone(), decode(block, &codes, &w_dec));
                    for tile in tiles(&device) {
                        // the last one leaves sums for the next block
                        for activation in OUTPUTS.into_iter().rev() {
                            y = before.clone();
                            let want = output(block, activation, &share, &b_dec, &before);
                            let params = block.params().output(activation);
                            let values = [read(&codes), read(&w_dec), read(&b_dec), write(&mut y)];
                            product(&device, &DECODE, tile, [rows, d_out], params, values);
                            near(
                                &format!("{block:?} {activation:?} {tile:?}"),
                                &y,
                                &want,
                                block.features,
                                1.0,
                            );
                        }
                    }
                }
            }
        }
    }
}

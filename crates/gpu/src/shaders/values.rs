//! Codes that are real values.

use super::{ADAM, Access, Kind, Product, Shader, TANH};

/// Reads z; writes the k-th largest of each row.
pub const LARGEST: Shader = Shader {
    name: "largest",
    parts: &[include_str!("largest.wgsl")],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Reads z and the k-th largest; writes codes, sums of their sizes, and the first entry that is not a number.
pub const ACTIVATE: Shader = Shader {
    name: "activate",
    parts: &[include_str!("activate.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

/// Reads codes, W_dec and b_dec; writes y.
pub const DECODE_VALUES: Shader = Shader {
    name: "decode_values",
    parts: &[include_str!("decode_values.wgsl"), include_str!("output.wgsl"), TANH],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: false }),
};

/// Reads errors, W_dec, codes and the k-th largest; writes z in place and the gradient by the codes (if kept).
pub const GRAD_Z_VALUES: Shader = Shader {
    name: "grad_z_values",
    parts: &[include_str!("grad_z_values.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: true }),
};

/// Reads codes, errors and poison; writes W_dec and its moments.
pub const GRAD_DECODER_VALUES: Shader = Shader {
    name: "grad_decoder_values",
    parts: &[include_str!("grad_decoder_values.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Values, left_along_k: false, right_along_k: false }),
};

#[cfg(test)]
mod tests {
    use super::super::decode::tests::output;
    use super::{ACTIVATE, DECODE_VALUES, GRAD_DECODER_VALUES, GRAD_Z_VALUES, LARGEST};
    use crate::shaders::testing::{
        OUTPUTS, Shape, device, near, product, random, read, run, scaled, shapes, tiles, uniform, updates,
        write,
    };
    use crate::shaders::{NONE, Params};
    use bae_model::Activation;
    use rand_chacha::ChaCha8Rng;

    const ACTIVATIONS: [Activation; 8] = [
        Activation::None,
        Activation::Relu,
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::TopK(0),
        Activation::TopK(3),
        Activation::TopK(usize::MAX),
        Activation::JumpRelu(0.5),
    ];

    /// Pre-activations on both sides of what activations tell apart, with equal ones among them.
    fn pre_activations(rng: &mut ChaCha8Rng, shape: Shape) -> Vec<f32> {
        let mut z = scaled(rng, shape.rows * shape.features, 4.0);
        let edges = [0.0, -0.0, 0.5, 3.5, 3.5, -3.5, 1e-3, -60.0, 60.0];
        z.iter_mut().step_by(3).zip(edges.into_iter().cycle()).for_each(|(z, edge)| *z = edge);
        z
    }

    fn largest(shape: Shape, k: usize, z: &[f32]) -> Vec<f32> {
        let Shape { rows, features, .. } = shape;
        let mut least = vec![];
        for row in 0..rows {
            let mut sorted = z[row * features..][..features].to_vec();
            sorted.sort_by(|a, b| b.total_cmp(a));
            least.push(sorted[k.min(features) - 1]);
        }
        least
    }

    #[test]
    fn the_largest_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, k) in shapes().into_iter().flat_map(|shape| [1, 2, 31, 1000].map(|k| (shape, k))) {
            let mut z = pre_activations(&mut rng, shape);
            z[0] = f32::INFINITY;
            *z.last_mut().expect("a value") = f32::NEG_INFINITY;
            let mut least = vec![f32::NAN; shape.rows];
            let params = shape.params().activation(Activation::TopK(k));
            run(&device, &LARGEST, [shape.rows, 1, 1], params, [read(&z), write(&mut least)]);
            assert_eq!(least, largest(shape, k, &z), "{shape:?} {k}");
        }
    }

    /// The k-th largest of each row where an activation asks for them; else what would let all pass.
    fn least(shape: Shape, activation: Activation, z: &[f32]) -> Vec<f32> {
        match activation {
            Activation::TopK(k) if k > 0 => largest(shape, k, z),
            _ => vec![f32::NEG_INFINITY; shape.rows],
        }
    }

    /// Codes, sums of their sizes over 64 features of a row, and the first entry that is not a number.
    fn activate(shape: Shape, activation: Activation, z: &[f32], least: &[f32]) -> (Vec<f64>, Vec<f64>, u32) {
        let Shape { rows, features, .. } = shape;
        let groups = features.div_ceil(64);
        let (mut h, mut sizes, mut poison) = (vec![], vec![0.0; rows * groups], NONE);
        for row in 0..rows {
            for j in 0..features {
                let at = row * features + j;
                let value = f64::from(z[at]);
                if value.is_nan() {
                    poison = poison.min(at as u32);
                }
                let code = match activation {
                    Activation::Relu => value.max(0.0),
                    Activation::Sigmoid => 1.0 / (1.0 + (-value).exp()),
                    Activation::Tanh => value.tanh(),
                    Activation::TopK(k) if k == 0 || z[at] < least[row] => 0.0,
                    Activation::JumpRelu(threshold) if value <= threshold => 0.0,
                    _ => value,
                };
                h.push(code);
                sizes[row * groups + j / 64] += code.abs();
            }
        }
        (h, sizes, poison)
    }

    #[test]
    fn activations_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, activation) in shapes().into_iter().flat_map(|shape| ACTIVATIONS.map(|a| (shape, a))) {
            let Shape { rows, features, .. } = shape;
            for nan in [false, true] {
                let mut z = pre_activations(&mut rng, shape);
                let least = least(shape, activation, &z);
                let middle = z.len() / 2;
                if nan {
                    z[middle..].iter_mut().step_by(3).for_each(|z| *z = f32::NAN);
                }
                let (want, want_sizes, want_poison) = activate(shape, activation, &z, &least);
                let (mut h, mut sizes) = (vec![f32::NAN; want.len()], vec![f32::NAN; want_sizes.len()]);
                let mut poison = [NONE];
                let values = [read(&z), read(&least), write(&mut h), write(&mut sizes), write(&mut poison)];
                let groups = [features.div_ceil(64), rows, 1];
                run(&device, &ACTIVATE, groups, shape.params().activation(activation), values);
                let what = format!("{shape:?} {activation:?}");
                assert_eq!(poison[0], want_poison, "{what}");
                // a batch with an entry that is not a number is given up
                if !nan {
                    // tanh.wgsl subtracts two numbers near 1: what it loses is of their size
                    let term = if activation == Activation::Tanh { 0.1 } else { 0.0 };
                    near(&what, &h, &want, 1, term);
                    near(&what, &sizes, &want_sizes, features.min(64), 1.0);
                }
            }
        }
    }

    /// What codes give before the bias.
    fn decode_values(shape: Shape, h: &[f32], w_dec: &[f32]) -> Vec<f64> {
        let Shape { rows, d_out, features, .. } = shape;
        let mut y = vec![0.0; rows * d_out];
        for row in 0..rows {
            for j in 0..features {
                for column in 0..d_out {
                    let [h, w] = [h[row * features + j], w_dec[j * d_out + column]].map(f64::from);
                    y[row * d_out + column] += h * w;
                }
            }
        }
        y
    }

    #[test]
    fn outputs_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let Shape { rows, d_out, features, .. } = shape;
            let h = uniform(&mut rng, rows * features);
            let w_dec = uniform(&mut rng, features * d_out);
            let b_dec = uniform(&mut rng, d_out);
            let sums = decode_values(shape, &h, &w_dec);
            for (tile, activation) in tiles(&device).flat_map(|tile| OUTPUTS.map(|output| (tile, output))) {
                let want = output(shape, activation, &sums, &b_dec, &[]);
                let mut y = vec![f32::NAN; want.len()];
                let values = [read(&h), read(&w_dec), read(&b_dec), write(&mut y)];
                product(
                    &device,
                    &DECODE_VALUES,
                    tile,
                    [rows, d_out],
                    shape.params().output(activation),
                    values,
                );
                near(&format!("{shape:?} {activation:?} {tile:?}"), &y, &want, features, 1.0);
            }
        }
    }

    /// What [`grad_z_values`] reads.
    struct Given {
        errors: Vec<f32>,
        w_dec: Vec<f32>,
        h: Vec<f32>,
        least: Vec<f32>,
        z: Vec<f32>,
    }

    /// The gradients by the codes, and by the pre-activations.
    fn grad_z_values(shape: Shape, activation: Activation, l1_weight: f64, given: &Given) -> [Vec<f64>; 2] {
        let Shape { rows, d_out, features, .. } = shape;
        let [mut grad_h, mut grad_z] = [vec![], vec![]];
        for row in 0..rows {
            for j in 0..features {
                let at = row * features + j;
                let [h, z] = [given.h[at], given.z[at]].map(f64::from);
                let mut g = if h == 0.0 { 0.0 } else { l1_weight * h.signum() };
                for k in 0..d_out {
                    g += f64::from(given.errors[row * d_out + k]) * f64::from(given.w_dec[j * d_out + k]);
                }
                let slope = match activation {
                    Activation::Relu => f64::from(u8::from(z > 0.0)),
                    Activation::Sigmoid => h * (1.0 - h),
                    Activation::Tanh => 1.0 - h * h,
                    Activation::TopK(k) => f64::from(u8::from(k > 0 && given.z[at] >= given.least[row])),
                    Activation::JumpRelu(threshold) => f64::from(u8::from(z > threshold)),
                    _ => 1.0,
                };
                grad_h.push(g);
                grad_z.push(g * slope);
            }
        }
        [grad_h, grad_z]
    }

    #[test]
    fn gradients_by_pre_activations_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, activation) in shapes().into_iter().flat_map(|shape| ACTIVATIONS.map(|a| (shape, a))) {
            let Shape { rows, d_out, features, .. } = shape;
            let z = pre_activations(&mut rng, shape);
            let least = least(shape, activation, &z);
            let (h, _, _) = activate(shape, activation, &z, &least);
            let given = Given {
                errors: uniform(&mut rng, rows * d_out),
                w_dec: uniform(&mut rng, features * d_out),
                h: h.iter().map(|&h| h as f32).collect(),
                least,
                z,
            };
            for (l1_weight, keep) in [(0.0, 0), (0.25, 1)] {
                let [want_grad_h, want] = grad_z_values(shape, activation, l1_weight, &given);
                let params =
                    Params { l1_weight: l1_weight as f32, keep, ..shape.params() }.activation(activation);
                for tile in tiles(&device) {
                    let mut z = given.z.clone();
                    let mut grad_h = vec![7.0f32; if keep == 1 { z.len() } else { 1 }];
                    let values = [
                        read(&given.errors),
                        read(&given.w_dec),
                        read(&given.h),
                        read(&given.least),
                        write(&mut z),
                        write(&mut grad_h),
                    ];
                    product(&device, &GRAD_Z_VALUES, tile, [rows, features], params, values);
                    let what = format!("{shape:?} {activation:?} {l1_weight} {tile:?}");
                    near(&what, &z, &want, d_out, 1.0);
                    if keep == 1 {
                        near(&what, &grad_h, &want_grad_h, d_out, 1.0);
                    } else {
                        assert_eq!(grad_h, [7.0], "{what}");
                    }
                }
            }
        }
    }

    /// The gradient; its way through Adam is [`crate::shaders::testing::adam`].
    fn grad_decoder_values(shape: Shape, h: &[f32], errors: &[f32]) -> Vec<f64> {
        let Shape { rows, d_out, features, .. } = shape;
        let mut gradient = vec![0.0; features * d_out];
        for row in 0..rows {
            for j in 0..features {
                for column in 0..d_out {
                    let [h, error] = [h[row * features + j], errors[row * d_out + column]].map(f64::from);
                    gradient[j * d_out + column] += h * error;
                }
            }
        }
        gradient
    }

    #[test]
    fn the_decoders_gradients_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let Shape { rows, d_out, features, .. } = shape;
            let h = uniform(&mut rng, rows * features);
            let errors = uniform(&mut rng, rows * d_out);
            let gradient = grad_decoder_values(shape, &h, &errors);
            for tile in tiles(&device) {
                let what = format!("{shape:?} {tile:?}");
                updates(&mut rng, shape.params(), &what, &gradient, rows, |params, poison, tensors| {
                    let [parameters, first, second] = tensors.each_mut().map(|tensor| write(tensor));
                    let values = [read(&h), read(&errors), read(poison), parameters, first, second];
                    product(&device, &GRAD_DECODER_VALUES, tile, [features, d_out], params, values);
                });
            }
        }
    }
}

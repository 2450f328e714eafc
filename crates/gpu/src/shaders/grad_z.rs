//! Gradients by the pre-activations.

use super::{Access, Kind, Product, Shader};

/// Reads errors, W_dec, pulls, signed counts and their sums; writes z in place and the gradient by the codes (if kept).
pub const GRAD_Z: Shader = Shader {
    name: "grad_z",
    parts: &[include_str!("grad_z.wgsl")],
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Read,
        Access::Write,
        Access::Write,
    ],
    product: Some(Product { kind: Kind::Values, left_along_k: true, right_along_k: true }),
};

#[cfg(test)]
mod tests {
    use super::GRAD_Z;
    use crate::shaders::Params;
    use crate::shaders::testing::{
        Shape, blocks, device, near, product, random, read, scaled, shapes, tiles, uniform, write,
    };
    use bae_model::{Activation, Estimator};
    use rand::RngExt;

    /// What the shader reads.
    struct Given {
        errors: Vec<f32>,
        w_dec: Vec<f32>,
        pull: Vec<f32>,
        signed_counts: Vec<i32>,
        sums: Vec<i32>,
        z: Vec<f32>,
    }

    impl Given {
        /// So that gradients are no larger than about 3, and pre-activations lie on both sides of the edges.
        fn random(shape: Shape) -> Self {
            let Shape { rows, d_sae, d_out, features, .. } = shape;
            let mut rng = random();
            let most = d_sae as i32;
            let mut z = scaled(&mut rng, rows * features, 4.0);
            // the edges themselves
            z.iter_mut().step_by(5).zip([0.0, 0.5, -0.5, 2.0, -2.0]).for_each(|(z, edge)| *z = edge);
            Self {
                errors: scaled(&mut rng, rows * d_out, 1.0 / (d_out as f32).sqrt()),
                w_dec: uniform(&mut rng, features * d_out),
                pull: scaled(&mut rng, d_sae, 0.5),
                signed_counts: (0..rows * features).map(|_| rng.random_range(-most..=most)).collect(),
                sums: (0..d_sae).map(|_| rng.random_range(-most..=most) * rows as i32).collect(),
                z,
            }
        }
    }

    /// The gradients by the codes, and by the pre-activations.
    fn grad_z(shape: Shape, params: &Params, estimator: Estimator, given: &Given) -> [Vec<f64>; 2] {
        let Shape { rows, d_out, first, features, .. } = shape;
        let [mut grad_h, mut grad_z] = [vec![], vec![]];
        for row in 0..rows {
            for column in 0..features {
                let at = row * features + column;
                let mut g = f64::from(given.pull[first + column]);
                for k in 0..d_out {
                    g +=
                        f64::from(given.errors[row * d_out + k]) * f64::from(given.w_dec[column * d_out + k]);
                }
                let pulls =
                    rows as i64 * i64::from(given.signed_counts[at]) - i64::from(given.sums[first + column]);
                g += f64::from(params.covariance_scale) * pulls as f64;
                grad_h.push(g);
                grad_z.push(estimate(estimator, g, f64::from(given.z[at])));
            }
        }
        [grad_h, grad_z]
    }

    fn estimate(estimator: Estimator, g: f64, z: f64) -> f64 {
        match estimator {
            Estimator::Identity => g,
            Estimator::Sigmoid { width } if z.abs() < 8.0 * width => {
                let logistic = 1.0 / (1.0 + (-z / width).exp());
                4.0 * g * logistic * (1.0 - logistic)
            }
            Estimator::Rectangle { width } if z.abs() < width => g,
            Estimator::Sigmoid { .. } | Estimator::Rectangle { .. } => 0.0,
            Estimator::ReferenceSigmoid => g * (1.0 - g),
            Estimator::Squarewave => std::f64::consts::PI * (std::f64::consts::TAU * g).cos(),
        }
    }

    /// With how much of an error in g each passes on. Widths are those of [`Given`]'s edges.
    const ESTIMATORS: [(Estimator, f64); 5] = [
        (Estimator::Identity, 1.0),
        (Estimator::Sigmoid { width: 0.25 }, 1.0),
        (Estimator::Rectangle { width: 0.5 }, 1.0),
        (Estimator::ReferenceSigmoid, 7.0),
        (Estimator::Squarewave, 20.0),
    ];

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        for (shape, (estimator, factor)) in
            blocks().into_iter().flat_map(|shape| ESTIMATORS.map(|estimator| (shape, estimator)))
        {
            let Shape { rows, d_sae, d_out, features, .. } = shape;
            let mut given = Given::random(shape);
            let penalty = 0.5 / (rows * d_sae) as f32;
            for (covariance_scale, keep) in [(penalty, 0), (penalty, 1), (0.0, 1)] {
                if covariance_scale == 0.0 {
                    given.pull.fill(0.0);
                }
                let params = Params { covariance_scale, keep, ..shape.params() };
                let params = params.activation(Activation::Binary(estimator));
                let [want_grad_h, want] = grad_z(shape, &params, estimator, &given);
                for tile in tiles(&device) {
                    let mut z = given.z.clone();
                    let mut grad_h = vec![7.0f32; if keep == 1 { z.len() } else { 1 }];
                    let values = [
                        read(&given.errors),
                        read(&given.w_dec),
                        read(&given.pull),
                        read(&given.signed_counts),
                        read(&given.sums),
                        write(&mut z),
                        write(&mut grad_h),
                    ];
                    product(&device, &GRAD_Z, tile, [rows, features], params, values);
                    let what = format!("{shape:?} {estimator:?} {covariance_scale} {tile:?}");
                    near(&what, &z, &want, d_out, factor);
                    if keep == 1 {
                        near(&what, &grad_h, &want_grad_h, d_out, 1.0);
                    } else {
                        assert_eq!(grad_h, [7.0], "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn an_objective_that_is_undefined_shows() {
        let Some(device) = device() else { return };
        for shape in shapes() {
            let given = Given::random(shape);
            let params = Params { undefined: f32::NAN.to_bits(), keep: 1, ..shape.params() };
            for tile in tiles(&device) {
                let (mut z, mut grad_h) = (given.z.clone(), given.z.clone());
                let values = [
                    read(&given.errors),
                    read(&given.w_dec),
                    read(&given.pull),
                    read(&given.signed_counts),
                    read(&given.sums),
                    write(&mut z),
                    write(&mut grad_h),
                ];
                product(&device, &GRAD_Z, tile, [shape.rows, shape.features], params, values);
                assert!(z.iter().chain(&grad_h).all(|g| g.is_nan()), "{shape:?} {tile:?}");
            }
        }
    }
}

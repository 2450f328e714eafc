//! The step function, packed by rows.

use super::{Access, Shader};

/// Reads z; writes codes and the first entry that is not a number.
pub const BINARIZE: Shader = Shader {
    name: "binarize",
    parts: &[include_str!("binarize.wgsl")],
    access: &[Access::Read, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::BINARIZE;
    use crate::device::Device;
    use crate::shaders::testing::{Shape, device, random, read, run, scaled, shapes, write};
    use crate::shaders::{NONE, Params};
    use bae_model::{Activation, Estimator};

    fn binarize(shape: Shape, squarewave: bool, z: &[f32], codes: &mut [u32], poison: &mut u32) {
        let Shape { rows, d_sae, first, features, .. } = shape;
        for row in 0..rows {
            for panel in 0..features.div_ceil(32) {
                codes[(first / 32 + panel) * rows + row] = 0;
            }
            for j in 0..features {
                let (value, feature) = (z[row * features + j], first + j);
                if value.is_nan() || (squarewave && value.is_infinite()) {
                    *poison = (*poison).min((row * d_sae + feature) as u32);
                }
                let on = if squarewave { value.rem_euclid(2.0) < 1.0 } else { value > 0.0 };
                codes[feature / 32 * rows + row] |= u32::from(on) << (feature % 32);
            }
        }
    }

    fn params(shape: Shape, squarewave: bool) -> Params {
        let estimator = if squarewave { Estimator::Squarewave } else { Estimator::Identity };
        shape.params().activation(Activation::Binary(estimator))
    }

    fn on_device(
        device: &Device,
        shape: Shape,
        squarewave: bool,
        z: &[f32],
        codes: &mut [u32],
        poison: &mut [u32; 1],
    ) {
        let groups = [shape.rows.div_ceil(64), shape.features.div_ceil(32), 1];
        run(device, &BINARIZE, groups, params(shape, squarewave), [read(z), write(codes), write(poison)]);
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, squarewave) in shapes().into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
            for split in shape.splits() {
                let mut codes = vec![u32::MAX; shape.panels() * shape.rows];
                let mut want = codes.clone();
                let (mut poison, mut want_poison) = ([NONE], NONE);
                for block in split {
                    let mut z = scaled(&mut rng, block.rows * block.features, 4.0);
                    // edges of both steps, also as rounding sees them, and numbers without a fraction
                    let edges = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 1e-9, -1e-9, 1e30, -16_777_215.0];
                    z.iter_mut().step_by(3).zip(edges).for_each(|(z, edge)| *z = edge);
                    binarize(block, squarewave, &z, &mut want, &mut want_poison);
                    on_device(&device, block, squarewave, &z, &mut codes, &mut poison);
                }
                assert_eq!(codes, want, "{shape:?}, squarewave {squarewave}");
                assert_eq!((poison[0], want_poison), (NONE, NONE), "{shape:?}, squarewave {squarewave}");
            }
        }
    }

    #[test]
    fn the_first_entry_that_is_not_a_number_is_noted() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, squarewave) in shapes().into_iter().flat_map(|shape| [(shape, false), (shape, true)]) {
            for split in shape.splits() {
                let mut codes = vec![0; shape.panels() * shape.rows];
                let (mut poison, mut want) = ([NONE], NONE);
                for block in split {
                    let mut z = scaled(&mut rng, block.rows * block.features, 4.0);
                    let last = z.len() - 1;
                    z[last / 3] = f32::INFINITY;
                    z[last / 2] = f32::NAN;
                    z[last] = -f32::NAN;
                    binarize(block, squarewave, &z, &mut codes.clone(), &mut want);
                    on_device(&device, block, squarewave, &z, &mut codes, &mut poison);
                }
                assert_ne!(want, NONE);
                assert_eq!(poison[0], want, "{shape:?}, squarewave {squarewave}");
            }
        }
    }
}

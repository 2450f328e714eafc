//! Softmax cross-entropy and its gradient.

use super::{Access, Shader};

/// Reads y and labels; writes errors, the gradient by the outputs (if kept), and cross-entropies with hits.
pub const CROSS_ENTROPY: Shader = Shader {
    name: "cross_entropy",
    parts: &[include_str!("cross_entropy.wgsl"), include_str!("output_slope.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::super::errors::tests::output_slope;
    use super::CROSS_ENTROPY;
    use crate::shaders::Params;
    use crate::shaders::testing::{OUTPUTS, Shape, device, near, random, read, run, scaled, shapes, write};
    use bae_model::OutputActivation;
    use rand::RngExt;

    /// The errors, the gradients by the outputs, the cross-entropies, and the hits.
    fn cross_entropy(shape: Shape, activation: OutputActivation, y: &[f32], labels: &[u32]) -> [Vec<f64>; 4] {
        let Shape { rows, d_out, .. } = shape;
        let [mut errors, mut grad_y, mut entropies, mut hits] = [const { vec![] }; 4];
        for (row, &label) in labels.iter().enumerate() {
            let y: Vec<_> = y[row * d_out..][..d_out].iter().map(|&y| f64::from(y)).collect();
            let mut place = 0;
            for at in 0..d_out {
                if y[at] > y[place] {
                    place = at;
                }
            }
            let sum: f64 = y.iter().map(|at| (at - y[place]).exp()).sum();
            for at in 0..d_out {
                let share = (y[at] - y[place]).exp() / sum;
                let gradient = (share - f64::from(u8::from(at == label as usize))) / rows as f64;
                grad_y.push(gradient);
                errors.push(gradient * output_slope(activation, y[at]));
            }
            entropies.push(sum.ln() + y[place] - y[label as usize]);
            hits.push(f64::from(u8::from(place == label as usize)));
        }
        [errors, grad_y, entropies, hits]
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, activation) in
            shapes().into_iter().flat_map(|shape| OUTPUTS.map(|output| (shape, output)))
        {
            let Shape { rows, d_out, .. } = shape;
            // halves: many are the largest of their row, of which the first counts
            let mut y: Vec<f32> =
                scaled(&mut rng, rows * d_out, 6.0).iter().map(|y| (y * 2.0).round() / 2.0).collect();
            y.iter_mut().skip(3 * d_out).for_each(|y| *y *= 0.97);
            let mut labels: Vec<u32> = (0..rows).map(|_| rng.random_range(0..d_out as u32)).collect();
            for (row, label) in labels.iter_mut().enumerate().step_by(2) {
                let y = &y[row * d_out..][..d_out];
                let largest = y.iter().fold(f32::MIN, |a, &b| a.max(b));
                *label = y.iter().position(|&y| y == largest).expect("one of them") as u32;
            }
            let [want, want_grad_y, entropies, hits] = cross_entropy(shape, activation, &y, &labels);
            for keep in [0, 1] {
                let mut errors = vec![f32::NAN; rows * d_out];
                let mut grad_y = vec![7.0f32; if keep == 1 { rows * d_out } else { 1 }];
                let mut partials = vec![f32::NAN; 2 * rows];
                let values =
                    [read(&y), read(&labels), write(&mut errors), write(&mut grad_y), write(&mut partials)];
                let params = Params { keep, ..shape.params().output(activation) };
                run(&device, &CROSS_ENTROPY, [rows, 1, 1], params, values);
                let what = format!("{shape:?} {activation:?}");
                // a tanh's slope is as large as the square of what comes in
                let term = 36.0 / rows as f64;
                near(&what, &errors, &want, d_out, term);
                near(&what, &partials[..rows], &entropies, d_out, 1.0);
                near(&what, &partials[rows..], &hits, 0, 0.0);
                if keep == 1 {
                    near(&what, &grad_y, &want_grad_y, d_out, 1.0 / rows as f64);
                } else {
                    assert_eq!(grad_y, [7.0], "{what}");
                }
            }
        }
    }
}

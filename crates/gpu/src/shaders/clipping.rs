//! Clipping by the norm of all gradients, which lie in memory for it: squares of each tensor, their total, and the step.

use super::{ADAM, Access, Shader};

/// Workgroups that share a tensor's `count` values: at most as many as fill a device, each of 256 at a time.
pub fn sharing(count: usize) -> usize {
    count.div_ceil(256).clamp(1, PARTIALS)
}

/// Partial sums of a tensor, at most.
pub const PARTIALS: usize = 2048;

/// Reads a gradient; writes sums of squares.
pub const GRADIENT_SQUARES: Shader = Shader {
    name: "gradient_squares",
    parts: &[include_str!("gradient_squares.wgsl")],
    access: &[Access::Read, Access::Write],
    product: None,
};

/// Reads sums of squares; adds them to the results, and writes poison if they are not finite.
pub const GRADIENT_TOTAL: Shader = Shader {
    name: "gradient_total",
    parts: &[include_str!("gradient_total.wgsl")],
    access: &[Access::Read, Access::Write, Access::Write],
    product: None,
};

/// Reads a gradient, results and poison; writes parameters and their moments.
pub const CLIPPED_ADAM: Shader = Shader {
    name: "clipped_adam",
    parts: &[include_str!("clipped_adam.wgsl"), ADAM],
    access: &[Access::Read, Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::{CLIPPED_ADAM, GRADIENT_SQUARES, GRADIENT_TOTAL, PARTIALS, sharing};
    use crate::shaders::testing::{adam, device, near, random, read, run, scaled, uniform, write};
    use crate::shaders::{NO_NORM, NONE, Params, results};

    /// Less than a workgroup, some of them, and more than one round of all there are.
    const COUNTS: [usize; 6] = [1, 255, 256, 257, 100_000, 256 * PARTIALS + 1000];

    fn counting(count: usize, partials: usize) -> Params {
        Params { count: count as u32, partials: partials as u32, ..Params::new(3, 3, 3, 3) }
    }

    /// Sums over workgroups that take turns of 256.
    fn gradient_squares(gradient: &[f32], groups: usize) -> Vec<f64> {
        let mut sums = vec![0.0; groups];
        for (at, &g) in gradient.iter().enumerate() {
            sums[at / 256 % groups] += f64::from(g) * f64::from(g);
        }
        sums
    }

    #[test]
    fn squares_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for count in COUNTS {
            let gradient = uniform(&mut rng, count);
            let groups = sharing(count);
            let want = gradient_squares(&gradient, groups);
            let mut got = vec![f32::NAN; groups];
            let values = [read(&gradient), write(&mut got)];
            run(&device, &GRADIENT_SQUARES, [groups, 1, 1], counting(count, groups), values);
            near(&format!("{count}"), &got, &want, 16, 0.0);
        }
    }

    #[test]
    fn totals_equal_their_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (partials, bad) in [1, 255, 256, 257, PARTIALS]
            .into_iter()
            .flat_map(|partials| [None, Some(f32::NAN), Some(f32::INFINITY)].map(|bad| (partials, bad)))
        {
            for poison in [NONE, 5] {
                let mut sums: Vec<f32> = uniform(&mut rng, partials).iter().map(|v| v.abs()).collect();
                if let Some(bad) = bad {
                    sums[partials / 2] = bad;
                }
                let mut words = [9u32; results::COUNT];
                words[results::GRADIENT] = 0.75f32.to_bits();
                let mut after = [poison];
                let values = [read(&sums), write(&mut words), write(&mut after)];
                run(&device, &GRADIENT_TOTAL, [1, 1, 1], counting(0, partials), values);
                let got = f32::from_bits(std::mem::replace(&mut words[results::GRADIENT], 9));
                let what = format!("{partials} {bad:?} {poison}");
                if bad.is_none() {
                    let want = 0.75 + sums.iter().map(|&v| f64::from(v)).sum::<f64>();
                    near(&what, &[got], &[want], 16, 0.0);
                }
                assert_eq!(words, [9; results::COUNT], "{what}");
                let noted = if bad.is_some() && poison == NONE { NO_NORM } else { poison };
                assert_eq!(after, [noted], "{what}");
            }
        }
    }

    #[test]
    fn adam_equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for count in COUNTS {
            for (norm, clip_norm, poison) in [
                (4.0f32, 0.5f64, NONE),
                (4.0, 9.0, NONE),
                (0.0, 0.5, NONE),
                (4.0, 0.5, 5),
                (4.0, 0.5, NO_NORM),
            ] {
                let rule = bae_model::Adam { weight_decay: 0.1, clip_norm, ..bae_model::Adam::new(0.1) };
                let params = counting(count, 0).adam(&rule, 3);
                let gradient = scaled(&mut rng, count, 0.5);
                let second = uniform(&mut rng, count).iter().map(|value| value.abs() + 0.01).collect();
                let before = [uniform(&mut rng, count), uniform(&mut rng, count), second];
                let mut words = [0u32; results::COUNT];
                words[results::GRADIENT] = (norm * norm).to_bits();
                let mut after = before.clone();
                let [parameters, first, second] = after.each_mut().map(|tensor| write(tensor));
                let values = [
                    read(&gradient),
                    read(&words),
                    read(std::slice::from_ref(&poison)),
                    parameters,
                    first,
                    second,
                ];
                run(&device, &CLIPPED_ADAM, [sharing(count), 1, 1], params, values);
                let scale = (clip_norm / (f64::from(norm) + 1e-6)).min(1.0);
                let gradient: Vec<f64> = gradient.iter().map(|&g| scale * f64::from(g)).collect();
                let want = adam(&params, poison, &gradient, &before);
                for (after, want) in after.iter().zip(&want) {
                    near(&format!("{count} {norm} {clip_norm} {poison}"), after, want, 1, 1.0);
                }
                if poison != NONE {
                    assert_eq!(after, before);
                }
            }
        }
    }
}

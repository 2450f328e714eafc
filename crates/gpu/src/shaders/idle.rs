//! Steps since each feature was last on.

use super::{Access, Shader};

/// Of codes that are bits: reads their ones and poison.
pub const IDLE: Shader = Shader {
    name: "idle",
    parts: &[
        include_str!("idle.wgsl"),
        "@group(0) @binding(1) var<storage, read> ones: array<u32>;
fn on(j: u32) -> bool { return ones[j] > 0u; }",
    ],
    access: &[Access::Read, Access::Read, Access::Write],
    product: None,
};

/// Of codes that are real values, `[rows, d_sae]`: reads them and poison.
pub const IDLE_VALUES: Shader = Shader {
    name: "idle_values",
    parts: &[
        include_str!("idle.wgsl"),
        "@group(0) @binding(1) var<storage, read> h: array<f32>;
fn on(j: u32) -> bool {
  for (var row = 0u; row < params.rows; row++) {
    if (h[row * params.d_sae + j] > 0.0) { return true; }
  }
  return false;
}",
    ],
    access: &[Access::Read, Access::Read, Access::Write],
    product: None,
};

#[cfg(test)]
mod tests {
    use super::{IDLE, IDLE_VALUES};
    use crate::shaders::NONE;
    use crate::shaders::testing::{device, random, read, run, shapes, uniform, write};
    use rand::RngExt;

    fn idle(on: &[bool], poison: u32, before: &[u32]) -> Vec<u32> {
        let count = |(&on, &idle): (&bool, &u32)| if on { 0 } else { idle.saturating_add(1) };
        if poison == NONE { on.iter().zip(before).map(count).collect() } else { before.to_vec() }
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for (shape, poison) in shapes().into_iter().flat_map(|shape| [NONE, 5].map(|poison| (shape, poison)))
        {
            let (rows, d_sae) = (shape.rows, shape.d_sae);
            let mut before: Vec<u32> = (0..d_sae).map(|_| rng.random_range(0..9)).collect();
            before.iter_mut().step_by(5).for_each(|idle| *idle = u32::MAX);
            let groups = [d_sae.div_ceil(64), 1, 1];

            let mut ones: Vec<u32> = (0..32 * shape.panels()).map(|_| rng.random_range(0..3)).collect();
            ones[0] = 0;
            let on: Vec<bool> = ones[..d_sae].iter().map(|&ones| ones > 0).collect();
            let mut got = before.clone();
            let values = [read(&ones), read(std::slice::from_ref(&poison)), write(&mut got)];
            run(&device, &IDLE, groups, shape.params(), values);
            assert_eq!(got, idle(&on, poison, &before), "{shape:?} {poison}");

            // few are above 0, some of them in the last row only
            let mut h: Vec<f32> = uniform(&mut rng, rows * d_sae).iter().map(|h| -h.abs()).collect();
            h.iter_mut().step_by(7).for_each(|h| *h = 0.0);
            h[(rows - 1) * d_sae..].iter_mut().step_by(3).for_each(|h| *h = 0.5);
            let on: Vec<bool> = (0..d_sae).map(|j| (0..rows).any(|row| h[row * d_sae + j] > 0.0)).collect();
            let mut got = before.clone();
            let values = [read(&h), read(std::slice::from_ref(&poison)), write(&mut got)];
            run(&device, &IDLE_VALUES, groups, shape.params(), values);
            assert_eq!(got, idle(&on, poison, &before), "{shape:?} {poison}");
        }
    }
}

//! Codes of the features that are live.

use super::{Access, Shader};

/// Reads codes and live features; writes the codes that remain and adds to the ones of each row.
pub const LIVE_CODES: Shader = Shader {
    name: "live_codes",
    parts: &[include_str!("live_codes.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
pub(super) mod tests {
    use super::LIVE_CODES;
    use crate::shaders::testing::{Shape, bit, code, device, random, random_codes, read, run, shapes, write};
    use rand::RngExt;

    pub fn live_codes(shape: Shape, codes: &[u32], live: &[u32]) -> [Vec<u32>; 2] {
        let Shape { rows, d_sae, .. } = shape;
        let mut live_codes = vec![0; codes.len()];
        let mut live_ones = vec![0; rows];
        for row in 0..rows {
            for feature in 0..d_sae {
                if code(codes, rows, row, feature) && bit(live, feature / 32, feature) {
                    live_codes[feature / 32 * rows + row] |= 1 << (feature % 32);
                    live_ones[row] += 1;
                }
            }
        }
        [live_codes, live_ones]
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let codes = random_codes(&mut rng, shape);
            let live: Vec<u32> = (0..shape.panels()).map(|_| rng.random()).collect();
            let [want, want_ones] = live_codes(shape, &codes, &live);
            let mut got = vec![u32::MAX; codes.len()];
            let mut ones = vec![0u32; shape.rows];
            let groups = [shape.rows.div_ceil(64), shape.panels(), 1];
            let values = [read(&codes), read(&live), write(&mut got), write(&mut ones)];
            run(&device, &LIVE_CODES, groups, shape.params(), values);
            assert_eq!(got, want, "{shape:?}");
            assert_eq!(ones, want_ones, "{shape:?}");
        }
    }
}

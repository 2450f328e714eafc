//! Codes by feature, and their ones.

use super::{Access, Shader};

/// Reads codes; writes them by feature and adds to the ones of each.
pub const TURN: Shader = Shader {
    name: "turn",
    parts: &[include_str!("turn.wgsl")],
    access: &[Access::Read, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
pub(super) mod tests {
    use super::TURN;
    use crate::shaders::testing::{Shape, code, device, random, random_codes, read, run, shapes, write};

    pub fn turn(shape: Shape, codes: &[u32]) -> [Vec<u32>; 2] {
        let Shape { rows, d_sae, .. } = shape;
        let mut columns = vec![0; 32 * shape.panels() * shape.row_words()];
        let mut ones = vec![0; 32 * shape.panels()];
        for feature in 0..d_sae {
            for row in 0..rows {
                if code(codes, rows, row, feature) {
                    columns[feature * shape.row_words() + row / 32] |= 1 << (row % 32);
                    ones[feature] += 1;
                }
            }
        }
        [columns, ones]
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let codes = random_codes(&mut rng, shape);
            let [want, want_ones] = turn(shape, &codes);
            let mut columns = vec![u32::MAX; want.len()];
            let mut ones = vec![0u32; want_ones.len()];
            let groups = [shape.panels(), shape.row_words().div_ceil(4), 1];
            let values = [read(&codes), write(&mut columns), write(&mut ones)];
            run(&device, &TURN, groups, shape.params(), values);
            assert_eq!(columns, want, "{shape:?}");
            assert_eq!(ones, want_ones, "{shape:?}");
        }
    }
}

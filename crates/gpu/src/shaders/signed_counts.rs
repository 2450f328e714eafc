//! How the covariances pull at each code.

use super::{Access, Kind, Product, Shader};

/// Reads live codes, their ones, live features, planes and tiles that have zeros; writes signed counts.
pub const SIGNED_COUNTS: Shader = Shader {
    name: "signed_counts",
    parts: &[include_str!("signed_counts.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Write],
    product: Some(Product { kind: Kind::WeightedBits, left_along_k: false, right_along_k: true }),
};

#[cfg(test)]
mod tests {
    use super::super::entropy::tests::entropy;
    use super::super::live_codes::tests::live_codes;
    use super::super::signs::tests::signs;
    use super::super::turn::tests::turn;
    use super::SIGNED_COUNTS;
    use crate::memory::tables;
    use crate::shaders::testing::{
        Shape, bit, code, device, product, random, random_codes, read, shapes, tiles, write,
    };
    use rand::RngExt;

    fn signed_counts(shape: Shape, live_codes: &[u32], live: &[u32], planes: &[u32]) -> Vec<i32> {
        let Shape { rows, d_sae, first, features, .. } = shape;
        let plane_words = shape.params().plane_words as usize;
        let mut counts = vec![0; rows * features];
        for row in 0..rows {
            for column in 0..features {
                let j = first + column;
                if !bit(live, j / 32, j) {
                    continue;
                }
                for i in (0..d_sae).filter(|&i| i != j && code(live_codes, rows, row, i)) {
                    let word = column * plane_words + i / 32;
                    let positive = bit(planes, word, i);
                    let zero = bit(planes, features * plane_words + word, i);
                    counts[row * features + column] += if positive { 1 } else { i32::from(zero) - 1 };
                }
            }
        }
        counts
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for shape in shapes() {
            let codes = random_codes(&mut rng, shape);
            let [turned, ones] = turn(shape, &codes);
            let (_, live, _) = entropy(shape, &shape.params(), &ones, &tables(shape.rows));
            let [live_codes, live_ones] = live_codes(shape, &codes, &live);
            let blocks = shape.splits().concat();
            for (block, tile) in
                blocks.iter().flat_map(|block| tiles(&device).map(move |tile| (*block, tile)))
            {
                let signs = signs(block, tile, &turned, &ones, &mut vec![0; ones.len()]);
                let want = signed_counts(block, &live_codes, &live, &signs.planes);
                let mut got = vec![i32::MAX; want.len()];
                let values = [
                    read(&live_codes),
                    read(&live_ones),
                    read(&live),
                    read(&signs.planes),
                    read(&signs.zeros),
                    write(&mut got),
                ];
                product(&device, &SIGNED_COUNTS, tile, [block.rows, block.features], block.params(), values);
                assert_eq!(got, want, "{block:?} {tile:?}");
            }
        }
    }

    /// Signs made up so that whole steps of the product have no zeros for some features, and others have.
    #[test]
    fn steps_without_zeros_are_left_out() {
        let Some(device) = device() else { return };
        let mut rng = random();
        let shape = shapes()[1];
        let Shape { rows, d_sae, features, .. } = shape;
        let live: Vec<u32> = (0..shape.panels()).map(|_| rng.random()).collect();
        let [live_codes, live_ones] = live_codes(shape, &random_codes(&mut rng, shape), &live);
        for tile in tiles(&device) {
            let (side, plane_words) = (tile.side() as usize, shape.params().plane_words as usize);
            let across = d_sae.div_ceil(side);
            let mut zeros = vec![0u32; across * across];
            let mut planes: Vec<u32> = (0..2 * features * plane_words).map(|_| rng.random()).collect();
            for j in 0..features {
                for panel in 0..plane_words {
                    let positive = planes[j * plane_words + panel];
                    let zero = &mut planes[(features + j) * plane_words + panel];
                    let has_zeros = panel < shape.panels() && (j / side + panel / 16) % 3 == 0;
                    *zero &= if has_zeros { !positive } else { 0 };
                    if has_zeros {
                        zeros[j / side * across + panel * 32 / side] = 1;
                    }
                }
                // the diagonal counts as positive
                if bit(&live, j / 32, j) {
                    planes[j * plane_words + j / 32] |= 1 << (j % 32);
                    planes[(features + j) * plane_words + j / 32] &= !(1 << (j % 32));
                }
            }
            let want = signed_counts(shape, &live_codes, &live, &planes);
            let mut got = vec![i32::MAX; want.len()];
            let values = [
                read(&live_codes),
                read(&live_ones),
                read(&live),
                read(&planes),
                read(&zeros),
                write(&mut got),
            ];
            product(&device, &SIGNED_COUNTS, tile, [rows, features], shape.params(), values);
            assert_eq!(got, want, "{tile:?}");
        }
    }
}

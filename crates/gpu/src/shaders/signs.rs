//! Signs and sizes of all covariances.

use super::{Access, Kind, Product, Shader, WIDE_SUM};

/// Reads codes by feature and ones; writes planes, tiles that have zeros, sums and partial sums of sizes.
pub const SIGNS: Shader = Shader {
    name: "signs",
    parts: &[include_str!("signs.wgsl")],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write, Access::Write],
    product: Some(Product { kind: Kind::Bits, left_along_k: true, right_along_k: true }),
};

/// Adds up the partial sums of [`SIGNS`].
pub const ABSOLUTE_TOTAL: Shader = Shader {
    name: "absolute_total",
    parts: &[include_str!("absolute_total.wgsl"), WIDE_SUM],
    access: &[Access::Read, Access::Write],
    product: None,
};

#[cfg(test)]
pub(super) mod tests {
    use super::super::turn::tests::turn;
    use super::{ABSOLUTE_TOTAL, SIGNS};
    use crate::shaders::testing::{
        Shape, bit, device, product, random, random_codes, read, run, shapes, tiles, write,
    };
    use crate::shaders::{Params, Tile, results};
    use rand::RngExt;

    /// What the shader writes for a block: planes, tiles that have zeros, and partial sums of sizes as halves of 16 bits.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Signs {
        pub planes: Vec<u32>,
        pub zeros: Vec<u32>,
        pub partial: Vec<u32>,
    }

    impl Signs {
        /// Memory for a block, all of it `value`.
        fn filled(shape: Shape, tile: Tile, value: u32) -> Self {
            let [down, across] = grid(shape, tile);
            Self {
                planes: vec![value; 2 * shape.features * shape.params().plane_words as usize],
                // the shader only ever sets them
                zeros: vec![0; down * across],
                partial: vec![value; 2 * down * across],
            }
        }
    }

    fn grid(shape: Shape, tile: Tile) -> [usize; 2] {
        [shape.features, shape.d_sae].map(|size| size.div_ceil(tile.side() as usize))
    }

    /// Besides, adds to the sums of the block's features.
    pub fn signs(shape: Shape, tile: Tile, turned: &[u32], ones: &[u32], sums: &mut [i32]) -> Signs {
        let Shape { rows, d_sae, first, features, .. } = shape;
        let (side, plane_words) = (tile.side() as usize, shape.params().plane_words as usize);
        let across = grid(shape, tile)[1];
        let mut signs = Signs::filled(shape, tile, 0);
        let live = |feature: usize| ones[feature] > 0 && (ones[feature] as usize) < rows;
        for row in 0..features {
            let i = first + row;
            for j in 0..d_sae {
                let mut both = 0;
                for at in 0..rows {
                    let on = |feature: usize| bit(turned, feature * shape.row_words() + at / 32, at);
                    both += i64::from(on(i) && on(j));
                }
                let d = rows as i64 * both - i64::from(ones[i]) * i64::from(ones[j]);
                let word = row * plane_words + j / 32;
                signs.planes[word] |= u32::from(d > 0) << (j % 32);
                if i == j {
                    continue;
                }
                let group = row / side * across + j / side;
                if d == 0 && live(i) && live(j) {
                    signs.planes[features * plane_words + word] |= 1 << (j % 32);
                    signs.zeros[group] = 1;
                }
                sums[i] += (d.signum() * i64::from(ones[j])) as i32;
                // a block of all features counts sizes on and above the diagonal
                let (row, column) = (row / side, j / side);
                let below = features == d_sae && column < row;
                let group = if below { column * across + row } else { group };
                signs.partial[2 * group] += d.unsigned_abs() as u32 & 0xffff;
                signs.partial[2 * group + 1] += (d.unsigned_abs() >> 16) as u32;
            }
        }
        signs
    }

    /// The words that the shader writes of the planes: not those that make a plane as long as a product needs.
    fn planes(shape: Shape, planes: &[u32]) -> Vec<&[u32]> {
        planes.chunks(shape.params().plane_words as usize).map(|plane| &plane[..shape.panels()]).collect()
    }

    #[test]
    fn equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        let mut with_zeros = 0;
        for shape in shapes() {
            let codes = random_codes(&mut rng, shape);
            let [turned, ones] = turn(shape, &codes);
            let splits = shape.splits();
            for (split, tile) in splits.iter().flat_map(|split| tiles(&device).map(move |tile| (split, tile)))
            {
                let (mut sums, mut want_sums) = (vec![0i32; ones.len()], vec![0; ones.len()]);
                for &block in split {
                    let want = signs(block, tile, &turned, &ones, &mut want_sums);
                    let mut got = Signs::filled(block, tile, u32::MAX);
                    let values = [
                        read(&turned),
                        read(&ones),
                        write(&mut got.planes),
                        write(&mut got.zeros),
                        write(&mut sums),
                        write(&mut got.partial),
                    ];
                    product(&device, &SIGNS, tile, [block.features, block.d_sae], block.params(), values);
                    assert_eq!(planes(block, &got.planes), planes(block, &want.planes), "{block:?} {tile:?}");
                    assert_eq!(got.zeros, want.zeros, "{block:?} {tile:?}");
                    assert_eq!(got.partial, want.partial, "{block:?} {tile:?}");
                    with_zeros += want.zeros.iter().sum::<u32>();
                }
                assert_eq!(sums, want_sums, "{shape:?} {tile:?}");
            }
        }
        assert_ne!(with_zeros, 0);
    }

    fn absolute_total(partial: &[u32], results: &mut [u32]) {
        let mut total =
            u64::from(results[results::ABSOLUTE_LOW + 1]) << 32 | u64::from(results[results::ABSOLUTE_LOW]);
        for halves in partial.chunks(2) {
            total += u64::from(halves[0]) + (u64::from(halves[1]) << 16);
        }
        results[results::ABSOLUTE_LOW] = total as u32;
        results[results::ABSOLUTE_LOW + 1] = (total >> 32) as u32;
    }

    #[test]
    fn the_total_equals_its_twin() {
        let Some(device) = device() else { return };
        let mut rng = random();
        for count in [1, 31, 32, 33, 257, 1000] {
            let partial: Vec<u32> = (0..2 * count).map(|_| rng.random()).collect();
            let mut results: Vec<u32> = (0..results::COUNT).map(|_| rng.random::<u32>() | 1 << 31).collect();
            // what the blocks before left is small enough that the sum has 64 bits
            results[results::ABSOLUTE_LOW + 1] &= 0xffff;
            let mut want = results.clone();
            absolute_total(&partial, &mut want);
            let params = Params { partials: count, ..Params::default() };
            run(&device, &ABSOLUTE_TOTAL, [1, 1, 1], params, [read(&partial), write(&mut results)]);
            assert_eq!(results, want, "{count}");
        }
    }
}

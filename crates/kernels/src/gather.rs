//! Products of codes and f32 matrices: adding the rows whose bit differs from what it mostly is.
//!
//! With M the features that are on in most samples and d = h XOR M, h W = Σ_{j ∈ M} W_j + Σ_{j: d_j = 1} ±W_j, the
//! sign being − where j ∈ M. So a feature that is always on costs no more than one that never is, and at most half of
//! all bits are added. Each sum is one chain in ascending order, the same as a product with d's −1, 0 and 1.

use crate::Isa;
use crate::batch::{BatchCodes, PANEL};
use crate::columns::{ColumnPanels, WIDTH};
use crate::isa::per_isa;
use crate::lanes::Simd;
use rayon::prelude::*;
use std::ops::Range;

/// Features whose decoder rows are kept at hand while all samples add them ...
const BLOCK: usize = 256;
/// ... and where a sample adds many of them, so that they stay in the first-level cache. Changes no bit.
const SMALL_BLOCK: usize = 64;
/// Samples whose errors are kept at hand where few are added: a panel of them stays in the second-level cache.
const LARGE_BLOCK: usize = 512;
/// Share of differing bits from which on the small blocks are faster (docs/performance.md).
const SMALL_FROM: f64 = 0.2;

/// out = h W + bias: W `[features][columns]`, bias `[columns]`, out `[samples, columns]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn decode(isa: Isa, codes: &BatchCodes, weights: &[f32], bias: &[f32], out: &mut ColumnPanels) {
    let columns = bias.len();
    assert_eq!(weights.len(), codes.features() * columns, "decoder rows of all features");
    out.resize(codes.samples(), columns);
    let blocks = blocks(codes);
    out.panels_mut().for_each_init(
        || vec![[0f32; WIDTH]; BLOCK],
        |rows, (first, out)| {
            let here = first..columns.min(first + WIDTH);
            let row = |feature: usize| &weights[feature * columns..][here.clone()];
            let mut base = [0f32; WIDTH];
            base[..here.len()].copy_from_slice(&bias[here.clone()]);
            for feature in (0..codes.features()).filter(|&feature| codes.mostly_on(feature)) {
                base.iter_mut().zip(row(feature)).for_each(|(base, &value)| *base += value);
            }
            out.fill(base);
            for block in &blocks {
                // rows that are added once need no copy at hand
                if block.list.len() < block.features.len() {
                    add_few(codes, block, weights, here.clone(), out);
                    continue;
                }
                for (to, feature) in rows.iter_mut().zip(block.features.clone()) {
                    let sign = if codes.mostly_on(feature) { -1.0 } else { 1.0 };
                    to.iter_mut().zip(row(feature)).for_each(|(to, &value)| *to = sign * value);
                }
                let rows = rows.first_chunk().expect("rows of a block");
                add_block(isa, block, rows, out);
            }
        },
    );
}

/// The differing bits of a block of features, sample by sample.
struct Block {
    features: Range<usize>,
    /// Where the list of each sample ends.
    ends: Vec<u32>,
    /// Features, from the block's first.
    list: Vec<u8>,
}

fn blocks(codes: &BatchCodes) -> Vec<Block> {
    let all = (codes.samples() * codes.features()).max(1);
    let size = if codes.differing_bits() as f64 >= SMALL_FROM * all as f64 { SMALL_BLOCK } else { BLOCK };
    let block = |at: usize| {
        let features = at * size..codes.features().min((at + 1) * size);
        let panels = features.start / PANEL..features.end.div_ceil(PANEL);
        let bits = features.clone().map(|feature| codes.minority(feature) as usize).sum();
        let (mut ends, mut list) = (Vec::with_capacity(codes.samples()), Vec::with_capacity(bits));
        for sample in 0..codes.samples() {
            for (at, panel) in panels.clone().enumerate() {
                let mut differs = codes.panel(panel)[sample] ^ codes.majority(panel);
                while differs != 0 {
                    list.push((at * PANEL) as u8 + differs.trailing_zeros() as u8);
                    differs &= differs - 1;
                }
            }
            ends.push(list.len() as u32);
        }
        Block { features, ends, list }
    };
    let all: Vec<Block> = (0..codes.features().div_ceil(size)).into_par_iter().map(block).collect();
    all.into_iter().filter(|block| !block.list.is_empty()).collect()
}

/// A block in which there is less to add than there are rows: straight from the decoder, by the same additions.
fn add_few(codes: &BatchCodes, block: &Block, weights: &[f32], here: Range<usize>, out: &mut [[f32; WIDTH]]) {
    let columns = weights.len() / codes.features();
    let mut start = 0;
    for (out, &end) in out.iter_mut().zip(&block.ends) {
        for &at in &block.list[start..end as usize] {
            let feature = block.features.start + at as usize;
            let row = &weights[feature * columns..][here.clone()];
            if codes.mostly_on(feature) {
                out.iter_mut().zip(row).for_each(|(out, &value)| *out -= value);
            } else {
                out.iter_mut().zip(row).for_each(|(out, &value)| *out += value);
            }
        }
        start = end as usize;
    }
}

per_isa! {
    fn add_block[simd: S](block: &Block, rows: &[[f32; WIDTH]; BLOCK], out: &mut [[f32; WIDTH]]) {
        let mut start = 0;
        for (out, &end) in out.iter_mut().zip(&block.ends) {
            let list = &block.list[start..end as usize];
            start = end as usize;
            add_rows::<S, false>(simd, out, list.iter().map(|&feature| &rows[feature as usize]));
        }
    }
}

/// out ± the rows, one after another, in registers.
#[inline(always)]
fn add_rows<'a, S: Simd, const MINUS: bool>(
    simd: S,
    out: &mut [f32; WIDTH],
    rows: impl Iterator<Item = &'a [f32; WIDTH]>,
) {
    match S::LANES {
        16 => add_rows_in::<S, MINUS, 4>(simd, out, rows),
        8 => add_rows_in::<S, MINUS, 8>(simd, out, rows),
        _ => add_rows_in::<S, MINUS, 16>(simd, out, rows),
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn add_rows_in<'a, S: Simd, const MINUS: bool, const VECTORS: usize>(
    simd: S,
    out: &mut [f32; WIDTH],
    rows: impl Iterator<Item = &'a [f32; WIDTH]>,
) {
    assert!(VECTORS * S::LANES == WIDTH);
    let mut sums = [simd.splat(0.0); VECTORS];
    for at in 0..VECTORS {
        sums[at] = simd.load(&out[at * S::LANES..]);
    }
    for row in rows {
        for at in 0..VECTORS {
            let value = simd.load(&row[at * S::LANES..]);
            sums[at] = if MINUS { simd.sub(sums[at], value) } else { simd.add(sums[at], value) };
        }
    }
    for at in 0..VECTORS {
        simd.store(sums[at], &mut out[at * S::LANES..]);
    }
}

/// Gradient of the decoder rows of `features`: out[f, :] = Σ_{k: h_kf = 1} error[k, :], where `total` `[columns]` are the
/// column sums of the errors; out `[features][columns]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn decoder_gradient(
    isa: Isa,
    codes: &BatchCodes,
    features: Range<usize>,
    errors: &ColumnPanels,
    total: &[f32],
    out: &mut [f32],
) {
    let columns = errors.columns();
    assert_eq!((errors.rows(), total.len()), (codes.samples(), columns), "errors of all samples");
    assert_eq!(out.len(), features.len() * columns, "gradients of the features");
    let features: Vec<Feature> = features
        .map(|feature| Feature { mostly_on: codes.mostly_on(feature), list: samples(codes, feature) })
        .collect();
    let added: usize = features.iter().map(|feature| feature.list.len()).sum();
    let many = added as f64 >= SMALL_FROM * (features.len() * codes.samples()) as f64;
    let block = if many { SMALL_BLOCK } else { LARGE_BLOCK };
    let mut sums = vec![[0f32; WIDTH]; features.len()];
    for first in (0..columns).step_by(WIDTH) {
        let here = first..columns.min(first + WIDTH);
        for (sum, feature) in sums.iter_mut().zip(&features) {
            sum.fill(0.0);
            if feature.mostly_on {
                sum[..here.len()].copy_from_slice(&total[here.clone()]);
            }
        }
        add_samples(isa, &features, errors.panel(first / WIDTH), block, &mut sums);
        for (out, sum) in out.chunks_exact_mut(columns).zip(&sums) {
            out[here.clone()].copy_from_slice(&sum[..here.len()]);
        }
    }
}

struct Feature {
    mostly_on: bool,
    /// Samples that differ, ascending.
    list: Vec<u32>,
}

fn samples(codes: &BatchCodes, feature: usize) -> Vec<u32> {
    let mut list = Vec::with_capacity(codes.minority(feature) as usize);
    for (at, &word) in codes.differing(feature).iter().enumerate() {
        let mut word = word;
        while word != 0 {
            list.push(at as u32 * 32 + word.trailing_zeros());
            word &= word - 1;
        }
    }
    list
}

per_isa! {
    fn add_samples[simd: S](features: &[Feature], errors: &[[f32; WIDTH]], block: usize, sums: &mut [[f32; WIDTH]]) {
        let mut done = vec![0usize; features.len()];
        for start in (0..errors.len()).step_by(block) {
            let end = errors.len().min(start + block);
            // in order, before they are wanted out of order
            errors[start..end].iter().for_each(|row| simd.prefetch(row));
            for ((feature, sum), done) in features.iter().zip(sums.iter_mut()).zip(&mut done) {
                let rest = &feature.list[*done..];
                let list = if end == errors.len() { rest } else { &rest[..rest.partition_point(|&k| (k as usize) < end)] };
                *done += list.len();
                let rows = list.iter().map(|&sample| &errors[sample as usize]);
                if feature.mostly_on {
                    add_rows::<S, true>(simd, sum, rows);
                } else {
                    add_rows::<S, false>(simd, sum, rows);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::tests::codes;
    use crate::product;
    use crate::values;
    use crate::{cases, up_to};
    use ndarray::Array2;
    use proptest::prelude::*;

    fn check(samples: usize, features: usize, columns: usize, seed: u64) {
        let (batch, _) = codes(samples, features, seed);
        let (weights, bias) = (values(features, columns, seed ^ 3), values(1, columns, seed ^ 5));
        let errors = values(samples, columns, seed ^ 7);
        let total: Vec<f32> =
            (0..columns).map(|c| errors.column(c).iter().fold(0f32, |sum, e| sum + e)).collect();
        // the dense way: the same chains with the −1, 0 and 1 of what differs
        let differs = Array2::from_shape_fn((samples, features), |(k, j)| {
            let bit = batch.differing(j)[k / 32] >> (k % 32) & 1;
            if batch.mostly_on(j) { -(bit as f32) } else { bit as f32 }
        });
        let mut base = bias.row(0).to_owned();
        for j in (0..features).filter(|&j| batch.mostly_on(j)) {
            base += &weights.row(j);
        }
        let mut decoded = Array2::zeros((samples, columns));
        decoded.rows_mut().into_iter().for_each(|mut row| row.assign(&base));
        product::add_product(Isa::PORTABLE, differs.view(), weights.view(), decoded.view_mut());
        let mut gradient = Array2::zeros((features, columns));
        for j in (0..features).filter(|&j| batch.mostly_on(j)) {
            gradient.row_mut(j).assign(&ndarray::ArrayView1::from(&total));
        }
        product::add_product(Isa::PORTABLE, differs.t(), errors.view(), gradient.view_mut());
        for isa in Isa::available() {
            let name = isa.name();
            let mut out = ColumnPanels::default();
            decode(isa, &batch, weights.as_slice().unwrap(), bias.as_slice().unwrap(), &mut out);
            assert_eq!(out.to_rows(), decoded, "{name} decode");
            let errors = ColumnPanels::from_rows(errors.view());
            for first in (0..features).step_by(PANEL) {
                let here = first..features.min(first + PANEL);
                let mut out = vec![9f32; here.len() * columns];
                decoder_gradient(isa, &batch, here.clone(), &errors, &total, &mut out);
                let want = gradient.slice(ndarray::s![here, ..]);
                assert_eq!(out, want.iter().copied().collect::<Vec<_>>(), "{name} gradient");
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn equals_the_dense_chain_at_block_edges() {
        for size in [1, 15, 16, 17, 31, 33, 64, 65] {
            check(size, 40, 33, 5);
            check(20, size, 70, 6);
            check(33, 65, size, 7);
        }
        check(1000, 33, 5, 8);
        check(5, 1000, 65, 9);
        check(0, 4, 4, 10);
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn equals_the_dense_chain(samples in 1..up_to(90), features in 1..up_to(330), columns in 1..up_to(140), seed: u64) {
            check(samples, features, columns, seed);
        }
    }
}

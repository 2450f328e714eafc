//! Gradients of a group of features: entry by entry where there are few, by whole products where there are many.

use super::{Columns, add_scaled_rows, dots};
use crate::Isa;
use crate::batch::PANEL;
use crate::product::{self, PackedRows};
use ndarray::ArrayView2;

/// Share of a group's entries from which on the whole product is faster.
const PRODUCT_FROM: f64 = 0.25;

/// A matrix with a row for each row of a batch, `[rows][width]`: hidden states, or errors.
pub struct Left<'a> {
    values: &'a [f32],
    rows: usize,
    width: usize,
    packed: Option<Packed>,
}

struct Packed {
    /// `[rows, width]`
    rows: PackedRows,
    /// `[width, rows]`
    columns: PackedRows,
}

/// Memory for the whole products of a group, used again.
#[derive(Default)]
pub struct Panels {
    /// `[width][32]`
    turned: Vec<f32>,
    /// `[rows][32]`
    panel: Vec<f32>,
}

impl<'a> Left<'a> {
    /// `share`: entries of the codes that it will be multiplied with, by rows and features. What whole products need is
    /// made here if any group may want them.
    ///
    /// # Panics
    /// If `values` is not row-major.
    pub fn new(isa: Isa, values: ArrayView2<'a, f32>, share: f64) -> Self {
        let (rows, width) = values.dim();
        let packed = (share >= PRODUCT_FROM / 4.0).then(|| {
            let mut packed = Packed { rows: PackedRows::default(), columns: PackedRows::default() };
            packed.rows.pack(isa, values);
            packed.columns.pack(isa, values.t());
            packed
        });
        Self { values: values.to_slice().expect("row-major"), rows, width, packed }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    fn packed<const N: usize>(&self, columns: &Columns<N>) -> Option<&Packed> {
        let all = columns.ends.len() * self.rows;
        self.packed.as_ref().filter(|_| columns.rows.len() as f64 >= PRODUCT_FROM * all as f64)
    }

    /// out[e] = values[k, :] · w[j, :] for each entry e of the group, in row k and feature j: w `[features][width]`, out
    /// `[entries]`.
    ///
    /// A dot product is one chain of fused multiply-adds where the group has many entries, and the sum of sixteen ([`dots`])
    /// where it has few: which of them, depends on the number of entries alone.
    ///
    /// # Panics
    /// If the lengths do not fit, or there are more than 32 features.
    pub fn products<const N: usize>(
        &self,
        isa: Isa,
        columns: &Columns<N>,
        w: &[f32],
        memory: &mut Panels,
        out: &mut [f32],
    ) {
        let features = columns.ends.len();
        assert_eq!(
            (w.len(), out.len()),
            (features * self.width, columns.rows.len()),
            "rows of w and entries"
        );
        let Some(packed) = self.packed(columns) else {
            for feature in 0..features {
                let here = columns.range(feature);
                let row = &w[feature * self.width..][..self.width];
                dots(isa, &columns.rows[here.clone()], self.values, row, &mut out[here]);
            }
            return;
        };
        memory.turned.resize(self.width * PANEL, 0.0);
        product::turn_rows(isa, w, self.width, &mut memory.turned);
        memory.panel.clear();
        memory.panel.resize(self.rows * PANEL, 0.0);
        product::add_panel(isa, &packed.rows, &memory.turned, &mut memory.panel);
        for feature in 0..features {
            for entry in columns.range(feature) {
                out[entry] = memory.panel[columns.rows[entry] as usize * PANEL + feature];
            }
        }
    }

    /// out[j, :] = Σ_k factor · values[k, :] over the entries of feature j, one chain in ascending k: factors `[entries]`, out
    /// `[features][width]`. The same bits either way.
    ///
    /// # Panics
    /// If the lengths do not fit, or there are more than 32 features.
    pub fn sums<const N: usize>(
        &self,
        isa: Isa,
        columns: &Columns<N>,
        factors: &[f32],
        memory: &mut Panels,
        out: &mut [f32],
    ) {
        let features = columns.ends.len();
        assert_eq!(
            (out.len(), factors.len()),
            (features * self.width, columns.rows.len()),
            "rows and factors"
        );
        let Some(packed) = self.packed(columns) else {
            out.fill(0.0);
            for (feature, out) in out.chunks_exact_mut(self.width.max(1)).enumerate() {
                let here = columns.range(feature);
                add_scaled_rows(isa, &columns.rows[here.clone()], &factors[here], self.values, out);
            }
            return;
        };
        memory.panel.clear();
        memory.panel.resize(self.rows * PANEL, 0.0);
        for feature in 0..features {
            for entry in columns.range(feature) {
                memory.panel[columns.rows[entry] as usize * PANEL + feature] = factors[entry];
            }
        }
        memory.turned.clear();
        memory.turned.resize(self.width * PANEL, 0.0);
        product::add_panel(isa, &packed.columns, &memory.panel, &mut memory.turned);
        product::turn_panel(isa, &memory.turned, self.width, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::tests::codes;
    use crate::sparse::transposed;
    use crate::{cases, up_to, values};
    use proptest::prelude::*;

    fn check(rows: usize, features: usize, width: usize, share: f32, seed: u64) {
        let (h, dense) = codes(rows, 40, share, seed);
        let (matrix, w) = (values(rows, width, seed ^ 3), values(features, width, seed ^ 5));
        let turned = transposed(&h.ends, &h.indices, [&h.values], 40);
        let group = turned.group(4..4 + features);
        let mut plain = None;
        for isa in Isa::available() {
            let left = Left::new(isa, matrix.view(), 1.0);
            let mut memory = Panels::default();
            let mut out = vec![9f32; group.rows.len()];
            left.products(isa, &group, w.as_slice().unwrap(), &mut memory, &mut out);
            let mut sums = vec![9f32; features * width];
            left.sums(isa, &group, group.values[0], &mut memory, &mut sums);
            for j in 0..features {
                for entry in group.range(j) {
                    let row = matrix.row(group.rows[entry] as usize);
                    let want: f64 =
                        row.iter().zip(w.row(j)).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
                    assert!((f64::from(out[entry]) - want).abs() < 1e-6 * (width as f64 + 4.0), "{want}");
                }
                for c in 0..width {
                    let on = (0..rows).filter(|&k| dense[[k, 4 + j]] != 0.0);
                    let chain = on.fold(0f32, |sum, k| matrix[[k, c]].mul_add(dense[[k, 4 + j]], sum));
                    assert_eq!(sums[j * width + c], chain, "{}", isa.name());
                }
            }
            let plain = plain.get_or_insert_with(|| out.clone());
            assert_eq!(&out, plain, "{}", isa.name());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn few_and_many_entries_at_block_edges() {
        for share in [0.01, 0.1, 0.25, 0.3, 0.9] {
            for size in [1, 15, 16, 17, 31, 32] {
                check(33, size, 33, share, 5);
                check(size, 32, 7, share, 6);
                check(20, 9, size, share, 7);
            }
        }
        check(0, 4, 4, 0.5, 8);
        check(4, 0, 4, 0.5, 9);
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn few_and_many_entries(
            rows in 0..up_to(80), features in 1..33usize, width in 1..up_to(100), share in 0f32..0.6, seed: u64,
        ) {
            check(rows, features, width, share, seed);
        }
    }
}

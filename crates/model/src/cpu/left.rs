//! The left sides of the step's products, in the precision asked for.

use crate::Precision;
use bae_kernels::Isa;
use bae_kernels::batch::PANEL;
use bae_kernels::bf16::{self, PackedPairs};
use bae_kernels::columns::ColumnPanels;
use bae_kernels::product::{self, PackedRows};
use ndarray::ArrayView2;

/// A packed matrix `[rows, depth]`.
pub(super) enum Left {
    F32(PackedRows),
    Bf16(PackedPairs),
}

impl Default for Left {
    fn default() -> Self {
        Left::F32(PackedRows::default())
    }
}

impl Left {
    /// Packs a matrix in this precision; memory is used again.
    pub fn pack(&mut self, isa: Isa, precision: Precision, from: ArrayView2<f32>) {
        match self.of(precision) {
            Left::F32(rows) => rows.pack(isa, from),
            Left::Bf16(pairs) => pairs.pack(isa, from),
        }
    }

    /// Packs a matrix that is cut into panels of columns.
    pub fn pack_columns(&mut self, isa: Isa, precision: Precision, from: &ColumnPanels) {
        match self.of(precision) {
            Left::F32(rows) => rows.pack_columns(isa, from),
            Left::Bf16(pairs) => pairs.pack_columns(isa, from),
        }
    }

    /// Rows packed.
    pub fn rows(&self) -> usize {
        match self {
            Left::F32(rows) => rows.rows(),
            Left::Bf16(pairs) => pairs.rows(),
        }
    }

    /// out += self · b for panels b `[panel][depth][32]`; `rounded` is memory for one in another precision.
    pub fn add_panels(&self, isa: Isa, b: &[f32], rounded: &mut Vec<u32>, out: &mut [f32]) {
        match self {
            Left::F32(rows) => product::add_panel(isa, rows, b, out),
            Left::Bf16(pairs) => {
                let (b_panel, out_panel) = ((pairs.depth() * PANEL).max(1), (pairs.rows() * PANEL).max(1));
                for (b, out) in b.chunks(b_panel).zip(out.chunks_mut(out_panel)) {
                    bf16::pack_panel_pairs(isa, b, rounded);
                    bf16::add_panel(isa, pairs, rounded, out);
                }
            }
        }
    }

    fn of(&mut self, precision: Precision) -> &mut Self {
        match (&*self, precision) {
            (Left::F32(_), Precision::Bf16) => *self = Left::Bf16(PackedPairs::default()),
            (Left::Bf16(_), Precision::F32 | Precision::F16) => *self = Left::F32(PackedRows::default()),
            _ => {}
        }
        self
    }
}

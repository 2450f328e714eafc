//! Gradients of entropy and covariance, added to a panel.

use crate::batch::PANEL;

/// How the penalties pull at the features of a panel. Features whose scale is 0 have no covariance.
pub struct Pulls<'a> {
    /// Rows of the batch.
    pub samples: usize,
    /// The entropy's pull: the same for all rows.
    pub entropy: &'a [f32; PANEL],
    /// ± 2 α_c / (n (n − 1)).
    pub scale: [f64; PANEL],
    /// Column sums of the signed counts.
    pub sums: [f64; PANEL],
    /// Feature of each slot, from the panel's first; above 31 for padding.
    pub feature: &'a [u32],
    /// Signed counts, `[16 slots][samples][16]`.
    pub counts: &'a [[i32; 16]],
}

crate::isa::per_isa! {
    /// gradient[k, f] += entropy_f + scale_f (n A_kf − Σ_k A_kf): whole numbers, exact in f64 while n · |A| < 2^53, until the multiplication;
    /// then rounded to f32 once. `gradient` is `[samples][32]`.
    ///
    /// Panics if the lengths do not fit.
    pub fn add_pulls[simd: S](pulls: &Pulls, gradient: &mut [f32]) {
        let (rows, _) = gradient.as_chunks_mut::<PANEL>();
        assert_eq!(rows.len(), pulls.samples, "gradients of all samples");
        let groups = pulls.feature.len() / 16;
        assert!(pulls.counts.len() == groups * pulls.samples, "counts of all slots");
        let n = pulls.samples as f64;
        let whole = pulls.feature.iter().enumerate().filter(|(slot, feature)| **feature == *slot as u32).count() == PANEL;
        for (k, row) in rows.iter_mut().enumerate() {
            let mut counts = [0i32; PANEL];
            for group in 0..groups {
                let from = &pulls.counts[group * pulls.samples + k];
                if whole {
                    counts[16 * group..16 * group + 16].copy_from_slice(from);
                    continue;
                }
                for (&feature, &count) in pulls.feature[16 * group..16 * group + 16].iter().zip(from) {
                    if let Some(to) = counts.get_mut(feature as usize) {
                        *to = count;
                    }
                }
            }
            for f in 0..PANEL {
                let centred = n * f64::from(counts[f]) - pulls.sums[f];
                row[f] += pulls.entropy[f] + (pulls.scale[f] * centred) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn the_same_bits_as_one_by_one() {
        let samples = 37;
        let entropy: [f32; PANEL] = std::array::from_fn(|f| 0.1 * f as f32);
        for slots in [0usize, 16, 32] {
            let feature: Vec<u32> =
                (0..slots as u32).map(|slot| if slots == 32 { slot } else { slot * 3 % 40 }).collect();
            let counts: Vec<[i32; 16]> = (0..slots / 16 * samples)
                .map(|at| std::array::from_fn(|lane| (at * 31 + lane * 7) as i32 % 90 - 45))
                .collect();
            let scale: [f64; PANEL] = std::array::from_fn(|f| 1e-3 * (f as f64 - 9.0));
            let sums: [f64; PANEL] = std::array::from_fn(|f| f as f64 * 11.0);
            let mut want = vec![0.25f32; samples * PANEL];
            for k in 0..samples {
                for f in 0..PANEL {
                    let slot = feature.iter().position(|&feature| feature as usize == f);
                    let count = slot.map_or(0, |slot| counts[slot / 16 * samples + k][slot % 16]);
                    let pull = scale[f] * (samples as f64 * f64::from(count) - sums[f]);
                    want[k * PANEL + f] += entropy[f] + pull as f32;
                }
            }
            for isa in Isa::available() {
                let pulls =
                    Pulls { samples, entropy: &entropy, scale, sums, feature: &feature, counts: &counts };
                let mut got = vec![0.25f32; samples * PANEL];
                add_pulls(isa, &pulls, &mut got);
                assert_eq!(got, want, "{} {slots}", isa.name());
            }
        }
    }
}

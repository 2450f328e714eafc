//! Entropy of a batch, its gradient, and which features are live.

use super::{Access, Shader, WIDE_SUM};

/// Reads ones and tables; writes pulls, live features and results.
pub const ENTROPY: Shader = Shader {
    name: "entropy",
    parts: &[include_str!("entropy.wgsl"), WIDE_SUM],
    access: &[Access::Read, Access::Read, Access::Write, Access::Write, Access::Write],
    product: None,
};

#[cfg(test)]
pub(super) mod tests {
    use super::ENTROPY;
    use crate::memory::tables;
    use crate::shaders::testing::{Shape, device, near, random, read, run, shapes, write};
    use crate::shaders::{Params, results};
    use rand::RngExt;

    /// The entropy gradients, the live features, and the entropy in units.
    pub fn entropy(shape: Shape, params: &Params, ones: &[u32], tables: &[u32]) -> (Vec<f64>, Vec<u32>, u64) {
        let Shape { rows, d_sae, .. } = shape;
        let mut total = 0u64;
        for &count in &ones[..d_sae] {
            total += u64::from(tables[count as usize]);
            total += u64::from(tables[rows + 1 + count as usize]) << 32;
        }
        let threshold = u64::from(params.threshold_high) << 32 | u64::from(params.threshold_low);
        let mut pull = vec![0.0; d_sae];
        let mut live = vec![0; shape.panels()];
        for feature in 0..d_sae {
            let count = ones[feature] as usize;
            if total >= threshold && total > 0 {
                let slope = f32::from_bits(tables[2 * (rows + 1) + count]);
                pull[feature] = f64::from(params.entropy_scale) * f64::from(slope);
            }
            live[feature / 32] |= u32::from(count > 0 && count < rows) << (feature % 32);
        }
        (pull, live, total)
    }

    fn check(shape: Shape, params: Params, ones: &[u32]) -> u64 {
        let tables = tables(shape.rows);
        let (want, want_live, total) = entropy(shape, &params, ones, &tables);
        let Some(device) = device() else { return total };
        let mut pull = vec![f32::NAN; shape.d_sae];
        let mut live = vec![u32::MAX; shape.panels()];
        let mut words = [9u32; results::COUNT];
        let values = [read(ones), read(&tables), write(&mut pull), write(&mut live), write(&mut words)];
        run(&device, &ENTROPY, [1, 1, 1], params, values);
        let what = format!("{shape:?}, threshold {} {}", params.threshold_high, params.threshold_low);
        near(&what, &pull, &want, 1, 0.0);
        assert_eq!(live, want_live, "{what}");
        let mut want = [9; results::COUNT];
        want[results::ENTROPY_LOW] = total as u32;
        want[results::ENTROPY_LOW + 1] = (total >> 32) as u32;
        assert_eq!(words, want, "{what}");
        total
    }

    #[test]
    fn equals_its_twin() {
        let mut rng = random();
        for shape in shapes() {
            let mut ones: Vec<u32> =
                (0..32 * shape.panels()).map(|_| rng.random_range(0..=shape.rows as u32)).collect();
            // never and always on
            ones[0] = 0;
            ones[shape.d_sae / 2] = shape.rows as u32;
            let params = Params { entropy_scale: 0.3, ..shape.params() };
            let total = check(shape, params, &ones);
            for threshold in [total.saturating_sub(1), total, total + 1, total + (1 << 32)] {
                let (low, high) = (threshold as u32, (threshold >> 32) as u32);
                check(shape, Params { threshold_low: low, threshold_high: high, ..params }, &ones);
            }
            check(shape, Params { entropy_scale: 0.0, ..params }, &ones);
            check(shape, params, &vec![0; ones.len()]);
        }
    }
}

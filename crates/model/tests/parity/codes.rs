//! Sections 5, 7 and 10: statistics on given codes, compression, the synthetic benchmark's truth.

use crate::fixture::Case;
use crate::training;
use bae_codes::{BitMatrix, MajorityCompressor, Statistics, joint};
use bae_kernels::batch::BatchCodes;
use bae_kernels::{Isa, pairs};
use bae_model::{Objective, reference::penalties};
use ndarray::{Array1, Array2};

pub fn statistics(case: &Case) {
    let h = case.matrix("in.h").mapv(f64::from);
    let (n, m) = h.dim();
    let published = Objective { as_published: true, ..Objective::default() };
    case.expect("f64", "entropy_eval", &[penalties::entropy(&h)]);
    case.expect("f64", "d_entropy_eval", &penalties::entropy_gradient(&h));
    case.expect("f64", "covariance", &[penalties::covariance(&published, &h)]);
    case.expect("f64", "l1", &[h.iter().map(|h| h.abs()).sum()]);
    case.expect("f64", "d_l1", &h.mapv(penalties::sign));
    for (at, threshold) in case.json["settings"]["thresholds"].as_array().into_iter().flatten().enumerate() {
        let gate = Objective { entropy_threshold: threshold.as_f64().expect("a number"), ..published };
        let bits = penalties::entropy(&h);
        let pull = if gate.entropy_pulls(bits) { penalties::entropy_gradient(&h) } else { Array1::zeros(m) };
        case.expect("f64", &format!("gated.{at}"), &[gate.gated(bits)]);
        case.expect("f64", &format!("d_gated.{at}"), &pull);
    }
    // the f32 gradient holds rounding noise where a covariance is exactly 0: the integers say 0 there
    let noisy = case.json["zero_cov_pairs"]["nonzero_in_f32"].as_u64().unwrap_or(0) > 0;
    let gradient = penalties::covariance_gradient(&h);
    if noisy {
        near(&gradient, &case.values("exact.d_covariance").1, 1e-6);
    } else {
        case.expect("f64", "d_covariance", &gradient);
    }
    if h.iter().all(|&h| h == 0.0 || h == 1.0) {
        integers(case, &h, n, &gradient);
    }
}

/// The same from packed bits.
fn integers(case: &Case, h: &Array2<f64>, n: usize, gradient: &Array2<f64>) {
    let m = h.ncols();
    let codes = BitMatrix::from_positive(h.mapv(|h| h as f32).as_slice().expect("row-major"), m);
    let by_feature = codes.transposed();
    let ones = by_feature.ones_per_row();
    let mut statistics = Statistics::new(m);
    statistics.add(&codes).expect("one width");
    assert!(statistics.ones().iter().zip(&ones).all(|(&a, &b)| a == u64::from(b)));
    if case.has("ones") {
        assert_eq!(case.values("ones").1, ones.iter().map(|&s| f64::from(s)).collect::<Vec<_>>(), "ones");
    }
    if case.has("exact.entropy") {
        let want = case.values("exact.entropy").1[0];
        assert!((statistics.entropy_bits() - want).abs() <= 1e-9 * want.max(1.0), "exact.entropy {want}");
    }
    let batch = BatchCodes::new(n, m, codes.to_panels());
    for isa in Isa::available() {
        let covariance = pairs::covariance(isa, &batch);
        let absolute_sum = covariance.absolute_sum();
        if case.has("sum_abs_D") {
            assert_eq!(absolute_sum as f64, case.values("sum_abs_D").1[0], "sum_abs_D");
        }
        if n < 2 {
            continue;
        }
        case.expect(isa.name(), "covariance", &[absolute_sum as f64 / (n * (n - 1)) as f64]);
        let signs = covariance.signed_counts(isa);
        let scale = 2.0 / (n as f64 * (n as f64 - 1.0));
        let mut from_counts = Array2::zeros((n, m));
        let mut counts = vec![];
        for panel in 0..batch.panels() {
            let sums = signs.of_panel(isa, panel, &mut counts);
            for (slot, &feature) in covariance.lanes_of(panel).iter().enumerate() {
                let Some(mut column) =
                    (feature != u32::MAX).then(|| from_counts.column_mut(feature as usize))
                else {
                    continue;
                };
                let sign = if batch.mostly_on(feature as usize) { -scale } else { scale };
                for (k, value) in column.iter_mut().enumerate() {
                    let count = counts[slot / 16 * n + k][slot % 16];
                    *value = sign * (n as f64 * f64::from(count) - sums[slot] as f64);
                }
            }
        }
        near(&from_counts, gradient.as_slice().expect("row-major"), 1e-12);
    }
}

fn near(got: &Array2<f64>, want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        let same = (got - want).abs() <= tolerance || got.is_nan() && want.is_nan();
        assert!(same, "{got} is not within {tolerance} of {want}");
    }
}

pub fn compress(case: &Case) {
    let codes = training::codes(case, &case.matrix("in.x"));
    let first = case.number("first", 0.0) as usize;
    let wide = |codes: &BitMatrix| -> Vec<f64> {
        let (rows, features) = (codes.rows(), codes.features());
        (0..rows * features).map(|at| f64::from(u8::from(codes.get(at / features, at % features)))).collect()
    };
    case.expect("codes", "codes", &wide(&codes));
    let head = BitMatrix::from_bytes(&codes.to_bytes(0..first), first, codes.features()).expect("whole rows");
    let compressor = MajorityCompressor::new(&head, false);
    let features = 0..codes.features();
    case.expect("f64", "average", &features.clone().map(|f| compressor.mean(f)).collect::<Vec<_>>());
    let majority: Vec<f64> = features.map(|f| f64::from(u8::from(compressor.majority(f)))).collect();
    case.expect("bits", "average_round", &majority);

    let lists: Vec<Vec<u32>> =
        (0..codes.rows()).map(|row| compressor.encode(&codes, row).expect("a width")).collect();
    let mut offsets = vec![0.0];
    lists.iter().for_each(|list| offsets.push(offsets[offsets.len() - 1] + list.len() as f64));
    case.expect("lists", "encoded.offsets", &offsets);
    case.expect(
        "lists",
        "encoded.indices",
        &lists.iter().flatten().map(|&i| f64::from(i)).collect::<Vec<_>>(),
    );
    let restored = compressor.decode(&lists);
    case.expect("bits", "restored_codes", &wide(&restored));
    for (who, output) in training::outputs(case, &restored) {
        case.expect(who, "restored_output", &output);
    }
    for (who, output) in training::outputs(case, &codes) {
        case.expect(who, "lossless_output", &output);
    }
    if let Some(lost) = case.json["exact"]["bits_lost"].as_u64() {
        let differ = wide(&codes).iter().zip(wide(&restored)).filter(|(a, b)| *a != b).count();
        assert_eq!(differ as u64, lost, "bits lost");
    }
    let lossless = MajorityCompressor::new(&head, true);
    let lists: Vec<Vec<u32>> =
        (0..codes.rows()).map(|row| lossless.encode(&codes, row).expect("a width")).collect();
    assert_eq!(lossless.decode(&lists), codes, "the corrected form loses nothing");
}

/// The bits that made the synthetic hidden states have the entropy that the manifest states, on its validation rows:
/// the last fifth.
pub fn synthetic(case: &Case) {
    let bits = case.matrix("in.coefficients");
    let bits = bits.slice(ndarray::s![bits.nrows() * 4 / 5.., ..]).to_owned();
    let codes = BitMatrix::from_positive(bits.as_slice().expect("row-major"), bits.ncols());
    let mut statistics = Statistics::new(codes.features());
    statistics.add(&codes).expect("one width");
    let joint = joint::plug_in(&codes.occurrences());
    for (truth, got) in [("sample_joint_bits", joint), ("sample_marginal_bits", statistics.entropy_bits())] {
        let want = case.json["truth"][truth].as_f64().expect("a number");
        assert!((got - want).abs() < 1e-9 * want, "{truth}: {got}, expected {want}");
    }
}

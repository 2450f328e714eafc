//! Section 8, as far as it is arithmetic on codes.

use crate::fixture::Case;
use crate::training;
use bae_codes::{Burstiness, top_features};

pub fn burstiness(case: &Case) {
    let codes = training::codes(case, &case.matrix("in.x"));
    let (rows, features) = (codes.rows(), codes.features());
    let bit = |at: usize| f64::from(u8::from(codes.get(at / features, at % features)));
    case.expect("codes", "codes", &(0..rows * features).map(bit).collect::<Vec<_>>());
    let burstiness = Burstiness::new(&codes);
    case.expect("mean", "mean", burstiness.mean());
    let k = case.number("topk", 0.0) as usize;
    let mut scores: Vec<Vec<f64>> = (0..rows).map(|token| burstiness.of(&codes, token)).collect();
    let truth = case.values("burstiness_without_alias").1;
    for (got, want) in scores.iter().flatten().zip(&truth) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
    // the published code overwrites the first token's code by the mean: only that row differs
    scores[0] = vec![libm::log2(1e-6); features];
    case.expect("f64", "burstiness", scores.iter().flatten());
    let top: Vec<f64> =
        scores.iter().flat_map(|s| top_features(s, k)).map(|feature| feature as f64).collect();
    case.expect("top", "topk", &top);
}

pub fn rescale(case: &Case) {
    for (who, h) in training::values(case, &case.matrix("in.x")) {
        case.expect(who, "h", &h);
        let mean = h.mean_axis(ndarray::Axis(0)).expect("rows");
        let std = h.std_axis(ndarray::Axis(0), 0.0);
        case.expect(who, "mean", &mean);
        case.expect(who, "std", &std);
        case.expect(who, "rescaled", &((h - &mean) / (std + 1e-6)));
    }
}

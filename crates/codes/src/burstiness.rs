use crate::BitMatrix;

/// How surprising each feature of a token's code is: log2(|h − mean(h)| + 1e-6) over the tokens at hand
/// (section 3.3 of the paper). A usually-on feature that is off counts like a usually-off one that is on.
#[derive(Clone, Debug)]
pub struct Burstiness {
    mean: Vec<f64>,
}

impl Burstiness {
    /// The mean code of all tokens.
    pub fn new(codes: &BitMatrix) -> Self {
        Self {
            mean: codes.ones_per_feature().iter().map(|&ones| ones as f64 / codes.rows() as f64).collect(),
        }
    }

    /// Mean of each feature.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Burstiness of each feature in row `token`, in bits (log2).
    pub fn of(&self, codes: &BitMatrix, token: usize) -> Vec<f64> {
        self.mean
            .iter()
            .enumerate()
            .map(|(feature, mean)| {
                libm::log2((f64::from(u8::from(codes.get(token, feature))) - mean).abs() + 1e-6)
            })
            .collect()
    }
}

/// The `k` features with the largest score, largest first, ties by lowest index.
pub fn top_features(scores: &[f64], k: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(k);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_off_is_as_bursty_as_rare_on() {
        let mut codes = BitMatrix::zeros(4, 3);
        codes.set(0, 0, true); // rarely on
        (1..4).for_each(|row| codes.set(row, 1, true)); // rarely off, off in row 0
        (0..2).for_each(|row| codes.set(row, 2, true));
        let scores = Burstiness::new(&codes).of(&codes, 0);
        assert_eq!(top_features(&scores, 2), [0, 1]);
        assert_eq!(scores[0], scores[1]);
        assert!((scores[2] - -1.0).abs() < 1e-5);
    }
}

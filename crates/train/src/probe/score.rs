//! How well a number tells two classes apart.

/// Two figures that are ½ by chance whatever the sizes of the classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// Mean of the shares of both classes that are on their side of 0.
    pub(super) balanced_accuracy: f64,
    /// Probability that a positive row has a larger score than a negative one; equal ones count half.
    pub(super) auc: f64,
}

impl Figures {
    /// Of scores, each of a row that is positive or not; there are both.
    pub(super) fn of(scores: &[f64], positive: &[bool]) -> Self {
        let ones = positive.iter().filter(|&&is| is).count() as f64;
        let zeros = positive.len() as f64 - ones;
        let right = |class: bool| {
            let is_right = |&(&score, &is): &(&f64, &bool)| is == class && (score > 0.0) == class;
            scores.iter().zip(positive).filter(is_right).count() as f64
        };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let (mut wins, mut below) = (0.0, 0.0);
        for equal in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            let ones = equal.iter().filter(|&&at| positive[at]).count() as f64;
            let zeros = equal.len() as f64 - ones;
            wins += ones * (below + 0.5 * zeros);
            below += zeros;
        }
        Self {
            balanced_accuracy: 0.5 * (right(true) / ones + right(false) / zeros),
            auc: wins / (ones * zeros),
        }
    }

    /// Of several questions.
    pub(super) fn mean(figures: impl ExactSizeIterator<Item = Self>) -> Self {
        let count = figures.len() as f64;
        let add = |sum: Self, each: Self| Self {
            balanced_accuracy: sum.balanced_accuracy + each.balanced_accuracy / count,
            auc: sum.auc + each.auc / count,
        };
        figures.fold(Self { balanced_accuracy: 0.0, auc: 0.0 }, add)
    }
}

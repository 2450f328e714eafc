use ndarray::{Array1, ArrayView2, Axis, Zip};

/// Sums over rows of hidden states, from which their means and variances follow. Adding up twice as many digits as f64 has
/// (Dekker 1971; Knuth, TAOCP 4.2.2), they are exact for all purposes: neither the order of rows and merges nor a
/// large mean costs a digit of the f32 results.
#[derive(Clone, Debug, PartialEq)]
pub struct RowMoments {
    rows: u64,
    /// Σ x, `[d_in]`.
    sums: Array1<Sum>,
    /// Σ x², `[d_in]`.
    squares: Array1<Sum>,
    /// Σ |x|, the rows' Euclidean norms.
    norms: Sum,
}

impl RowMoments {
    /// No rows yet.
    pub fn new(d_in: usize) -> Self {
        Self {
            rows: 0,
            sums: Array1::from_elem(d_in, Sum::default()),
            squares: Array1::from_elem(d_in, Sum::default()),
            norms: Sum::default(),
        }
    }

    /// Adds rows `[n, d_in]`.
    pub fn add(&mut self, rows: ArrayView2<f32>) {
        for row in rows.axis_iter(Axis(0)) {
            let mut square = 0.0;
            Zip::from(&row).and(&mut self.sums).and(&mut self.squares).for_each(|&x, sum, squares| {
                let x = f64::from(x);
                // the product of two f32 is exact in f64
                sum.add(x);
                squares.add(x * x);
                square += x * x;
            });
            self.norms.add(square.sqrt());
        }
        self.rows += rows.nrows() as u64;
    }

    /// Adds what another one has seen.
    ///
    /// # Panics
    /// If it is of another width.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.sums.len(), other.sums.len(), "width of the rows");
        self.rows += other.rows;
        self.norms.merge(other.norms);
        self.sums.zip_mut_with(&other.sums, |sum, &other| sum.merge(other));
        self.squares.zip_mut_with(&other.squares, |sum, &other| sum.merge(other));
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Mean of each dimension.
    pub fn mean(&self) -> Array1<f64> {
        let n = self.rows.max(1) as f64;
        self.sums.mapv(|sum| sum.value() / n)
    }

    /// Variance of each dimension (divisor n).
    pub fn variance(&self) -> Array1<f64> {
        let n = self.rows.max(1) as f64;
        Zip::from(&self.sums).and(&self.squares).map_collect(|&sum, &square| deviation(sum, square, n) / n)
    }

    /// Σ over rows of |x − mean|².
    pub fn squared_deviation(&self) -> f64 {
        let n = self.rows.max(1) as f64;
        self.sums.iter().zip(&self.squares).map(|(&sum, &square)| deviation(sum, square, n)).sum()
    }

    /// Mean Euclidean norm of a row.
    pub fn mean_norm(&self) -> f64 {
        self.norms.value() / self.rows.max(1) as f64
    }
}

/// Σ x² − (Σ x)² / n in twofold precision.
fn deviation(sum: Sum, square: Sum, n: f64) -> f64 {
    // mean · sum with the rounding errors of both operations carried along
    let mean = sum.value() / n;
    let remainder = f64::mul_add(-mean, n, sum.high) + sum.low;
    let product = mean * sum.high;
    let product_error = f64::mul_add(mean, sum.high, -product) + mean * sum.low + remainder / n * sum.high;
    let mut difference = square;
    difference.add(-product);
    difference.add(-product_error);
    difference.value().max(0.0)
}

/// A sum with the part that f64 rounds off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    high: f64,
    low: f64,
}

impl Sum {
    fn add(&mut self, value: f64) {
        // Knuth's two-sum: exact, whichever is larger
        let sum = self.high + value;
        let part = sum - self.high;
        self.low += (self.high - (sum - part)) + (value - part);
        self.high = sum;
    }

    fn merge(&mut self, other: Self) {
        self.add(other.high);
        self.low += other.low;
    }

    fn value(self) -> f64 {
        self.high + self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, s};
    use proptest::prelude::*;

    #[test]
    fn a_mean_a_billion_times_the_spread_costs_nothing() {
        let row = |k: usize| 1e6 + (k % 3) as f32 * 0.0625;
        let rows = Array2::from_shape_fn((3000, 2), |(k, j)| if j == 0 { row(k) } else { -row(k) });
        let mut moments = RowMoments::new(2);
        moments.add(rows.view());
        let expected = 0.0625 * 0.0625 * 2.0 / 3.0;
        for variance in moments.variance() {
            assert!((variance / expected - 1.0).abs() < 1e-9, "{variance} {expected}");
        }
        assert_eq!(moments.mean()[0], 1e6 + 0.0625);
        assert!((moments.squared_deviation() / (6000.0 * expected) - 1.0).abs() < 1e-9);
    }

    proptest! {
        #[test]
        fn any_order_and_grouping_gives_the_same(
            values in prop::collection::vec(-1e3f32..1e3, 4..400), cut in 0usize..100, shift in -1e5f32..1e5,
        ) {
            let n = values.len() / 4;
            let rows = Array2::from_shape_fn((n, 4), |(k, j)| values[4 * k + j] + shift);
            let cut = cut.min(n);
            let mut whole = RowMoments::new(4);
            whole.add(rows.view());
            let (mut first, mut second) = (RowMoments::new(4), RowMoments::new(4));
            second.add(rows.slice(s![..cut;-1, ..]));
            first.add(rows.slice(s![cut..;-1, ..]));
            first.merge(&second);
            prop_assert_eq!(first.rows(), n as u64);
            let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-9);
            for (a, b) in whole.mean().iter().zip(first.mean()) { prop_assert!(close(*a, b)); }
            for (a, b) in whole.variance().iter().zip(first.variance()) { prop_assert!(close(*a, b), "{a} {b}"); }
            prop_assert!(close(whole.mean_norm(), first.mean_norm()));
            let mean = rows.mapv(f64::from).mean_axis(Axis(0)).unwrap();
            let plain = (&rows.mapv(f64::from) - &mean).mapv(|x| x * x).sum();
            prop_assert!((whole.squared_deviation() - plain).abs() <= 1e-9 * plain.max(1e-3));
        }
    }
}

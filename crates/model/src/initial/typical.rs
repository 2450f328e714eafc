use ndarray::{Array1, ArrayView2, Axis};

/// Centre and size of the ordinary rows, rows of another order of magnitude left aside.
///
/// Some positions of a language model (often the first) have states a hundred times larger than all others: a plain
/// mean and variance would describe only those.
#[derive(Clone, Debug, PartialEq)]
pub struct Typical {
    /// Mean of the ordinary rows, `[d_in]`.
    pub centre: Array1<f32>,
    /// Root mean square, over ordinary rows and dimensions, of what the centre leaves.
    pub rms: f32,
}

/// A row is ordinary while its mean squared distance from the median is at most this many times the median's.
const ORDINARY: f64 = 9.0;

impl Typical {
    /// Measures rows `[n, d_in]`, n ≥ 1.
    ///
    /// First the median of each dimension, and each row's mean squared distance from it; ordinary rows have at most
    /// nine times the median distance; their mean is the centre. Sums are in f64.
    pub fn measure(rows: ArrayView2<f32>) -> Self {
        let median_row: Array1<f32> = rows.axis_iter(Axis(1)).map(|column| median(column.to_vec())).collect();
        let distances: Vec<f64> = rows.axis_iter(Axis(0)).map(|row| mean_square(row, &median_row)).collect();
        // where most rows are one and the same (padding, say), the size is that of the others
        let apart: Vec<f64> = distances.iter().copied().filter(|&distance| distance > 0.0).collect();
        let middle = median(distances.clone());
        let limit = ORDINARY * if middle > 0.0 || apart.is_empty() { middle } else { median(apart) };
        let ordinary: Vec<_> = rows
            .axis_iter(Axis(0))
            .zip(&distances)
            .filter(|(_, e)| **e <= limit)
            .map(|(row, _)| row)
            .collect();
        let count = ordinary.len() as f64;
        let mut sums = Array1::<f64>::zeros(rows.ncols());
        for row in &ordinary {
            sums.zip_mut_with(row, |sum, &x| *sum += f64::from(x));
        }
        let centre = sums.mapv(|sum| (sum / count) as f32);
        let mean_square = ordinary.iter().map(|row| mean_square(row.view(), &centre)).sum::<f64>() / count;
        // rows that are all alike have no size; any scale serves
        let rms = if mean_square > 0.0 { mean_square.sqrt() as f32 } else { 1.0 };
        Self { centre, rms: rms.max(f32::MIN_POSITIVE) }
    }
}

fn mean_square(row: ndarray::ArrayView1<f32>, centre: &Array1<f32>) -> f64 {
    let square = |(x, c): (&f32, &f32)| (f64::from(*x) - f64::from(*c)) * (f64::from(*x) - f64::from(*c));
    row.iter().zip(centre).map(square).sum::<f64>() / row.len().max(1) as f64
}

/// The lower median; the values are finite.
fn median<T: Copy + PartialOrd>(mut values: Vec<T>) -> T {
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable_by(middle, |a, b| a.partial_cmp(b).expect("finite")).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn a_few_huge_rows_move_nothing() {
        let row = |k: usize, j: usize| 5.0 + ((k * 7 + j * 13) % 11) as f32 / 10.0;
        let ordinary = Array2::from_shape_fn((110, 4), |(k, j)| row(k, j));
        let mut all = ndarray::concatenate![Axis(0), ordinary, Array2::from_elem((6, 4), 9000.0)];
        all.swap([0, 0], [115, 0]);
        all.swap([0, 0], [115, 0]);
        assert_eq!(Typical::measure(all.view()), Typical::measure(ordinary.view()));
        let typical = Typical::measure(ordinary.view());
        assert!((typical.centre[0] - 5.5).abs() < 1e-5 && (typical.rms - 0.316_227_8).abs() < 1e-5);
    }

    #[test]
    fn rows_of_padding_do_not_hide_the_others() {
        let rows =
            Array2::from_shape_fn((100, 2), |(k, j)| if k < 60 { 0.0 } else { 1e-3 * ((k + j) % 5) as f32 });
        let typical = Typical::measure(rows.view());
        assert!((5e-4..2e-3).contains(&typical.rms), "{typical:?}");
    }

    #[test]
    fn constant_rows_have_scale_one() {
        let typical = Typical::measure(Array2::from_elem((3, 2), 4.0).view());
        assert_eq!((typical.centre[1], typical.rms), (4.0, 1.0));
    }
}

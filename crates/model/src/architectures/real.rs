use super::Entries;
use bae_kernels::Isa;
use bae_kernels::sparse::{self, Sparse};
use ndarray::{ArrayView2, NdFloat};

/// The numbers that a model computes with.
pub trait Real: NdFloat {
    /// The nearest number of this type.
    fn of(value: f64) -> Self;
    /// Itself in f64.
    fn wide(self) -> f64;
    /// e to this power, by the same polynomial on every machine.
    fn exponential(self) -> Self {
        Self::of(libm::exp(self.wide()))
    }
    /// Values above 0 as codes of themselves.
    fn above_zero(z: ArrayView2<Self>) -> Entries<Self>;
    /// The `k` largest of the values above 0 of each row, or all where there are fewer; of equal ones the first.
    fn largest_of_rows(z: ArrayView2<Self>, k: usize) -> Entries<Self>;
    /// The `count` largest of the values above 0 of all rows together, likewise.
    fn largest_of_batch(z: ArrayView2<Self>, count: usize) -> Entries<Self>;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as f32
    }
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn above_zero(z: ArrayView2<f32>) -> Entries<f32> {
        entries(Sparse::above_zero(Isa::best(), row_major(z), z.ncols()), z.nrows())
    }
    fn largest_of_rows(z: ArrayView2<f32>, k: usize) -> Entries<f32> {
        entries(sparse::largest_of_rows(Isa::best(), row_major(z), z.ncols(), k), z.nrows())
    }
    fn largest_of_batch(z: ArrayView2<f32>, count: usize) -> Entries<f32> {
        entries(sparse::largest_of_batch(Isa::best(), row_major(z), z.ncols(), count), z.nrows())
    }
}

fn row_major<'a>(z: ArrayView2<'a, f32>) -> &'a [f32] {
    z.to_slice().expect("row-major")
}

/// Values that are codes of themselves.
fn entries(Sparse { ends, indices, values }: Sparse, rows: usize) -> Entries<f32> {
    assert_eq!(ends.len(), rows, "a list for each row");
    Entries { ends, features: indices, h: values.clone(), z: values }
}

/// In the reference: by sorting.
impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
    fn wide(self) -> f64 {
        self
    }
    fn above_zero(z: ArrayView2<f64>) -> Entries<f64> {
        Entries::by_values(z, |_, z| (z > 0.0).then_some(z))
    }
    fn largest_of_rows(z: ArrayView2<f64>, k: usize) -> Entries<f64> {
        Entries::by_rows(z, |_, z, row| {
            largest(z, k).into_iter().for_each(|feature| row.push(feature, z[feature], z[feature]));
        })
    }
    fn largest_of_batch(z: ArrayView2<f64>, count: usize) -> Entries<f64> {
        let places = largest(z.to_slice().expect("row-major"), count);
        Entries::by_rows(z, |row, z, to| {
            let here = row * z.len()..(row + 1) * z.len();
            let places = places.iter().filter(|place| here.contains(place)).map(|place| place - here.start);
            places.for_each(|feature| to.push(feature, z[feature], z[feature]));
        })
    }
}

/// Where the `count` largest of the values above 0 are, ascending.
fn largest(values: &[f64], count: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..values.len()).filter(|&at| values[at] > 0.0).collect();
    places.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    places.truncate(count);
    places.sort_unstable();
    places
}

use std::path::Path;

use bae_data::{Dataset, Feed, Order, RowSet};
use ndarray::{Array2, Axis};
use proptest::prelude::*;
use safetensors::Dtype;
use tempfile::tempdir;

use crate::common::{assert_error, f32_bytes, open, write_npy, write_safetensors};

/// A file whose value at row k, column j is `of(k, j)`, with a column of whole numbers where one is given.
fn write(
    path: &Path,
    [rows, width]: [usize; 2],
    of: impl Fn(usize, usize) -> f32,
    column: Option<(&str, &[i64])>,
) {
    let values =
        f32_bytes(&Array2::from_shape_fn((rows, width), |(k, j)| of(k, j)).into_raw_vec_and_offset().0);
    let shape = [rows, width];
    let numbers: Vec<u8> = column
        .iter()
        .flat_map(|(_, numbers)| numbers.iter().flat_map(|number| number.to_le_bytes()))
        .collect();
    let mut tensors = vec![("states", Dtype::F32, &shape[..], &values[..])];
    let of_column = [rows];
    if let Some((name, _)) = column {
        tensors.push((name, Dtype::I64, &of_column, &numbers));
    }
    write_safetensors(path, &tensors);
}

fn with_target(data: &Path, target: &Path) -> Result<Dataset, bae_data::DataError> {
    open(&[data.to_str().unwrap()])?.with_target(open(&[target.to_str().unwrap()])?)
}

fn select(data: &Dataset, skip_invalid: bool) -> Result<Vec<usize>, bae_data::DataError> {
    Ok(data.select(&[], skip_invalid, |_| true)?.expect("not cancelled").rows.iter().collect())
}

/// What stands at row k, column j of a target, beside row k of the data.
fn target_of(k: usize, j: usize) -> f32 {
    -((100 * k + j) as f32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn rows_keep_their_targets_in_any_order(
        sizes in prop::collection::vec(1usize..40, 1..4), d_in in 1usize..7, d_out in 1usize..7, cut in 0.0f64..1.0,
        memory in 0usize..6000, batch in 1usize..50, seed: u64, keep in 1usize..5,
    ) {
        let dir = tempdir().unwrap();
        let rows: usize = sizes.iter().sum();
        let mut first = 0;
        for (at, &size) in sizes.iter().enumerate() {
            let values: Vec<f32> = (0..size * d_in).map(|at| (first + at / d_in) as f32).collect();
            write_npy(&dir.path().join(format!("x{at}.npy")), [size, d_in], &values);
            first += size;
        }
        // targets lie in other files than the rows that they belong to
        let cut = (rows as f64 * cut) as usize;
        for (name, from, to) in [("y0.npy", 0, cut), ("y1.npy", cut, rows)] {
            let values: Vec<f32> =
                (from * d_out..to * d_out).map(|at| target_of(at / d_out, at % d_out)).collect();
            write_npy(&dir.path().join(name), [to - from, d_out], &values);
        }
        let data = with_target(&dir.path().join("x*.npy"), &dir.path().join("y*.npy")).unwrap();
        prop_assert_eq!((data.rows(), data.d_in(), data.d_out(), data.width()), (rows, d_in, d_out, d_in + d_out));
        let mut set = RowSet::all(rows);
        (0..rows).filter(|row| row % keep != 0).for_each(|row| set.set(row, false));
        let feed = Feed::new(&data, &set, Order::Shuffled { seed }, memory);
        prop_assert!(feed.bytes() <= memory.max(2 * (4 * (d_in + d_out) + 4)));
        let mut seen = RowSet::none(rows);
        let mut check = |x: Array2<f32>, y: Option<Array2<f32>>| {
            let y = y.expect("targets");
            assert_eq!((x.ncols(), y.dim()), (d_in, (x.nrows(), d_out)));
            for (x, y) in x.axis_iter(Axis(0)).zip(y.axis_iter(Axis(0))) {
                let row = x[0] as usize;
                assert!(x.iter().all(|&value| value == row as f32));
                assert!(y.iter().enumerate().all(|(j, &value)| value == target_of(row, j)), "row {row}: {y}");
                seen.set(row, true);
            }
        };
        std::thread::scope(|scope| {
            let mut batches = feed.batches(scope, 1, batch, 0);
            while let Some(rows) = batches.next() {
                let (x, y) = feed.apart(rows.unwrap());
                check(x, y);
            }
        });
        let (x, y) = feed.apart(feed.sample(50).unwrap());
        check(x, y);
        prop_assert_eq!(&seen, &set);
    }
}

#[test]
fn without_a_target_a_row_is_all_hidden_state() {
    let dir = tempdir().unwrap();
    write_npy(&dir.path().join("x.npy"), [2, 3], &[1.0; 6]);
    let data = open(&[dir.path().join("x.npy").to_str().unwrap()]).unwrap();
    assert_eq!((data.has_target(), data.d_out(), data.width()), (false, 3, 3));
    let all = RowSet::all(2);
    let feed = Feed::new(&data, &all, Order::Stored, 100);
    assert_eq!(feed.apart(feed.sample(2).unwrap()), (Array2::ones((2, 3)), None));
}

#[test]
fn targets_are_as_many_as_rows() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_npy(&path("x.npy"), [5, 2], &[0.0; 10]);
    write_npy(&path("y.npy"), [4, 2], &[0.0; 8]);
    assert_error(
        with_target(&path("x.npy"), &path("y.npy")),
        "SHAPE_MISMATCH",
        &["x.npy has 5 rows", "y.npy has 4", "same order"],
    );
}

#[test]
fn a_row_and_its_target_are_of_one_token() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let of = |k: usize, _: usize| k as f32;
    let numbers: Vec<i64> = (0..70_000).map(|row| row % 1000).collect();
    let mut other = numbers.clone();
    other.swap(66_001, 66_002);
    for column in ["token", "position", "sequence"] {
        write(&path("x.safetensors"), [70_000, 1], of, Some((column, &numbers)));
        write(&path("y.safetensors"), [70_000, 2], of, Some((column, &numbers)));
        let same = with_target(&path("x.safetensors"), &path("y.safetensors")).unwrap();
        assert_eq!(select(&same, false).unwrap().len(), 70_000);
        write(&path("y.safetensors"), [70_000, 2], of, Some((column, &other)));
        let swapped = with_target(&path("x.safetensors"), &path("y.safetensors")).unwrap();
        let has = format!("row 66001 has {column} 1");
        assert_error(
            select(&swapped, false),
            "INVALID_ARGUMENT",
            &["x.safetensors", &has, "y.safetensors", "row 66001, has 2", "same order"],
        );
    }
    // layers differ: that is what a transcoder is for
    write(&path("x.safetensors"), [70_000, 1], of, Some(("layer", &numbers)));
    write(&path("y.safetensors"), [70_000, 2], of, Some(("layer", &other)));
    let layers = with_target(&path("x.safetensors"), &path("y.safetensors")).unwrap();
    assert_eq!(select(&layers, false).unwrap().len(), 70_000);
}

#[test]
fn layers_of_one_dump_belong_to_each_other() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("dump.safetensors");
    let values: Vec<f32> = (0..4 * 3 * 2).map(|at| at as f32).collect();
    write_safetensors(&path, &[("hidden_states", Dtype::F32, &[4, 3, 2], &f32_bytes(&values))]);
    let at = |layer: usize| open(&[&format!("{}#:layer={layer}", path.display())]).unwrap();
    let data = at(0).with_target(at(2)).unwrap();
    assert_eq!(select(&data, false).unwrap(), [0, 1, 2, 3]);
    let mut rows = Array2::zeros((4, 4));
    data.read(0..4, rows.view_mut()).unwrap();
    assert_eq!(rows.row(1).to_vec(), [6.0, 7.0, 10.0, 11.0]);
}

#[test]
fn a_target_that_is_not_finite_is_named_or_left_out_with_its_row() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let bad = |row: usize, column: usize| {
        move |k: usize, j: usize| if (k, j) == (row, column) { f32::NAN } else { k as f32 }
    };
    write(&path("x.safetensors"), [6, 3], bad(4, 1), None);
    write(&path("y.safetensors"), [6, 2], bad(2, 1), None);
    let data = with_target(&path("x.safetensors"), &path("y.safetensors")).unwrap();
    let mut rows = Array2::zeros((3, 5));
    assert_error(
        data.read(0..3, rows.view_mut()),
        "NOT_FINITE",
        &["y.safetensors", "row 2, column 1 is NaN", "--skip-invalid"],
    );
    assert_error(data.read(3..6, rows.view_mut()), "NOT_FINITE", &["x.safetensors", "row 4, column 1"]);
    assert_eq!(select(&data, true).unwrap(), [0, 1, 3, 5]);
    // the norm is that of the hidden state
    let norm = |text: &str| data.select(&[text.parse().unwrap()], true, |_| true).unwrap().unwrap();
    assert_eq!(norm("norm<5.5").rows.iter().collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn a_fingerprint_is_of_the_target_too() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_npy(&path("x.npy"), [3, 2], &[1.0; 6]);
    write_npy(&path("y.npy"), [3, 2], &[1.0; 6]);
    write_npy(&path("z.npy"), [3, 2], &[2.0; 6]);
    let alone = open(&[path("x.npy").to_str().unwrap()]).unwrap().fingerprint().unwrap();
    let print = |target: &str| with_target(&path("x.npy"), &path(target)).unwrap().fingerprint().unwrap();
    assert_ne!(alone, print("y.npy"));
    assert_ne!(print("z.npy"), print("y.npy"));
    assert_eq!(print("y.npy"), print("y.npy"));
}

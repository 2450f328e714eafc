//! Files that numpy, PyTorch and pyarrow wrote (`tests/fixtures/make.py`): the same hidden states in all of them.

use std::fs;
use std::path::{Path, PathBuf};

use bae_data::{Column, EXTENSIONS, Source};
use ndarray::{Array2, s};
use tempfile::tempdir;

use crate::common::{assert_error, column, open, open_source, read_all};

const ROWS: usize = 37;

fn fixture(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    path.to_str().unwrap().to_owned()
}

fn expected() -> Array2<f32> {
    Array2::from_shape_fn((ROWS, 5), |(row, at)| (((row * 7 + at * 3) % 64) as f32 - 32.0) / 8.0)
}

#[track_caller]
fn assert_states(spec: &str, expected: Array2<f32>) -> Box<dyn Source> {
    let source = open_source(&fixture(spec)).unwrap();
    let mut all = Array2::zeros((source.rows(), source.d_in()));
    source.read(0, all.view_mut()).unwrap();
    assert_eq!(all, expected, "{spec}");
    // forwards in uneven steps, then backwards, then into an array that is not contiguous
    let mut start = 0;
    for step in [1, 3, 9, 1, 12, 2, 9] {
        let mut part = Array2::zeros((step, 5));
        source.read(start, part.view_mut()).unwrap();
        assert_eq!(part, expected.slice(s![start..start + step, ..]), "{spec} from {start}");
        start += step;
    }
    assert_eq!(start, ROWS);
    for start in (0..ROWS - 4).rev().step_by(5) {
        let mut part = Array2::zeros((5, 4));
        source.read(start, part.view_mut().reversed_axes()).unwrap();
        assert_eq!(part.t(), expected.slice(s![start..start + 4, ..]), "{spec} from {start}");
    }
    source
}

#[track_caller]
fn assert_columns(source: &dyn Source) {
    let expected = |f: fn(i64) -> i64| -> Vec<i64> { (0..ROWS as i64).map(f).collect() };
    let mut columns = source.columns();
    columns.sort();
    assert_eq!(columns, [Column::Token, Column::Position, Column::Sequence]);
    for (name, values) in [
        (Column::Token, expected(|row| row * 11 % 50)),
        (Column::Sequence, expected(|row| row / 10)),
        (Column::Position, expected(|row| row % 10)),
    ] {
        assert_eq!(column(source, name), values, "{}, {name}", source.name());
        for start in [30, 0, 9, 10, 25] {
            let mut part = [0; 7];
            source.read_column(name, start, &mut part).unwrap();
            assert_eq!(part, values[start..start + 7], "{}, {name} from {start}", source.name());
        }
    }
}

#[test]
fn npz() {
    assert_columns(&*assert_states("stored.npz", expected()));
    assert_columns(&*assert_states("deflated.npz", expected()));
    assert_eq!(open_source(&fixture("deflated.npz")).unwrap().name(), fixture("deflated.npz#hidden_states"));
    let source = assert_states("layers.npz#:layer=2", expected() + 2.0);
    assert_eq!(source.name(), fixture("layers.npz#x:layer=2"));
    assert_eq!(column(&*source, Column::Layer), [2; ROWS]);
    assert_error(open(&[&fixture("layers.npz")]), "SHAPE_MISMATCH", &["[37, 3, 5]", "layer=0 to layer=2"]);
    assert_eq!(open_source(&fixture("stored.npz#other")).unwrap().columns(), []);
    assert_error(
        open(&[&fixture("stored.npz#x")]),
        "INVALID_ARGUMENT",
        &["no tensor x", "hidden_states float16 [37, 5], other float64 [2, 2]"],
    );
    assert_error(
        open(&[&fixture("fortran_refused.npz")]),
        "UNSUPPORTED_FORMAT",
        &["#hidden_states", "Fortran", "ascontiguousarray"],
    );
    assert_error(open(&[&fixture("objects_refused.npz")]), "UNSUPPORTED_FORMAT", &["#x is of type |O"]);
}

#[test]
fn npz_that_was_deflated_lies() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.npz");
    let whole = fs::read(fixture("deflated.npz")).unwrap();
    // the size in the directory, one more and one less than the truth: local headers are not asked
    let size = (ROWS * 5 * 4 + 128) as u32;
    let places: Vec<usize> =
        (0..whole.len() - 4).filter(|&at| whole[at..at + 4] == size.to_le_bytes()).collect();
    let &directory = places.last().unwrap();
    for lie in [size - 1, size + 1, u32::MAX - 1, 100, 0] {
        let mut bytes = whole.clone();
        bytes[directory..directory + 4].copy_from_slice(&lie.to_le_bytes());
        fs::write(&path, bytes).unwrap();
        assert_error(open(&[path.to_str().unwrap()]), "CORRUPT_FILE", &["x.npz"]);
    }
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert_error(open(&[path.to_str().unwrap()]), "CORRUPT_FILE", &["x.npz is no intact zip archive"]);
}

#[test]
fn deflated_files_by_the_hundred_share_what_they_are_unpacked_to() {
    let dir = tempdir().unwrap();
    for file in 0..130 {
        fs::copy(fixture("deflated.npz"), dir.path().join(format!("{file:03}.npz"))).unwrap();
    }
    let data = open(&[dir.path().to_str().unwrap()]).unwrap();
    let all = read_all(&data).unwrap();
    for file in [0, 64, 129] {
        assert_eq!(all.slice(s![file * ROWS..(file + 1) * ROWS, ..]), expected(), "{file}");
    }
}

#[test]
fn pytorch() {
    let source = assert_states("tensor.pt", expected());
    assert_eq!((source.name(), source.columns()), (fixture("tensor.pt"), vec![]));
    assert_columns(&*assert_states("dict.pt", expected()));
    assert_columns(&*assert_states("protocol4.pth#hidden_states", expected()));
    assert_states("nested.pt#layers.0", expected());
    assert_states("nested.pt#layers.1", expected() + 1.0);
    assert_states("state_dict.bin", expected());
    assert_states("view.pt", expected());
    assert_states("layers.pt#:layer=1", expected() + 1.0);
    assert_error(
        open(&[&fixture("nested.pt")]),
        "UNSUPPORTED_FORMAT",
        &["layers.0 float32 [37, 5], layers.1 float64 [37, 5], more.ids int64 [37]", "nested.pt#layers.0"],
    );
    assert_error(open(&[&fixture("transposed_refused.pt")]), "UNSUPPORTED_FORMAT", &[".contiguous()"]);
    assert_error(
        open(&[&fixture("module_refused.pt")]),
        "UNSUPPORTED_FORMAT",
        &["torch.nn.modules.linear.Linear", "torch.save"],
    );
    assert_error(
        open(&[&fixture("legacy_refused.pt")]),
        "UNSUPPORTED_FORMAT",
        &["before 1.6", "torch.save(torch.load(path), path)"],
    );
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.pt");
    fs::copy(fixture("stored.npz"), &path).unwrap();
    assert_error(open(&[path.to_str().unwrap()]), "UNSUPPORTED_FORMAT", &["without a data.pkl"]);
    fs::copy(fixture("state_dict.bin"), dir.path().join("model.bin")).unwrap();
    fs::copy(fixture("dict.pt"), &path).unwrap();
    assert_eq!(open(&[dir.path().to_str().unwrap()]).unwrap().rows(), ROWS, "a .bin is taken only by name");
}

#[test]
fn parquet() {
    for (name, pieces) in [
        ("fixed_f32.parquet", vec![10, 10, 10, 7]),
        ("list_f16.parquet", vec![16, 16, 5]),
        ("fixed_f16.parquet", vec![37]),
        ("list_f64.parquet#hidden_states", vec![37]),
        ("split_f32.parquet", vec![37]),
        ("before.parquet", vec![20, 17]),
        ("gzip.parquet", vec![37]),
    ] {
        let source = assert_states(name, expected());
        assert_columns(&*source);
        assert_eq!(source.pieces(), pieces, "{name}");
    }
    let spec = fixture("before.parquet");
    assert_error(
        open(&[&format!("{spec}#x")]),
        "INVALID_ARGUMENT",
        &["no column x", "hidden_states (lists of float32)"],
    );
    assert_error(
        open(&[&format!("{spec}#token_ids")]),
        "UNSUPPORTED_FORMAT",
        &["#token_ids is no column of lists"],
    );
    assert_error(open(&[&format!("{spec}#:layer=1")]), "INVALID_ARGUMENT", &["leave :layer=1 away"]);
    assert_rows_refused(".parquet");
}

/// Row 6 of ten is the bad one.
fn assert_rows_refused(extension: &str) {
    let read = |name: &str| {
        open(&[&fixture(&format!("{name}_refused{extension}"))]).and_then(|data| read_all(&data))
    };
    for name in ["null_row_list", "null_row_fixed", "null_value_list", "null_value_fixed"] {
        assert_error(read(name), "UNSUPPORTED_FORMAT", &["#hidden_states: row 6", "null", "repair"]);
    }
    for name in ["ragged", "short"] {
        assert_error(read(name), "UNSUPPORTED_FORMAT", &["#hidden_states: row 6", "repair"]);
    }
    let path = fixture(&format!("null_column_refused{extension}"));
    let source = open_source(&path).unwrap();
    source.read(0, Array2::zeros((10, source.d_in())).view_mut()).unwrap();
    assert_error(
        source.read_column(Column::Position, 0, &mut [0; 10]),
        "UNSUPPORTED_FORMAT",
        &["column position: row 6", "null"],
    );
}

#[test]
fn arrow() {
    for (name, pieces) in [
        ("fixed_f32.arrow", vec![]),
        ("list_f16.ipc", vec![10, 10, 10, 7]),
        ("large_f64.arrow", vec![16, 16, 5]),
        ("before.arrow#hidden_states", vec![]),
        ("before_zstd.arrow", vec![20, 17]),
        ("stream.arrows", vec![]),
        ("stream.arrow", vec![10, 10, 10, 7]),
        ("lz4.feather", vec![37]),
        ("sliced.arrow", vec![]),
    ] {
        let source = assert_states(name, expected());
        assert_columns(&*source);
        assert_eq!(source.pieces(), pieces, "{name}");
    }
    let spec = fixture("before.arrow");
    assert_error(open(&[&format!("{spec}#text")]), "UNSUPPORTED_FORMAT", &["#text is no column of lists"]);
    assert_rows_refused(".arrow");
    assert_rows_refused("_lz4.arrow");
}

/// What is taken, what messages name and what the command line promises are three lists: they must say the same.
#[test]
fn all_lists_of_formats_agree() {
    let options = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/cli/options.ts");
    let help = fs::read_to_string(options).unwrap();
    let (_, help) = help.split_once("hidden states (").unwrap();
    let (help, _) = help.split_once(')').unwrap();
    let all: Vec<String> = EXTENSIONS.iter().map(|extension| format!(".{extension}")).collect();
    assert_eq!(help, all.join(", "));
    let dir = tempdir().unwrap();
    let (last, others) = all.split_last().unwrap();
    let named = format!("({} or {last})", others.join(", "));
    assert_error(open(&[dir.path().to_str().unwrap()]), "INVALID_ARGUMENT", &[&named]);
    for extension in EXTENSIONS {
        let path = dir.path().join(format!("x.{extension}"));
        fs::write(&path, b"nothing").unwrap();
        let error = open(&[dir.path().to_str().unwrap()]).unwrap_err();
        assert!(error.to_string().contains(&format!("x.{extension} is no intact ")), "{error}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn formats_stack() {
    let dir = tempdir().unwrap();
    let files = [
        "fixed_f32.parquet",
        "deflated.npz",
        "dict.pt",
        "stream.arrows",
        "list_f16.ipc",
        "lz4.feather",
        "sliced.arrow",
    ];
    for name in files {
        fs::copy(fixture(name), dir.path().join(name)).unwrap();
    }
    let data = open(&[dir.path().to_str().unwrap()]).unwrap();
    let all = read_all(&data).unwrap();
    assert_eq!(all.nrows(), ROWS * files.len());
    for part in all.axis_chunks_iter(ndarray::Axis(0), ROWS) {
        assert_eq!(part, expected());
    }
}

/// Several readers jump about in what is decoded from a place that they share.
#[test]
fn threads_share_a_decoder() {
    for name in ["fixed_f32.parquet", "list_f16.ipc"] {
        let source = open_source(&fixture(name)).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let source = &source;
                scope.spawn(move || {
                    for step in 0..200 {
                        let start = (step * 7 + thread * 5) % 30;
                        let mut out = Array2::zeros((7, 5));
                        source.read(start, out.view_mut()).unwrap();
                        assert_eq!(out, expected().slice(s![start..start + 7, ..]), "{name}");
                    }
                });
            }
        });
    }
}

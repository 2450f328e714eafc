use std::fs;
use std::path::Path;

use bae_data::{Column, Dataset};
use ndarray::{Array2, Array3, s};
use proptest::prelude::*;
use safetensors::Dtype;
use tempfile::tempdir;

use crate::common::{
    assert_error, column, f32_bytes, npy_bytes, open, open_path, open_source, read_all, write_npy,
    write_safetensors,
};

fn i64_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn columns_of_the_bundled_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/tokens/layer20.safetensors");
    let source = open_source(path.to_str().unwrap()).unwrap();
    let mut columns = source.columns();
    columns.sort();
    assert_eq!(columns, [Column::Token, Column::Position, Column::Sequence]);
    let (position, sequence) = (column(&*source, Column::Position), column(&*source, Column::Sequence));
    assert_eq!((position.len(), sequence[0], *sequence.last().unwrap()), (9708, 0, 511));
    // a position starts again where a sequence ends, and only there
    for row in 1..position.len() {
        let expected = if sequence[row] == sequence[row - 1] { position[row - 1] + 1 } else { 0 };
        assert_eq!(position[row], expected, "row {row}");
    }
    assert!(column(&*source, Column::Token).iter().all(|&token| (0..49152).contains(&token)));
    assert_eq!(source.size(), fs::metadata(&path).unwrap().len());
}

#[test]
fn every_type_of_whole_number_is_a_column() {
    let dir = tempdir().unwrap();
    let types: [(Dtype, &str, usize, bool); 8] = [
        (Dtype::I8, "|i1", 1, true),
        (Dtype::I16, "<i2", 2, true),
        (Dtype::I32, "<i4", 4, true),
        (Dtype::I64, "<i8", 8, true),
        (Dtype::U8, "|u1", 1, false),
        (Dtype::U16, "<u2", 2, false),
        (Dtype::U32, "<u4", 4, false),
        (Dtype::U64, "<u8", 8, false),
    ];
    for (dtype, descr, width, signed) in types {
        let bits = 8 * width as u32;
        let max =
            if signed { i64::MAX >> (64 - bits) } else { (u64::MAX >> (64 - bits)).min(1 << 62) as i64 };
        let min = if signed { -max - 1 } else { 0 };
        let values = [min, 0, 1, max, max / 3];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()[..width].to_vec()).collect();
        let states = [0; 20];
        let tensors = [("x", Dtype::F32, &[5, 1][..], &states[..]), ("group_id", dtype, &[5], &bytes)];
        write_safetensors(&dir.path().join("x.safetensors"), &tensors);
        write_npy(&dir.path().join("y.npy"), [5, 1], &[0.0; 5]);
        fs::write(dir.path().join("y.group.npy"), npy_bytes(1, descr, "False", "(5,)", &bytes)).unwrap();
        for file in ["x.safetensors", "y.npy"] {
            let source = open_source(dir.path().join(file).to_str().unwrap()).unwrap();
            assert_eq!(column(&*source, Column::Group), values, "{dtype} in {file}");
            let mut two = [0; 2];
            source.read_column(Column::Group, 3, &mut two).unwrap();
            assert_eq!(two, values[3..], "{dtype} in {file}");
        }
        assert_eq!(open_path(dir.path()).unwrap().rows(), 10, "the column is no hidden state");
    }
    let bytes: Vec<u8> = [3, u64::MAX].iter().flat_map(|value| value.to_le_bytes()).collect();
    let tensors = [("x", Dtype::F32, &[2, 1][..], &[0; 8][..]), ("token", Dtype::U64, &[2], &bytes)];
    write_safetensors(&dir.path().join("x.safetensors"), &tensors);
    let source = open_source(dir.path().join("x.safetensors").to_str().unwrap()).unwrap();
    let mut first = [0];
    source.read_column(Column::Token, 0, &mut first).unwrap();
    assert_eq!(first, [3]);
    assert_error(
        source.read_column(Column::Token, 1, &mut first),
        "UNSUPPORTED_FORMAT",
        &["x.safetensors, column token: row 1 is 18446744073709551615"],
    );
}

#[test]
fn columns_that_do_not_fit() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let result = |tensors: &[(&str, Dtype, &[usize])]| {
        let zeros = [0; 200];
        let sized: Vec<_> = tensors
            .iter()
            .map(|&(name, dtype, shape)| {
                (name, dtype, shape, &zeros[..shape.iter().product::<usize>() * dtype.bitsize() / 8])
            })
            .collect();
        write_safetensors(&path, &sized);
        open_source(path.to_str().unwrap())
    };
    let states = ("x", Dtype::F32, &[3, 2][..]);
    for shape in [&[4][..], &[3, 1], &[]] {
        let source = result(&[states, ("token_ids", Dtype::I64, shape), ("group", Dtype::U8, &[3])]).unwrap();
        assert_eq!(source.columns(), [Column::Group], "{shape:?}");
        assert_error(
            Dataset::new(vec![source]).unwrap().read_column(Column::Token, 0..3, &mut [0; 3]),
            "INVALID_ARGUMENT",
            &[
                "has no column token, only group",
                "one whole number a row, under one of the names token, token_ids",
            ],
        );
    }
    // numbers of another kind, or under a name that says nothing, are no columns
    let others = [states, ("token_ids", Dtype::F32, &[3]), ("loss_mask", Dtype::U8, &[7])];
    assert_eq!(result(&others).unwrap().columns(), []);
    write_npy(&dir.path().join("y.npy"), [2, 1], &[0.0; 2]);
    let columns = || open_source(dir.path().join("y.npy").to_str().unwrap()).unwrap().columns();
    let beside = dir.path().join("y.token_ids.npy");
    for (descr, shape, bytes) in [("<f4", "(2, 1)", 8), ("<i8", "(3,)", 24), ("<U2", "(2,)", 16)] {
        fs::write(&beside, npy_bytes(1, descr, "False", shape, &vec![0; bytes])).unwrap();
        assert_eq!(columns(), [], "{descr} {shape}");
    }
    fs::write(&beside, npy_bytes(1, "<i4", "True", "(2, 2)", &[0; 16])).unwrap();
    assert_eq!(columns(), [], "Fortran order");
    fs::write(&beside, npy_bytes(1, "<i8", "False", "(2,)", &[0; 16])).unwrap();
    assert_eq!(columns(), [Column::Token]);
    // without y.npy it is a file like any other
    fs::rename(dir.path().join("y.npy"), dir.path().join("z.npy")).unwrap();
    write_npy(&dir.path().join("y.position.npy"), [1, 1], &[0.0]);
    assert_eq!(open_path(&dir.path().join("y.position.npy")).unwrap().rows(), 1);
}

#[test]
fn one_layer_of_a_request_dump() {
    let dir = tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let states = |first: usize, rows: usize| {
        Array3::from_shape_fn((rows, 3, 5), |(row, layer, at)| (first + row * 100 + layer * 10 + at) as f32)
    };
    let files = [("a", states(0, 4)), ("b", states(1000, 0)), ("c", states(2000, 2))];
    for (name, values) in &files {
        let rows = values.dim().0;
        let tokens: Vec<i64> = (0..rows as i64).map(|row| 7 * row).collect();
        let (values, tokens) = (f32_bytes(values.as_slice().unwrap()), i64_bytes(&tokens));
        let tensors = [
            ("hidden_states", Dtype::F32, &[rows, 3, 5][..], &values[..]),
            ("token_ids", Dtype::I64, &[rows], &tokens),
        ];
        write_safetensors(&dir.path().join(format!("{name}.safetensors")), &tensors);
    }
    for layer in 0..3 {
        let expected = ndarray::concatenate![
            ndarray::Axis(0),
            files[0].1.slice(s![.., layer, ..]),
            files[2].1.slice(s![.., layer, ..])
        ];
        for spec in ["#hidden_states:layer=", "#:layer=", "/*#hidden_states:layer="] {
            let data = open(&[&format!("{root}{spec}{layer}")]).unwrap();
            assert_eq!(read_all(&data).unwrap(), expected, "{spec}{layer}");
        }
    }
    let source = open_source(&format!("{root}/a.safetensors#:layer=2")).unwrap();
    assert_eq!(source.name(), format!("{root}/a.safetensors#hidden_states:layer=2"));
    assert_eq!(column(&*source, Column::Token), [0, 7, 14, 21]);
    assert_eq!(column(&*source, Column::Position), [0, 1, 2, 3]);
    assert_eq!(column(&*source, Column::Layer), [2; 4]);
    // FNV-1a of the name, 63 bits: models and selections made on one machine must hold on another
    assert_eq!(column(&*source, Column::Sequence), [fnv1a_63(b"a.safetensors"); 4]);
    assert_eq!(fnv1a_63(b"a"), (0xaf63_dc4c_8601_ec8c_u64 >> 1) as i64);
    let mut two = [0; 2];
    source.read_column(Column::Position, 2, &mut two).unwrap();
    assert_eq!(two, [2, 3]);
    let mut transposed = Array2::zeros((5, 2));
    source.read(1, transposed.view_mut().reversed_axes()).unwrap();
    assert_eq!(transposed.t(), files[0].1.slice(s![1..3, 2, ..]));

    let spec = |suffix: &str| open(&[&format!("{root}/a.safetensors{suffix}")]);
    let choices = ["[4, 3, 5]", "a.safetensors#hidden_states:layer=0 to layer=2"];
    assert_error(spec(""), "SHAPE_MISMATCH", &choices);
    assert_error(spec("#hidden_states"), "SHAPE_MISMATCH", &choices);
    assert_error(spec("#hidden_states:layer=3"), "INVALID_ARGUMENT", &["no layer 3", choices[0], choices[1]]);
    for layer in ["x", "-1", "", "18446744073709551616"] {
        assert_error(spec(&format!("#:layer={layer}")), "INVALID_ARGUMENT", &["numbered 0, 1, 2"]);
    }
    write_npy(&dir.path().join("flat.npy"), [2, 3], &[0.0; 6]);
    assert_error(open(&[&format!("{root}/flat.npy#:layer=0")]), "INVALID_ARGUMENT", &["leave :layer=0 away"]);
    write_safetensors(&dir.path().join("none.safetensors"), &[("x", Dtype::F32, &[2, 0, 3], &[])]);
    for suffix in ["", "#:layer=0"] {
        let spec = format!("{root}/none.safetensors{suffix}");
        assert_error(open(&[&spec]), "SHAPE_MISMATCH", &["[2, 0, 3]", "no layer"]);
    }
    write_safetensors(
        &dir.path().join("vast.safetensors"),
        &[("x", Dtype::F32, &[0, 1 << 40, 1 << 40], &[])],
    );
    let vast = format!("{root}/vast.safetensors#:layer=0");
    assert_error(open(&[&vast]), "SHAPE_MISMATCH", &["larger than memory"]);
}

fn fnv1a_63(bytes: &[u8]) -> i64 {
    let mut hash: u64 = 0xcbf29ce484222325;
    for &byte in bytes {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x100000001b3);
    }
    (hash >> 1) as i64
}

/// What prompts, layers and batches are called as well is no column of one number a row.
#[test]
fn tensors_of_other_shapes_that_go_by_the_name_of_a_column() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let ids = i64_bytes(&(0..30).collect::<Vec<_>>());
    let tensors = [
        ("hidden_states", Dtype::F32, &[30, 4, 2][..], &[0; 960][..]),
        ("input_ids", Dtype::I64, &[3, 10], &ids),
        ("layer", Dtype::I64, &[], &ids[..8]),
        ("position_ids", Dtype::I64, &[30], &ids),
    ];
    write_safetensors(&path, &tensors);
    let source = open_source(&format!("{}#hidden_states:layer=1", path.display())).unwrap();
    assert!(!source.columns().contains(&Column::Token));
    assert_eq!(column(&*source, Column::Layer), [1; 30]);
    assert_eq!(column(&*source, Column::Position), (0..30).collect::<Vec<_>>());
}

/// Of several names for one column the first in the list counts, if it fits.
#[test]
fn two_names_for_one_column() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let (ours, theirs) = (i64_bytes(&[1, 2]), i64_bytes(&[3, 4]));
    let tokens = |first: &[usize]| {
        let tensors = [
            ("x", Dtype::F32, &[2, 1][..], &[0; 8][..]),
            ("input_ids", Dtype::I64, &[2], &theirs),
            ("token_ids", Dtype::I64, first, &ours),
        ];
        write_safetensors(&path, &tensors);
        column(&*open_source(path.to_str().unwrap()).unwrap(), Column::Token)
    };
    assert_eq!(tokens(&[2]), [1, 2]);
    assert_eq!(tokens(&[1, 2]), [3, 4]);
    write_npy(&dir.path().join("y.npy"), [2, 1], &[0.0; 2]);
    for (name, bytes) in [("input_ids", &theirs), ("token", &ours)] {
        let beside = dir.path().join(format!("y.{name}.npy"));
        fs::write(beside, npy_bytes(1, "<i8", "False", "(2,)", bytes)).unwrap();
    }
    let source = open_source(dir.path().join("y.npy").to_str().unwrap()).unwrap();
    assert_eq!(column(&*source, Column::Token), [1, 2]);
}

/// Columns of the file itself come before what its name and shape say.
#[test]
fn a_request_dump_may_bring_its_own_columns() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let (sequence, position) = (i64_bytes(&[8, 9]), i64_bytes(&[5, 6]));
    let tensors = [
        ("states", Dtype::F32, &[2, 2, 1][..], &f32_bytes(&[0.0, 1.0, 2.0, 3.0])[..]),
        ("sequence_id", Dtype::I64, &[2], &sequence),
        ("position_ids", Dtype::I64, &[2], &position),
    ];
    write_safetensors(&path, &tensors);
    let source = open_source(&format!("{}#:layer=1", path.display())).unwrap();
    assert_eq!(column(&*source, Column::Sequence), [8, 9]);
    assert_eq!(column(&*source, Column::Position), [5, 6]);
    assert_eq!(column(&*source, Column::Layer), [1, 1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Strided rows, over the sizes where several spans or single rows are read.
    #[test]
    fn any_rows_of_any_layer(
        rows in 1usize..40,
        (layers, layer) in (1usize..6).prop_flat_map(|layers| (Just(layers), 0..layers)),
        d_in in prop_oneof![1usize..9, Just(5_000), Just(30_000)],
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("x.npy");
        let values = Array3::from_shape_fn((rows, layers, d_in), |(r, l, d)| (r * 7 + l * 1000 + d) as f32);
        let shape = format!("({rows}, {layers}, {d_in})");
        fs::write(&path, npy_bytes(1, "<f4", "False", &shape, &f32_bytes(values.as_slice().unwrap()))).unwrap();
        let data = open(&[&format!("{}#:layer={layer}", path.display())]).unwrap();
        let (from, to) = (from.index(rows), to.index(rows));
        let range = from.min(to)..from.max(to) + 1;
        let mut out = Array2::zeros((range.len(), d_in));
        data.read(range.clone(), out.view_mut()).unwrap();
        prop_assert_eq!(out, values.slice(s![range, layer, ..]));
    }
}

/// A stack of hundreds of dumps, each opened when it is read.
#[test]
fn columns_of_files_that_are_not_held_open() {
    let dir = tempdir().unwrap();
    for file in 0..120 {
        let path = dir.path().join(format!("{file:03}.npy"));
        write_npy(&path, [1, 1], &[file as f32]);
        fs::write(
            path.with_extension("token.npy"),
            npy_bytes(1, "<i8", "False", "(1,)", &i64_bytes(&[file])),
        )
        .unwrap();
    }
    let data = open_path(dir.path()).unwrap();
    assert_eq!(data.rows(), 120);
    assert_eq!(read_all(&data).unwrap()[(119, 0)], 119.0);
}

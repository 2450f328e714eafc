use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bae_data::{DataError, Dataset, MemorySource, Source, check_finite};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, ArrayViewMut2, array, s};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::Dtype;
use tempfile::tempdir;

use crate::common::{
    assert_error, f32_bytes, npy_bytes, open, open_path, read_all, safetensors_bytes, write_npy,
    write_safetensors, write_states,
};

#[test]
fn every_type_of_number_is_read() {
    let dir = tempdir().unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let (rows, d_in) = (331, 457); // more values than are decoded at once
    let bits: Vec<u32> = (0..rows * d_in).map(|_| random.random()).collect();
    let half: Vec<f16> = bits.iter().map(|&b| f16::from_bits(b as u16 & 0xfbff)).collect();
    let brain: Vec<bf16> = bits.iter().map(|&b| bf16::from_bits(b as u16 & 0xff7f)).collect();
    let single: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b & 0xff7f_ffff)).collect();
    let double: Vec<f64> = single.iter().map(|&v| f64::from(v) * (1.0 + 1e-9)).collect();
    let half_bytes: Vec<u8> = half.iter().flat_map(|v| v.to_le_bytes()).collect();
    let brain_bytes: Vec<u8> = brain.iter().flat_map(|v| v.to_le_bytes()).collect();
    let double_bytes: Vec<u8> = double.iter().flat_map(|v| v.to_le_bytes()).collect();

    let check = |name: &str, file: Vec<u8>, expected: Vec<f32>| {
        let path = dir.path().join(name);
        fs::write(&path, file).unwrap();
        let data = open_path(&path).unwrap();
        let expected = Array2::from_shape_vec((rows, d_in), expected).unwrap();
        assert_eq!(read_all(&data).unwrap().mapv(f32::to_bits), expected.mapv(f32::to_bits), "{name}");
    };
    let halves: Vec<f32> = half.iter().map(|v| v.to_f32()).collect();
    let brains: Vec<f32> = brain.iter().map(|v| v.to_f32()).collect();
    let doubles: Vec<f32> = double.iter().map(|&v| v as f32).collect();
    let safetensors = |dtype, bytes: &[u8]| safetensors_bytes(&[("x", dtype, &[rows, d_in], bytes)]);
    check("f16.safetensors", safetensors(Dtype::F16, &half_bytes), halves.clone());
    check("bf16.safetensors", safetensors(Dtype::BF16, &brain_bytes), brains);
    check("f32.safetensors", safetensors(Dtype::F32, &f32_bytes(&single)), single.clone());
    check("f64.safetensors", safetensors(Dtype::F64, &double_bytes), doubles.clone());
    check("f2.npy", npy_bytes(1, "<f2", "False", "(331, 457)", &half_bytes), halves);
    check("f4.npy", npy_bytes(2, "<f4", "False", "(331, 457)", &f32_bytes(&single)), single);
    check("f8.NPY", npy_bytes(3, "<f8", "False", "(331, 457)", &double_bytes), doubles);
}

#[test]
fn files_stack_and_rows_come_in_any_order() {
    let dir = tempdir().unwrap();
    let mut expected = Array2::zeros((0, 3));
    for (file, rows) in
        [("a.safetensors", 5), ("b.npy", 0), ("c.npy", 1), ("d.safetensors", 11), ("e.npy", 0)]
    {
        let start = expected.nrows();
        let values = Array2::from_shape_fn((rows, 3), |(row, column)| ((start + row) * 10 + column) as f32);
        expected.append(ndarray::Axis(0), values.view()).unwrap();
        let write = if file.ends_with("npy") { write_npy } else { write_states };
        write(&dir.path().join(file), [rows, 3], values.as_slice().unwrap());
    }
    let data = open_path(dir.path()).unwrap();
    assert_eq!((data.rows(), data.d_in()), (17, 3));
    assert_eq!(read_all(&data).unwrap(), expected);
    for start in 0..17 {
        for end in start..=17 {
            let mut out = Array2::zeros((end - start, 3));
            data.read(start..end, out.view_mut()).unwrap();
            assert_eq!(out, expected.slice(s![start..end, ..]));
        }
    }

    let (name, row) = data.locate(5);
    assert!(name.ends_with("c.npy") && row == 0, "{name} {row}");
    let (name, row) = data.locate(16);
    assert!(name.ends_with("d.safetensors#states") && row == 10, "{name} {row}");
    let mut out = Array2::zeros((1, 3));
    assert_error(data.read(17..18, out.view_mut()), "INVALID_ARGUMENT", &["row 17", "has 17"]);
}

#[test]
fn rows_can_go_into_part_of_a_larger_array() {
    let dir = tempdir().unwrap();
    write_states(&dir.path().join("a.safetensors"), [2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let data = open_path(dir.path()).unwrap();
    let mut out = Array2::zeros((4, 5));
    data.read(0..2, out.slice_mut(s![..;2, 1..;2])).unwrap();
    assert_eq!(out.slice(s![..;2, 1..;2]), array![[1.0, 2.0], [3.0, 4.0]]);
    assert_eq!(out.sum(), 10.0);
}

#[test]
fn threads_read_at_once() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.npy");
    let values: Vec<f32> = (0..64 * 1000).map(|value| value as f32).collect();
    write_npy(&path, [1000, 64], &values);
    let data = Arc::new(open_path(&path).unwrap());
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let data = data.clone();
            scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut out = Array2::zeros((7, 64));
                for _ in 0..300 {
                    let start = random.random_range(0..=993);
                    data.read(start..start + 7, out.view_mut()).unwrap();
                    assert_eq!(out[(6, 63)], ((start + 6) * 64 + 63) as f32);
                }
            });
        }
    });
}

#[test]
fn paths_folders_patterns_and_tensor_names() {
    let dir = tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let spec = |name: &str| format!("{root}/{name}");
    let first_values = |specs: &[&str]| -> Vec<f32> {
        let specs: Vec<String> = specs.iter().map(|name| spec(name)).collect();
        let data = Dataset::open(&specs).unwrap();
        read_all(&data).unwrap().column(0).to_vec()
    };
    let write = |name: &str, value: f32| write_npy(&dir.path().join(name), [1, 1], &[value]);
    write("10.npy", 10.0);
    write("2.npy", 2.0);
    write("1[x].npy", 7.0);
    write("1x.npy", 8.0);
    write("a#b.npy", 9.0);
    write(".hidden.npy", f32::NAN);
    fs::write(dir.path().join("notes.txt"), "no data").unwrap();
    fs::create_dir(dir.path().join("deeper.npy")).unwrap();
    assert_eq!(first_values(&[""]), [10.0, 7.0, 8.0, 2.0, 9.0], "a folder, by name");
    assert_eq!(first_values(&["2.npy", "10.npy", "2.npy"]), [2.0, 10.0, 2.0], "files, in the order given");
    assert_eq!(first_values(&["1*.npy"]), [10.0, 7.0, 8.0], "a pattern, by name");
    assert_eq!(first_values(&["1[x].npy"]), [7.0], "what exists is no pattern");
    assert_eq!(first_values(&["a#b.npy"]), [9.0], "what exists has no tensor name");

    fs::create_dir(dir.path().join("layers")).unwrap();
    for file in 0..2 {
        let (first, second) = (f32_bytes(&[file as f32]), f32_bytes(&[file as f32 + 10.0]));
        let tensors =
            [("layer1", Dtype::F32, &[1, 1][..], &first[..]), ("layer#2", Dtype::F32, &[1, 1], &second)];
        write_safetensors(&dir.path().join(format!("layers/{file}.safetensors")), &tensors);
    }
    assert_eq!(first_values(&["layers#layer1"]), [0.0, 1.0]);
    assert_eq!(first_values(&["layers/*#layer1", "layers/1.safetensors#layer1"]), [0.0, 1.0, 1.0]);

    assert_error(open(&[]), "INVALID_ARGUMENT", &["no hidden states given"]);
    assert_error(open(&[""]), "INVALID_ARGUMENT", &["check the pattern"]);
    assert_error(open(&[&spec("nothing*.npy")]), "INVALID_ARGUMENT", &["nothing*.npy", "check the pattern"]);
    assert_error(open(&[&spec("*.txt")]), "INVALID_ARGUMENT", &["*.txt"]);
    assert_error(open(&[&spec("[.npy")]), "INVALID_ARGUMENT", &["[.npy", "correct it"]);
    assert_error(
        open(&[&spec("deeper.npy")]),
        "INVALID_ARGUMENT",
        &["deeper.npy holds no file of hidden states", ".safetensors"],
    );
    assert_error(open(&[&spec("missing.npy")]), "IO", &["missing.npy", "name a file"]);
    assert_error(open(&[&spec("missing.npy#x")]), "IO", &["missing.npy", "name a file"]);
    assert_error(open(&[&spec("notes.txt")]), "UNSUPPORTED_FORMAT", &["notes.txt", "convert it"]);
    assert_error(open(&[&spec("2.npy#x")]), "INVALID_ARGUMENT", &["2.npy holds one array", "leave #x away"]);
    let listing = "layer#2 F32 [1, 1], layer1 F32 [1, 1]";
    assert_error(
        open(&[&spec("layers#layer3")]),
        "INVALID_ARGUMENT",
        &["0.safetensors has no tensor layer3", listing],
    );
    assert_error(
        open(&[&spec("layers")]),
        "UNSUPPORTED_FORMAT",
        &["several tensors", listing, "0.safetensors#layer#2"],
    );
}

#[test]
fn the_tensor_is_found_or_the_choice_is_shown() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let bytes = [0; 48];
    let result = |tensors: &[(&str, Dtype, &[usize])]| {
        let sized: Vec<_> = tensors
            .iter()
            .map(|&(name, dtype, shape)| {
                (name, dtype, shape, &bytes[..shape.iter().product::<usize>() * dtype.bitsize() / 8])
            })
            .collect();
        write_safetensors(&path, &sized);
        open_path(&path)
    };
    let ids = ("token_ids", Dtype::I64, &[3][..]);
    let pairs = ("token_pairs", Dtype::I32, &[3, 2][..]);
    assert_eq!(result(&[ids, pairs, ("x", Dtype::F16, &[3, 2])]).unwrap().rows(), 3);
    let several = [("hidden_states", Dtype::BF16, &[4, 2][..]), ("other", Dtype::F32, &[3, 2])];
    assert_eq!(result(&several).unwrap().rows(), 4);
    let unsure = [("a", Dtype::BF16, &[4, 2][..]), ("b", Dtype::F32, &[3, 2])];
    assert_error(result(&unsure), "UNSUPPORTED_FORMAT", &["a BF16 [4, 2]", "b F32 [3, 2]", "x.safetensors#"]);
    assert_error(result(&[ids, pairs]), "UNSUPPORTED_FORMAT", &["no float tensor", "token_ids I64 [3]"]);
    assert_error(result(&[]), "UNSUPPORTED_FORMAT", &["only nothing"]);
    let many: Vec<String> = (0..20).map(|at| format!("t{at:02}")).collect();
    let many: Vec<_> = many.iter().map(|name| (&name[..], Dtype::F32, &[1, 1][..])).collect();
    assert_error(result(&many), "UNSUPPORTED_FORMAT", &["t00 F32 [1, 1]", "t07", "12 more"]);

    // a dump of several layers: taking another tensor silently would be worse than saying so
    let layers = [("hidden_states", Dtype::F16, &[2, 3, 2][..]), ("logits", Dtype::F16, &[2, 2])];
    assert_error(
        result(&layers),
        "SHAPE_MISMATCH",
        &["x.safetensors#hidden_states has shape [2, 3, 2]", "#hidden_states:layer=0 to layer=2"],
    );
    let explicit = |name: &str| open(&[&format!("{}#{name}", path.display())]);
    assert_eq!(explicit("logits").unwrap().d_in(), 2);
    result(&[("row", Dtype::F32, &[3])]).unwrap_err();
    assert_error(explicit("row"), "SHAPE_MISMATCH", &["x.safetensors#row has shape [3]", "[rows, d_in]"]);
    result(&[pairs]).unwrap_err();
    assert_error(
        explicit("token_pairs"),
        "UNSUPPORTED_FORMAT",
        &["token_pairs is of type I32", "convert it"],
    );
}

#[test]
fn what_is_not_finite_is_named() {
    let dir = tempdir().unwrap();
    let mut values = vec![1.0; 6 * 40];
    write_states(&dir.path().join("a.safetensors"), [40, 6], &values);
    values[17 * 6 + 4] = f32::NAN;
    write_states(&dir.path().join("b.safetensors"), [40, 6], &values);
    values[17 * 6 + 4] = 1.0;
    values[39 * 6 + 5] = f32::NEG_INFINITY;
    write_npy(&dir.path().join("c.npy"), [40, 6], &values);
    let large: Vec<u8> = [1.0, 1e39f64, 2.0, 3.0, 4.0, 5.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(dir.path().join("d.npy"), npy_bytes(1, "<f8", "False", "(1, 6)", &large)).unwrap();
    let data = open_path(dir.path()).unwrap();

    let mut out = Array2::zeros((3, 6));
    assert!(data.read(54..57, out.view_mut()).is_ok());
    let at = ["b.safetensors#states: row 17, column 4 is NaN", "remove or repair"];
    assert_error(read_all(&data), "NOT_FINITE", &at);
    assert_error(data.read(118..121, out.view_mut()), "NOT_FINITE", &["c.npy: row 39"]);
    let mut out = Array2::zeros((1, 6));
    assert_error(
        data.read(120..121, out.view_mut()),
        "NOT_FINITE",
        &["d.npy: row 0, column 1 is inf", "32-bit"],
    );
    match data.read(57..58, out.view_mut()) {
        Err(DataError::NotFinite { name, row: 17, column: 4, value, .. }) => {
            assert!(value.is_nan() && name.ends_with("b.safetensors#states"));
        }
        other => panic!("{other:?}"),
    }

    let memory = MemorySource::new("batch 3", vec![0.0, f32::INFINITY], 1).unwrap();
    let data = Dataset::new(vec![Box::new(memory)]).unwrap();
    assert_error(read_all(&data), "NOT_FINITE", &["batch 3: row 1, column 0 is inf"]);
    let largest = [[f32::MAX, f32::MIN, -0.0, 1e-45]];
    assert!(check_finite(ArrayView2::from(&largest), "x", 0).is_ok());
    let strided = array![[0.0, 1.0], [2.0, f32::NAN]];
    let column = strided.slice(s![.., 1..]);
    assert_error(check_finite(column, "x", 10), "NOT_FINITE", &["x: row 11, column 0 is NaN"]);
}

#[test]
fn what_does_not_fit_is_named() {
    let dir = tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write_npy(&path("a.npy"), [2, 3], &[0.0; 6]);
    write_states(&path("b.safetensors"), [2, 4], &[0.0; 8]);
    assert_error(
        open_path(dir.path()),
        "SHAPE_MISMATCH",
        &["a.npy", "width 3", "b.safetensors#states", "width 4"],
    );
    let data = open_path(&path("a.npy")).unwrap();
    assert!(data.require_d_in(3, "model m").is_ok());
    assert_error(
        data.require_d_in(4, "model m"),
        "SHAPE_MISMATCH",
        &["a.npy", "width 3", "model m takes width 4"],
    );

    write_npy(&path("empty.npy"), [0, 3], &[]);
    assert_error(open_path(&path("empty.npy")), "INVALID_ARGUMENT", &["empty.npy: no rows"]);
    let twice = path("empty.npy").to_str().unwrap().to_owned();
    assert_error(
        Dataset::open(&[twice.clone(), twice]),
        "INVALID_ARGUMENT",
        &["empty.npy and 1 more: no rows"],
    );
    // any number of rows of no width fit into no bytes
    fs::write(path("flat.npy"), npy_bytes(1, "<f4", "False", "(1000000000000000000, 0)", &[])).unwrap();
    assert_error(open_path(&path("flat.npy")), "SHAPE_MISMATCH", &["flat.npy", "width of at least 1"]);
    write_safetensors(&path("flat.safetensors"), &[("x", Dtype::F32, &[1 << 60, 0], &[])]);
    assert_error(open_path(&path("flat.safetensors")), "SHAPE_MISMATCH", &["width of at least 1"]);
    assert_error(Dataset::new(Vec::new()), "INVALID_ARGUMENT", &["no hidden states"]);
    assert_error(MemorySource::new("m", vec![0.0; 5], 3), "SHAPE_MISMATCH", &["m: 5 values", "width 3"]);
    assert_error(MemorySource::new("m", Vec::new(), 0), "SHAPE_MISMATCH", &["width 0"]);
    let empty = MemorySource::new("m", Vec::new(), 2).unwrap();
    assert_error(Dataset::new(vec![Box::new(empty)]), "INVALID_ARGUMENT", &["m: no rows"]);
}

#[test]
fn npy_files_of_another_kind_say_how_to_convert_them() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.npy");
    let result = |bytes: Vec<u8>| {
        fs::write(&path, bytes).unwrap();
        open_path(&path)
    };
    let six = [0; 24];
    let npy = |descr, order, shape| npy_bytes(1, descr, order, shape, &six);
    assert!(result(npy("<f4", "False", "(2, 3)")).is_ok());
    assert!(result(npy_bytes(1, "<f4", "False", "(2, 3,)", &six)).is_ok());
    assert_error(result(npy("<f4", "True", "(2, 3)")), "UNSUPPORTED_FORMAT", &["x.npy", "ascontiguousarray"]);
    assert_error(
        result(npy(">f4", "False", "(2, 3)")),
        "UNSUPPORTED_FORMAT",
        &["big-endian", "astype('<f4')"],
    );
    assert_error(result(npy("<i4", "False", "(2, 3)")), "UNSUPPORTED_FORMAT", &["\"<i4\"", "astype('<f4')"]);
    assert_error(
        result(npy("<f4", "False", "(6,)")),
        "SHAPE_MISMATCH",
        &["x.npy has shape [6]", "[rows, d_in]"],
    );
    assert_error(result(npy("<f4", "False", "(1, 2, 3)")), "SHAPE_MISMATCH", &["[1, 2, 3]"]);
    assert_error(result(npy_bytes(1, "<f4", "False", "()", &[0; 4])), "SHAPE_MISMATCH", &["shape []"]);
    assert_error(result(npy("<f4", "False", "(2, 4)")), "CORRUPT_FILE", &["shape [2, 4]", "24 bytes"]);
    assert_error(result(npy("<f4", "False", "(1, 3)")), "CORRUPT_FILE", &["shape [1, 3]", "24 bytes"]);
    let structured = String::from_utf8(npy("<f4", "False", "(2, 3)")[10..].to_vec()).unwrap();
    let structured = structured.replace("'<f4'", "[('a', '<f4')]");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((structured.len() as u16).to_le_bytes());
    bytes.extend(structured.as_bytes());
    assert_error(result(bytes), "CORRUPT_FILE", &["none of a plain array"]);
    let mut newer = npy("<f4", "False", "(2, 3)");
    newer[6] = 4;
    assert_error(result(newer), "UNSUPPORTED_FORMAT", &["version 4"]);
    assert_error(result(b"PK\x03\x04 zipped".to_vec()), "CORRUPT_FILE", &["does not start as one"]);
}

#[test]
fn files_cut_anywhere_are_corrupt() {
    let dir = tempdir().unwrap();
    let safetensors = safetensors_bytes(&[("x", Dtype::F32, &[2, 3], &[0; 24])]);
    let npy = npy_bytes(1, "<f4", "False", "(2, 3)", &[0; 24]);
    for (name, whole) in [("x.safetensors", safetensors), ("x.npy", npy)] {
        let path = dir.path().join(name);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_error(open_path(&path), "CORRUPT_FILE", &[name, "make or copy it again"]);
        }
        fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert_error(open_path(&path), "CORRUPT_FILE", &[name]);
        fs::write(&path, &whole).unwrap();
        let data = open_path(&path).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(whole.len() as u64 - 1).unwrap();
        assert_error(read_all(&data), "CORRUPT_FILE", &[name, "truncated"]);
    }
}

#[test]
fn more_files_than_a_process_may_hold_open() {
    let dir = tempdir().unwrap();
    for file in 0..150u32 {
        write_npy(&dir.path().join(format!("{file:03}.npy")), [1, 2], &[file as f32, 1.0]);
    }
    let data = open_path(dir.path()).unwrap();
    assert_eq!(read_all(&data).unwrap().column(0).to_vec(), (0..150).map(|v| v as f32).collect::<Vec<_>>());
    write_npy(&dir.path().join("149.npy"), [2, 2], &[0.0; 4]);
    assert_error(read_all(&data), "CORRUPT_FILE", &["149.npy changed from 136 to 144 bytes"]);
    fs::remove_file(dir.path().join("149.npy")).unwrap();
    assert_error(read_all(&data), "IO", &["149.npy"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_and_not_waited_for() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.npy");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_error(open_path(&path), "UNSUPPORTED_FORMAT", &["not a regular file"]);
    assert_error(open_path(dir.path()), "INVALID_ARGUMENT", &["holds no"]);
}

/// Other crates bring sources of their own: what those hand out is checked too.
#[test]
fn a_source_from_elsewhere() {
    struct Odd(Arc<AtomicBool>);
    impl Source for Odd {
        fn name(&self) -> String {
            "odd".to_owned()
        }
        fn rows(&self) -> usize {
            2
        }
        fn d_in(&self) -> usize {
            1
        }
        fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
            out.fill(if self.0.load(Ordering::Relaxed) { f32::NAN } else { start as f32 });
            Ok(())
        }
    }
    let broken = Arc::new(AtomicBool::new(false));
    let data = Dataset::new(vec![Box::new(Odd(broken.clone()))]).unwrap();
    assert_eq!(read_all(&data).unwrap(), array![[0.0], [0.0]]);
    broken.store(true, Ordering::Relaxed);
    assert_error(read_all(&data), "NOT_FINITE", &["odd: row 0, column 0"]);
}

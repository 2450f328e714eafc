use std::fs;
use std::path::Path;

use bae_codes::BitMatrix;
use bae_data::{CodesWriter, DataError, read_codes};
use proptest::prelude::*;
use safetensors::{Dtype, SafeTensors};
use tempfile::tempdir;

use crate::common::{assert_error, names, write_safetensors};

fn codes(rows: usize, d_sae: usize, seed: u64) -> BitMatrix {
    let mut codes = BitMatrix::zeros(rows, d_sae);
    for row in 0..rows {
        for bit in 0..d_sae {
            let hash = (seed ^ (row * d_sae + bit) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            codes.set(row, bit, hash >> 63 == 1);
        }
    }
    codes
}

fn write(path: &Path, codes: &BitMatrix) -> Result<(), DataError> {
    let mut writer = CodesWriter::create(path, codes.features(), codes.rows(), "a model", false)?;
    writer.append(codes)?;
    writer.finish()
}

#[test]
fn codes_come_back_whatever_the_batches() {
    let dir = tempdir().unwrap();
    let all = codes(2500, 67, 1);
    write(&dir.path().join("whole.safetensors"), &all).unwrap();
    let path = dir.path().join("parts.safetensors");
    let mut writer = CodesWriter::create(&path, 67, 2500, "a model", false).unwrap();
    let mut start = 0;
    for count in [0, 1, 1199, 1300] {
        let bytes = all.to_bytes(start..start + count);
        writer.append(&BitMatrix::from_bytes(&bytes, count, 67).unwrap()).unwrap();
        assert!(!path.exists(), "nobody sees a part");
        start += count;
    }
    writer.finish().unwrap();
    assert_eq!(read_codes(&path).unwrap(), (all, "a model".to_owned()));
    assert_eq!(fs::read(&path).unwrap(), fs::read(dir.path().join("whole.safetensors")).unwrap());
    assert_eq!(names(dir.path()), ["parts.safetensors", "whole.safetensors"]);
}

#[test]
fn the_file_is_what_other_programs_expect() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let mut one = BitMatrix::zeros(2, 11);
    for (row, bit) in [(0, 0), (0, 3), (0, 8), (1, 10)] {
        one.set(row, bit, true);
    }
    write(&path, &one).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("codes").unwrap();
    assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::U8, &[2, 2][..]));
    assert_eq!(tensor.data(), [0b1001, 0b001, 0, 0b100]);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!(
        (&metadata["rows"][..], &metadata["d_sae"][..], &metadata["model"][..]),
        ("2", "11", "a model")
    );
}

#[test]
fn a_file_is_whole_or_absent() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let five = codes(5, 9, 1);
    let create = |rows, overwrite| CodesWriter::create(&path, 9, rows, "m", overwrite);

    let mut dropped = create(10, false).unwrap();
    dropped.append(&five).unwrap();
    drop(dropped);
    assert!(names(dir.path()).is_empty());
    let mut short = create(10, false).unwrap();
    short.append(&five).unwrap();
    assert_error(short.finish(), "INVALID_ARGUMENT", &["x.safetensors: 5 codes came, 10 were announced"]);
    let mut long = create(7, false).unwrap();
    long.append(&five).unwrap();
    assert_error(long.append(&five), "INVALID_ARGUMENT", &["more than the announced 7"]);
    assert_error(long.append(&codes(1, 8, 1)), "SHAPE_MISMATCH", &["codes of 8 bits", "file of 9 bits"]);
    drop(long);
    assert!(names(dir.path()).is_empty());

    write(&path, &five).unwrap();
    assert_error(create(5, false), "IO", &["x.safetensors already exists", "--overwrite"]);
    drop(create(5, true).unwrap());
    assert_eq!(read_codes(&path).unwrap().0, five);
    let other = codes(5, 9, 2);
    let mut writer = create(5, true).unwrap();
    writer.append(&other).unwrap();
    writer.finish().unwrap();
    assert_eq!(read_codes(&path).unwrap().0, other);

    assert_error(CodesWriter::create(dir.path(), 9, 5, "m", true), "IO", &["is a folder"]);
    let missing = dir.path().join("no/x.safetensors");
    assert_error(
        CodesWriter::create(&missing, 9, 5, "m", true),
        "IO",
        &["/no/x.safetensors", "create its folder first"],
    );
    assert_error(CodesWriter::create(&missing, 0, 5, "m", true), "INVALID_ARGUMENT", &["5 codes of 0 bits"]);
    assert_error(
        CodesWriter::create(&missing, 9, usize::MAX, "m", true),
        "INVALID_ARGUMENT",
        &["check both numbers"],
    );
    assert_eq!(names(dir.path()), ["x.safetensors"]);

    // somebody else writes the same file meanwhile
    let raced = dir.path().join("raced.safetensors");
    let mut writer = CodesWriter::create(&raced, 9, 5, "m", false).unwrap();
    writer.append(&five).unwrap();
    write(&raced, &other).unwrap();
    assert_error(writer.finish(), "IO", &["raced.safetensors", "--overwrite"]);
    assert_eq!(read_codes(&raced).unwrap().0, other);
    assert_eq!(names(dir.path()), ["raced.safetensors", "x.safetensors"]);
}

#[test]
fn what_is_wrong_with_codes_is_named() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    write(&path, &codes(3, 11, 1)).unwrap();
    let whole = fs::read(&path).unwrap();
    let with = |from: &str, to: &str| {
        let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        let text = std::str::from_utf8(&whole[8..header]).unwrap();
        assert!(text.contains(from), "{text}");
        let text = text.replace(from, to);
        fs::write(&path, [&(text.len() as u64).to_le_bytes(), text.as_bytes(), &whole[header..]].concat())
            .unwrap();
        read_codes(&path)
    };
    let damaged = "encode the data again";
    assert!(with("a model", "another").is_ok());
    assert_error(
        with("\"rows\":\"3\"", "\"rows\":\"4\""),
        "CORRUPT_FILE",
        &["shape [3, 2]", "4 rows", damaged],
    );
    assert_error(with("\"d_sae\":\"11\"", "\"d_sae\":\"17\""), "CORRUPT_FILE", &["17 bits", damaged]);
    assert_error(
        with("\"d_sae\":\"11\"", "\"d_sae\":\"10\""),
        "CORRUPT_FILE",
        &["bit set beyond its 10", damaged],
    );
    assert_error(with("\"d_sae\":\"11\"", "\"d_sae\":\"-1\""), "CORRUPT_FILE", &["d_sae -1", damaged]);
    assert_error(with("\"rows\":", "\"lines\":"), "CORRUPT_FILE", &["rows is missing", damaged]);
    assert_error(with("\"model\":", "\"modell\":"), "CORRUPT_FILE", &["model is missing", damaged]);
    assert_error(with("\"rows\":\"3\"", "\"rows\":3"), "CORRUPT_FILE", &["no intact safetensors file"]);
    assert_error(with("\"U8\"", "\"I8\""), "UNSUPPORTED_FORMAT", &["no U8 tensor codes", "bae encode"]);
    let no_bits = with("[3,2]", "[99999999999999,0]").and_then(|_| read_codes(&path));
    assert_error(no_bits, "CORRUPT_FILE", &["no intact"]);
    write_safetensors(&path, &[("x", Dtype::F32, &[1, 1], &[0; 4])]);
    assert_error(read_codes(&path), "UNSUPPORTED_FORMAT", &["only x F32 [1, 1]"]);
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert_error(read_codes(&path), "CORRUPT_FILE", &["x.safetensors"]);
    }
    assert_error(read_codes(&dir.path().join("missing")), "IO", &["missing", "check the path"]);
}

proptest! {
    #[test]
    fn any_size_comes_back(rows in 0usize..40, d_sae in 1usize..200, seed: u64) {
        let dir = tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let codes = codes(rows, d_sae, seed);
        write(&path, &codes).unwrap();
        prop_assert_eq!(read_codes(&path).unwrap().0, codes);
    }
}

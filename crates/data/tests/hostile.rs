//! Files made to do harm: every one is an error, none a panic, none takes memory that the file does not have.

use std::alloc::System;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use bae_codes::BitMatrix;
use bae_data::{CodesWriter, DataError, Dataset, inspect, load_model, read_codes, save_model};
use bae_model::Parameters;
use cap::Cap;
use ndarray::Array2;
use proptest::prelude::*;
use serde_json::Map;
use tempfile::tempdir;

/// The files are of a few hundred bytes; an allocation beyond this much for all tests together ends the process.
#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, 64 << 20);

fn safetensors(length: u64, header: &str, values: usize) -> Vec<u8> {
    [&length.to_le_bytes()[..], header.as_bytes(), &vec![0; values]].concat()
}

fn npy(header: &str, values: usize) -> Vec<u8> {
    let length = (header.len() as u32).to_le_bytes();
    [b"\x93NUMPY\x02\x00", &length[..], header.as_bytes(), &vec![0; values]].concat()
}

fn read_all(path: &Path) -> Result<Array2<f32>, DataError> {
    let data = Dataset::open(&[path.to_str().unwrap().to_owned()])?;
    let mut out = Array2::zeros((data.rows(), data.d_in()));
    data.read(0..data.rows(), out.view_mut())?;
    Ok(out)
}

#[test]
fn headers_that_lie() {
    let dir = tempdir().unwrap();
    let tensor = |name: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let whole = |parts: &[String]| {
        let header = format!("{{{}}}", parts.join(","));
        safetensors(header.len() as u64, &header, 24)
    };
    let sound = tensor("x", "[2,3]", "[0,24]");
    let path = dir.path().join("x.safetensors");
    fs::write(&path, whole(std::slice::from_ref(&sound))).unwrap();
    assert!(read_all(&path).is_ok());
    let lies = [
        safetensors(1 << 63, "{}", 0),
        safetensors(u64::MAX, "{}", 0),
        safetensors(100_000_001, "{}", 0),
        safetensors(99_999_999, "{}", 0),
        safetensors(3, "{}", 0),
        safetensors(0, "", 0),
        safetensors(100_000, &"[".repeat(100_000), 0),
        safetensors(100_000, &r#"{"":"#.repeat(20_000), 0),
        safetensors(2, "\u{fffd}", 0),
        whole(&[sound.clone(), tensor("y", "[2,3]", "[0,24]")]),
        whole(&[sound.clone(), tensor("y", "[1,1]", "[20,24]")]),
        whole(&[tensor("x", "[1,3]", "[0,12]"), tensor("y", "[1,2]", "[16,24]")]),
        whole(&[tensor("x", "[2,3]", "[8,32]")]),
        whole(&[tensor("x", "[2,4]", "[0,32]")]),
        whole(&[tensor("x", "[2,2]", "[0,16]")]),
        whole(&[tensor("x", "[2,3]", "[24,0]")]),
        whole(&[tensor("x", "[2,3]", "[0,18446744073709551615]")]),
        whole(&[tensor("x", "[2,3]", "[-1,24]")]),
        whole(&[tensor("x", "[4611686018427387904,4]", "[0,24]")]),
        whole(&[tensor("x", "[4611686018427387904,1]", "[0,24]")]),
        whole(&[tensor("x", "[1e9,3]", "[0,24]")]),
        whole(&[sound.replace("F32", "F33")]),
        whole(&[sound, r#""__metadata__":{"rows":1}"#.to_owned()]),
    ];
    for (at, bytes) in lies.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let error = read_all(&path).expect_err(&format!("lie {at}"));
        assert_eq!(error.code(), "CORRUPT_FILE", "lie {at}: {error}");
        assert_eq!(read_codes(&path).unwrap_err().code(), "CORRUPT_FILE", "lie {at}");
        assert!(error.to_string().lines().count() == 1 && error.to_string().len() < 10_000, "{error}");
    }

    let dict = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    let path = dir.path().join("x.npy");
    fs::write(&path, npy(&dict("(2, 3)"), 24)).unwrap();
    assert!(read_all(&path).is_ok());
    let mut too_long = npy(&dict("(2, 3)"), 24);
    too_long[8..12].fill(0xff);
    let lies = [
        too_long,
        npy(&dict("(4294967296, 4294967296, 4)"), 24),
        npy(&dict("(18446744073709551615, 18446744073709551615)"), 24),
        npy(&dict("(99999999999999999999999999, 3)"), 24),
        npy(&dict("(4611686018427387904, 1)"), 24),
        npy(&dict("(-2, -3)"), 24),
        npy(&dict("(2 3)"), 24),
        npy(&dict("(,)"), 24),
        npy(&dict("[2, 3]"), 24),
        npy(&dict(&"(".repeat(60_000)), 24),
        npy(&"{".repeat(60_000), 24),
        npy(&dict(&format!("({})", "1, ".repeat(20_000))), 24),
        npy("{'descr': '<f4', 'fortran_order': False, }", 24),
        npy("{'descr': '<f4', 'fortran_order': Fal, 'shape': (2, 3)}", 24),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} and more", 24),
        npy("{'descr': '<f4", 24),
        npy("", 24),
    ];
    for (at, bytes) in lies.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let error = read_all(&path).expect_err(&format!("lie {at}"));
        assert_eq!(error.code(), "CORRUPT_FILE", "lie {at}: {error}");
        assert!(error.to_string().lines().count() == 1 && error.to_string().len() < 10_000, "{error}");
    }
}

#[test]
fn names_that_write_on_the_terminal() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let name = format!("\\n\\u001b[2J{}", "x".repeat(100_000));
    let header = format!(r#"{{"{name}":{{"dtype":"I8","shape":[0],"data_offsets":[0,0]}}}}"#);
    fs::write(&path, safetensors(header.len() as u64, &header, 0)).unwrap();
    let message = read_all(&path).unwrap_err().to_string();
    assert!(
        message.len() < 10_000 && message.contains("\\n\\u{1b}[2J") && !message.contains(['\n', '\u{1b}'])
    );
}

/// One sound file of each kind, by name.
static SOUND: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let dir = tempdir().unwrap();
    save_model(&dir.path().join("model"), &Parameters::zeros(3, 5, 3), &Map::new(), false).unwrap();
    let path = dir.path().join("codes.safetensors");
    let mut writer = CodesWriter::create(&path, 11, 4, "m", false).unwrap();
    writer.append(&BitMatrix::zeros(4, 11)).unwrap();
    writer.finish().unwrap();
    let header = r#"{"x":{"dtype":"BF16","shape":[4,3],"data_offsets":[0,24]}}"#;
    vec![
        ("x.safetensors", safetensors(header.len() as u64, header, 24)),
        ("x.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24)),
        ("sae_weights.safetensors", fs::read(dir.path().join("model/sae_weights.safetensors")).unwrap()),
        ("cfg.json", fs::read(dir.path().join("model/cfg.json")).unwrap()),
        ("codes.safetensors", fs::read(&path).unwrap()),
    ]
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn damage_never_ends_the_process(
        kind in 0usize..5,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let dir = tempdir().unwrap();
        for (name, bytes) in SOUND.iter() {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let (name, mut bytes) = SOUND[kind].clone();
        for (at, value, as_digit) in changes {
            let at = at.index(bytes.len());
            // digits keep a header readable and make it lie
            bytes[at] = if as_digit { b'0' + value % 10 } else { value };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let check = |error: DataError| {
            let known = ["INVALID_ARGUMENT", "SHAPE_MISMATCH", "NOT_FINITE", "UNSUPPORTED_FORMAT", "CORRUPT_FILE"];
            assert!(known.contains(&error.code()) && !error.to_string().contains('\n'), "{error}");
        };
        match kind {
            0 | 1 => read_all(&path).map(drop).unwrap_or_else(check),
            2 | 3 => load_model(dir.path()).map(drop).unwrap_or_else(check),
            _ => read_codes(&path).map(drop).unwrap_or_else(check),
        }
        inspect(path.to_str().unwrap()).map(drop).unwrap_or_else(check);
        inspect(dir.path().to_str().unwrap()).map(drop).unwrap_or_else(check);
    }
}

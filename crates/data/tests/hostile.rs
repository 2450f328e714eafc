//! Files made to do harm: every one is an error, none a panic, none takes memory that the file does not have.

use std::alloc::System;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use bae_codes::BitMatrix;
use bae_data::{
    CodesWriter, DataError, Dataset, Source, inspect, load_model, open_sources, read_codes, save_model,
};
use bae_model::{Architecture, Estimator, Parameters};
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
    save_model(
        &dir.path().join("model"),
        &Architecture::binary(Estimator::Identity),
        &Parameters::zeros(3, 5, 3),
        &Map::new(),
        false,
    )
    .unwrap();
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
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1000)))]
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

/// Folders of other tools.
const NEIGHBOURS: [&str; 6] = [
    "sae_lens/gated",
    "sae_lens/batchtopk_checkpoint",
    "sparsify/topk_bfloat16",
    "dictionary_learning/topk",
    "dictionary_learning/matryoshka_batchtopk",
    "published/bae",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(1000)))]
    #[test]
    fn damage_to_models_of_others_never_ends_the_process(
        which in 0..NEIGHBOURS.len(),
        at in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
        at_start in any::<bool>(),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/neighbours/models").join(NEIGHBOURS[which]);
        let dir = tempdir().unwrap();
        let mut names = vec![];
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
            names.push(entry.file_name());
        }
        names.retain(|name| name != "expected.safetensors");
        names.sort();
        let path = dir.path().join(at.get(&names));
        let mut bytes = fs::read(&path).unwrap();
        // what is not numbers lies at the start
        let reach = if at_start { bytes.len().min(800) } else { bytes.len() };
        for (at, value, as_digit) in changes {
            let at = at.index(reach);
            bytes[at] = if as_digit { b'0' + value % 10 } else { value };
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        fs::write(&path, &bytes).unwrap();
        let check = |error: DataError| {
            let known = ["IO", "SHAPE_MISMATCH", "NOT_FINITE", "UNSUPPORTED_FORMAT", "CORRUPT_FILE"];
            assert!(known.contains(&error.code()) && !error.to_string().contains('\n'), "{error}");
        };
        load_model(dir.path()).map(drop).unwrap_or_else(check);
        inspect(dir.path().to_str().unwrap()).map(drop).unwrap_or_else(check);
    }
}

/// The files of other programs in `tests/fixtures`, by name.
static FIXTURES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "py"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
});

/// Reads a bit of the start, of the middle and of the end, as any source may claim any number of rows.
fn read_some(source: &dyn Source) -> Result<(), DataError> {
    let rows = (1 << 20) / source.d_in();
    assert!(rows > 0, "{} of width {}", source.name(), source.d_in());
    for start in [0, source.rows() / 2, source.rows().saturating_sub(3), 0] {
        let count = rows.min(40).min(source.rows() - start);
        source.read(start, Array2::zeros((count, source.d_in())).view_mut())?;
        for column in source.columns() {
            source.read_column(column, start, &mut vec![0; count])?;
        }
    }
    Ok(())
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    /// Bytes from one place over those at another.
    Splice(prop::sample::Index, prop::sample::Index, usize),
    /// A number of 1, 2, 4 or 8 bytes.
    Number(prop::sample::Index, u64, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    let extreme = prop_oneof![
        Just(0),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(1 << 63),
        Just(i32::MAX as u64),
        Just(1 << 31),
        Just(0x7fff_ffff_7fff_ffff),
        (0u32..64).prop_map(|bit| 1 << bit),
        any::<u64>(),
    ];
    prop_oneof![
        4 => (at(), 1u8..).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => at().prop_map(Damage::Cut),
        2 => (at(), at(), 1usize..200).prop_map(|(from, to, length)| Damage::Splice(from, to, length)),
        4 => (at(), extreme, 0u32..4).prop_map(|(at, value, size)| Damage::Number(at, value, 1 << size)),
    ]
}

fn apply(damage: &Damage, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    match damage {
        Damage::Flip(at, bits) => {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Splice(from, to, length) => {
            let (from, to) = (from.index(bytes.len()), to.index(bytes.len()));
            let part = bytes[from..(from + length).min(bytes.len())].to_vec();
            let length = part.len().min(bytes.len() - to);
            bytes[to..to + length].copy_from_slice(&part[..length]);
        }
        Damage::Number(at, value, size) => {
            let at = at.index(bytes.len());
            let length = (*size).min(bytes.len() - at);
            bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(6000)))]
    #[test]
    fn damaged_files_of_other_programs(
        which in any::<prop::sample::Index>(),
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        let (name, bytes) = &FIXTURES[which.index(FIXTURES.len())];
        let mut bytes = bytes.clone();
        for damage in &damages {
            apply(damage, &mut bytes);
        }
        let dir = tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, &bytes).unwrap();
        let layer = if name.starts_with("layers") { "#:layer=1" } else { "" };
        let spec = format!("{}{layer}", path.to_str().unwrap());
        let result = open_sources(std::slice::from_ref(&spec)).and_then(|sources| read_some(&*sources[0]));
        let described = inspect(&spec).map(drop);
        for error in [result, described].into_iter().filter_map(Result::err) {
            let known = ["INVALID_ARGUMENT", "SHAPE_MISMATCH", "UNSUPPORTED_FORMAT", "CORRUPT_FILE"];
            prop_assert!(known.contains(&error.code()), "{}: {error}", error.code());
            let message = error.to_string();
            prop_assert!(!message.contains('\n') && message.len() < 10_000, "{message}");
        }
    }
}

/// Writes a file and says what is wrong with it.
fn error_of(name: &str, bytes: &[u8]) -> DataError {
    let dir = tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let result =
        open_sources(&[path.to_str().unwrap().to_owned()]).and_then(|sources| read_some(&*sources[0]));
    result.expect_err(name)
}

/// The metadata of a Parquet file: a number of rows, then a schema, and nothing else.
fn parquet(schema: &[u8]) -> Vec<u8> {
    let metadata = [&[0x15, 0x02][..], schema, &[0x16, 0x00, 0x19, 0x0c, 0x00]].concat();
    let length = (metadata.len() as u32).to_le_bytes();
    [b"PAR1", &metadata[..], &length, b"PAR1"].concat()
}

/// A schema of nodes with so many children and such names.
fn nodes(nodes: &[(u64, &[u8])]) -> Vec<u8> {
    let varint = |mut value: u64| {
        let mut bytes = vec![];
        while value > 127 {
            bytes.push(value as u8 | 128);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    };
    let mut list = [&[0x19, 0xfc][..], &varint(nodes.len() as u64)].concat();
    for &(children, name) in nodes {
        // required; an int32, where it is a leaf
        list.extend(if children == 0 { &[0x15, 0x02, 0x25, 0x00][..] } else { &[0x35, 0x00] });
        list.push(0x18);
        list.extend(varint(name.len() as u64));
        list.extend(name);
        if children > 0 {
            list.push(0x15);
            list.extend(varint(children << 1));
        }
        list.push(0);
    }
    list
}

#[test]
fn schemas_that_grow() {
    let sound = error_of("x.parquet", &parquet(&nodes(&[(1, b"root"), (0, b"a")])));
    assert!(sound.code() == "UNSUPPORTED_FORMAT" && sound.to_string().contains("only a (int32)"), "{sound}");
    let deep = [vec![(1, &b"a"[..]); 50_000], vec![(0, b"a")]].concat();
    let long = vec![b'a'; 100_000];
    let names = [vec![(1, &b"root"[..]), (10_000, &long)], vec![(0, b"a"); 10_000]].concat();
    let lies = [
        ("depth", nodes(&deep)),
        ("a name for each of ten thousand leaves", nodes(&names)),
        ("children", nodes(&[(i32::MAX as u64, b"root"), (0, b"a")])),
        ("a child that is missing", nodes(&[(2, b"root"), (0, b"a")])),
        ("a node too many", nodes(&[(1, b"root"), (0, b"a"), (0, b"b")])),
        ("no end", vec![0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07]),
    ];
    for (what, schema) in lies {
        let error = error_of("x.parquet", &parquet(&schema));
        assert_eq!(error.code(), "CORRUPT_FILE", "{what}: {error}");
    }
}

/// A Parquet file of one column of lists of floats, with a page for each of `pages`: the lengths of its lists of zeros.
fn parquet_of(pages: &[&[usize]]) -> Vec<u8> {
    use parquet::data_type::FloatType;
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    let schema = "message m { required group x (LIST) { repeated group list { required float element; } } }";
    let schema = parquet::schema::parser::parse_message_type(schema).unwrap();
    let most = pages.iter().map(|lists| lists.len()).max().unwrap();
    let properties = WriterProperties::builder()
        .set_data_page_row_count_limit(most)
        .set_write_batch_size(pages.iter().flat_map(|lists| lists.iter()).sum());
    let mut bytes = vec![];
    let mut writer = SerializedFileWriter::new(&mut bytes, schema.into(), properties.build().into()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    for lists in pages {
        let starts = lists.iter().flat_map(|&length| (0..length).map(|at| i16::from(at > 0)));
        let starts: Vec<i16> = starts.collect();
        let (values, levels) = (vec![0.0; starts.len()], vec![1; starts.len()]);
        column.typed::<FloatType>().write_batch(&values, Some(&levels), Some(&starts)).unwrap();
    }
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

#[test]
fn rows_that_take_no_bytes() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let sound = parquet_of(&[&[1; 100_000]]);
    assert!(sound.len() < 1_000, "{} bytes", sound.len());
    fs::write(&path, &sound).unwrap();
    assert_eq!(read_all(&path).unwrap().dim(), (100_000, 1));
    let vast = parquet_of(&[&[1; 1_000_000]]);
    assert!(vast.len() < 1_000_000 / 1_025, "{} bytes", vast.len());
    let error = error_of("x.parquet", &vast);
    assert!(error.code() == "CORRUPT_FILE" && error.to_string().contains("1000000 rows in"), "{error}");
}

/// A width of 0 would be divided by.
#[test]
fn a_first_page_without_values() {
    let sound = parquet_of(&[&[2, 1], &[1, 1]]);
    let error = error_of("x.parquet", &sound);
    assert!(
        error.code() == "UNSUPPORTED_FORMAT" && error.to_string().contains("row 1 has another"),
        "{error}"
    );
    // the header of the first data page, and its number of values
    let start = sound.windows(2).position(|pair| pair == [0x2c, 0x15]).unwrap() + 2;
    assert_eq!(sound[start], 3 << 1);
    let mut damaged = sound;
    damaged[start] = 0;
    let error = error_of("x.parquet", &damaged);
    assert!(!error.to_string().contains("contradict"), "{error}");
}

/// A zip archive may hold a thousand times its size; what an array does not take is not unpacked.
#[test]
fn archives_that_hold_more_than_they_say() {
    let header = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", 24);
    let zip = |content: &[u8]| {
        let mut writer = zip::ZipWriter::new(std::io::Cursor::new(vec![]));
        let options =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        writer.start_file("x.npy", options).unwrap();
        std::io::Write::write_all(&mut writer, content).unwrap();
        writer.finish().unwrap().into_inner()
    };
    let sound = zip(&header);
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("x.npz"), &sound).unwrap();
    assert!(read_all(&dir.path().join("x.npz")).is_ok());
    let bomb = zip(&[&header[..], &vec![0; 8 << 20]].concat());
    assert!(bomb.len() < 20_000);
    assert_eq!(error_of("x.npz", &bomb).code(), "CORRUPT_FILE");
    // the same, where the directory says that it is as small as the array
    let (size, lie) = ((header.len() + (8 << 20)) as u32, header.len() as u32);
    let mut bomb = bomb;
    for at in 0..bomb.len() - 4 {
        if bomb[at..at + 4] == size.to_le_bytes() {
            bomb[at..at + 4].copy_from_slice(&lie.to_le_bytes());
        }
    }
    let error = error_of("x.npz", &bomb);
    assert!(error.code() == "CORRUPT_FILE" && error.to_string().contains("unpacked"), "{error}");
}

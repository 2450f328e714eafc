use std::fs;
use std::path::Path;

use bae_data::{LoadedModel, check_output, load_model, save_model, write_folder, write_model};
use bae_model::architectures::{
    Gated, JumpRelu, KBit, Kind, Pca, Relu, Revival, Snmf, Ternary, Threshold, TopK,
};
use bae_model::{Architecture, Parameters};
use half::{bf16, f16};
use ndarray::Array1;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};
use tempfile::tempdir;

use crate::common::{assert_error, bae, f32_bytes, names, safetensors_bytes};

const FILES: [&str; 2] = ["cfg.json", "sae_weights.safetensors"];

/// A tensor's name, type and shape.
type Described = (&'static str, Dtype, Vec<usize>);

fn random_model(seed: u64, d_in: usize, d_sae: usize) -> Parameters {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    Parameters::<f32>::zeros(d_in, d_sae, d_in).map(|_| random.random_range(-2.0f32..2.0))
}

fn config(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn save(dir: &Path, seed: u64) -> Parameters {
    let parameters = random_model(seed, 3, 5);
    save_model(dir, &bae(), &parameters, &Map::new(), false).unwrap();
    parameters
}

#[test]
fn a_model_comes_back_bit_for_bit() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    let parameters = random_model(1, 300, 7);
    let settings =
        config(json!({ "seed": 3, "architecture": "no", "metadata": { "data": "a.npy" }, "d_sae": 0 }));
    save_model(&dir, &bae(), &parameters, &settings, false).unwrap();
    let LoadedModel { parameters: again, config: cfg, .. } = load_model(&dir).unwrap();
    assert_eq!(again, parameters);
    assert_eq!(
        Value::Object(cfg),
        json!({
            "architecture": "bae", "d_in": 300, "d_sae": 7, "dtype": "float32", "apply_b_dec_to_input": false,
            "metadata": { "data": "a.npy" }, "seed": 3
        })
    );
    assert_eq!(names(&dir), FILES);
    assert_eq!(names(root.path()), ["model"]);

    // as other programs see it
    let bytes = fs::read(dir.join("sae_weights.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let w_enc = tensors.tensor("W_enc").unwrap();
    assert_eq!((w_enc.dtype(), w_enc.shape()), (Dtype::F32, &[300, 7][..]));
    assert_eq!(w_enc.data(), f32_bytes(parameters.w_enc.as_slice().unwrap()));
    assert_eq!(tensors.tensor("b_dec").unwrap().data(), f32_bytes(parameters.b_dec.as_slice().unwrap()));

    let second = root.path().join("second");
    save_model(&second, &bae(), &parameters, &settings, false).unwrap();
    for file in FILES {
        assert_eq!(
            fs::read(dir.join(file)).unwrap(),
            fs::read(second.join(file)).unwrap(),
            "{file} is the same again"
        );
    }
}

/// Architectures as they are applied, each with what it has beside encoder and decoder.
fn applied() -> [(Architecture, &'static [&'static str]); 9] {
    let topk = Kind::TopK(TopK { k: 4, revival: Revival { weight: 0.0, dead_after: 0 } });
    [
        (bae(), &[]),
        (Architecture::of(Kind::Relu(Relu { by_norm: true })), &[]),
        (Architecture::of(topk), &[]),
        (Architecture::of(Kind::Threshold(Threshold)), &["threshold"]),
        (Architecture::of(Kind::Gated(Gated)), &["r_mag", "b_mag"]),
        (Architecture::of(Kind::Ternary(Ternary { width: 1.0 })), &[]),
        (Architecture::of(Kind::KBit(KBit { bits: 3, width: 1.0 })), &[]),
        (Architecture::of(Kind::Pca(Pca)), &[]),
        (Architecture::of(Kind::Snmf(Snmf)), &[]),
    ]
}

#[test]
fn every_architecture_and_its_transcoder_come_back() {
    let root = tempdir().unwrap();
    let mut seen = vec![];
    for (architecture, more) in applied() {
        for (d_out, settings) in [(3, json!({})), (4, json!({})), (3, json!({ "d_out": 3 }))] {
            let mut random = ChaCha8Rng::seed_from_u64(d_out as u64);
            let mut parameters = Parameters::<f32>::zeros(3, 5, d_out);
            parameters.per_feature = more.iter().map(|name| (*name, Array1::zeros(5))).collect();
            let parameters = parameters.map(|_| random.random_range(-2.0f32..2.0));
            save_model(root.path(), &architecture, &parameters, &config(settings), true).unwrap();
            let again = load_model(root.path()).unwrap();
            assert_eq!((again.parameters, again.architecture), (parameters, architecture));
            assert!(!again.layer_norm);
            let bytes = fs::read(root.path().join("sae_weights.safetensors")).unwrap();
            let mut names: Vec<_> = SafeTensors::deserialize(&bytes)
                .unwrap()
                .names()
                .iter()
                .map(|name| name.to_string())
                .collect();
            names.sort();
            let name = again.config["architecture"].as_str().unwrap().to_owned();
            seen.push(format!(
                "{name} {} {}",
                again.config.get("k").unwrap_or(&Value::Null),
                names.join(" ")
            ));
            assert_eq!(
                again.config.get("d_out"),
                name.ends_with("transcoder").then(|| json!(d_out)).as_ref()
            );
        }
    }
    seen.dedup();
    assert_eq!(
        seen,
        [
            "bae null W_dec W_enc b_dec b_enc",
            "bae_transcoder null W_dec W_enc b_dec b_enc",
            "standard null W_dec W_enc b_dec b_enc",
            "transcoder null W_dec W_enc b_dec b_enc",
            "topk 4 W_dec W_enc b_dec b_enc",
            "topk_transcoder 4 W_dec W_enc b_dec b_enc",
            "jumprelu null W_dec W_enc b_dec b_enc threshold",
            "jumprelu_transcoder null W_dec W_enc b_dec b_enc threshold",
            "gated null W_dec W_enc b_dec b_gate b_mag r_mag",
            "gated_transcoder null W_dec W_enc b_dec b_gate b_mag r_mag",
            "ternary null W_dec W_enc b_dec b_enc",
            "ternary_transcoder null W_dec W_enc b_dec b_enc",
            "kbit null W_dec W_enc b_dec b_enc",
            "kbit_transcoder null W_dec W_enc b_dec b_enc",
            "pca null W_dec W_enc b_dec b_enc",
            "pca_transcoder null W_dec W_enc b_dec b_enc",
            "snmf null W_dec W_enc b_dec b_enc",
            "snmf_transcoder null W_dec W_enc b_dec b_enc",
        ]
    );
}

#[test]
fn a_relative_path_without_a_parent_is_beside_the_caller() {
    let name = format!("bae-data-test-{}", std::process::id());
    let dir = Path::new(&name);
    save(dir, 1);
    let loaded = load_model(dir);
    fs::remove_dir_all(dir).unwrap();
    assert!(loaded.is_ok());
}

#[test]
fn weights_of_16_bits_are_read() {
    let root = tempdir().unwrap();
    let parameters = random_model(2, 3, 5);
    let shapes: [&[usize]; 4] = [&[3, 5], &[5], &[5, 3], &[3]];
    let write = |dtype, encode: &dyn Fn(f32) -> [u8; 2]| {
        let bytes: Vec<Vec<u8>> =
            parameters.flat().iter().map(|values| values.iter().flat_map(|&v| encode(v)).collect()).collect();
        let names = ["W_enc", "b_enc", "W_dec", "b_dec"];
        let tensors: Vec<_> = (0..4).map(|at| (names[at], dtype, shapes[at], &bytes[at][..])).collect();
        fs::write(root.path().join("sae_weights.safetensors"), safetensors_bytes(&tensors)).unwrap();
        load_model(root.path()).unwrap().parameters
    };
    fs::write(root.path().join("cfg.json"), r#"{"architecture": "bae", "d_in": 3, "d_sae": 5}"#).unwrap();
    assert_eq!(
        write(Dtype::F16, &|v| f16::from_f32(v).to_le_bytes()),
        parameters.map(|v| f16::from_f32(v).to_f32())
    );
    let brain = parameters.map(|v| bf16::from_f32(v).to_f32());
    assert_eq!(write(Dtype::BF16, &|v| bf16::from_f32(v).to_le_bytes()), brain);
}

#[test]
fn nothing_is_overwritten_unasked() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    let first = save(&dir, 1);
    let refused = ["already holds a model", "choose another --out or pass --overwrite"];
    assert_error(check_output(&dir, false), "IO", &refused);
    assert_error(save_model(&dir, &bae(), &random_model(2, 3, 5), &Map::new(), false), "IO", &refused);
    assert_eq!(load_model(&dir).unwrap().parameters, first);

    fs::create_dir(root.path().join("notes")).unwrap();
    fs::write(root.path().join("notes/a.txt"), "mine").unwrap();
    assert_error(check_output(&root.path().join("notes"), false), "IO", &["notes already holds other files"]);
    assert_error(check_output(&root.path().join("notes/a.txt"), true), "IO", &["a.txt is a file"]);
    assert_error(
        check_output(&root.path().join("no/model"), false),
        "IO",
        &["/no/model", "create its folder first"],
    );
    assert_error(
        check_output(&root.path().join("notes/a.txt/model"), false),
        "IO",
        &["a.txt", "choose another --out"],
    );
    assert_eq!(names(root.path()), ["model", "notes"]);

    let empty = root.path().join("empty");
    fs::create_dir(&empty).unwrap();
    check_output(&empty, false).unwrap();
    check_output(&root.path().join("new"), false).unwrap();
    assert_eq!(names(root.path()), ["empty", "model", "notes"], "a check leaves nothing");
    save(&empty, 3);
    assert_eq!(names(&empty), FILES);
}

#[test]
fn overwriting_replaces_the_model_and_nothing_else() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    save(&dir, 1);
    fs::write(dir.join("metrics.jsonl"), "{}").unwrap();
    fs::create_dir(dir.join("plots")).unwrap();
    fs::write(dir.join("plots/a.svg"), "<svg/>").unwrap();
    let second = random_model(2, 4, 6);
    check_output(&dir, true).unwrap();
    save_model(&dir, &bae(), &second, &config(json!({ "seed": 2 })), true).unwrap();
    let LoadedModel { parameters: again, config: cfg, .. } = load_model(&dir).unwrap();
    assert_eq!((again, &cfg["seed"]), (second, &json!(2)));
    assert_eq!(names(&dir), ["cfg.json", "metrics.jsonl", "plots", "sae_weights.safetensors"]);
    assert_eq!(fs::read_to_string(dir.join("plots/a.svg")).unwrap(), "<svg/>");
    assert_eq!(names(root.path()), ["model"]);
}

#[test]
fn a_failure_leaves_what_was_there() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    let mut bad = random_model(1, 3, 5);
    bad.w_dec[(4, 2)] = f32::NAN;
    let at = ["sae_weights.safetensors#W_dec: row 4, column 2 is NaN"];
    assert_error(save_model(&dir, &bae(), &bad, &Map::new(), false), "NOT_FINITE", &at);
    assert!(names(root.path()).is_empty());
    let trained = Architecture::of(Kind::JumpRelu(JumpRelu { bandwidth: 0.1 }));
    let sound = random_model(1, 3, 5);
    assert_error(save_model(&dir, &trained, &sound, &Map::new(), false), "UNSUPPORTED_FORMAT", &["JumpRelu"]);

    let first = save(&dir, 1);
    assert_error(save_model(&dir, &bae(), &bad, &Map::new(), true), "NOT_FINITE", &at);
    let half_written = write_folder(&dir, true, |new| {
        write_model(new, &bae(), &random_model(2, 3, 5), &Map::new())?;
        write_model(&new.join("missing"), &bae(), &random_model(2, 3, 5), &Map::new())
    });
    assert_error(half_written, "IO", &["cannot write", "missing"]);
    assert_eq!(load_model(&dir).unwrap().parameters, first);
    assert_eq!(names(root.path()), ["model"]);

    // somebody else's model appears while ours is written
    let other = root.path().join("other");
    let raced = write_folder(&other, false, |new| {
        save(&other, 7);
        write_model(new, &bae(), &random_model(2, 3, 5), &Map::new())
    });
    assert_error(raced, "IO", &["other already holds a model"]);
    assert_eq!(load_model(&other).unwrap().parameters, random_model(7, 3, 5));
    assert_eq!(names(root.path()), ["model", "other"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_nobody_can_write_in_is_named() {
    let parameters = random_model(1, 3, 5);
    let refused = ["cannot write /proc/model", "choose another --out"];
    assert_error(check_output(Path::new("/proc/model"), false), "IO", &refused);
    assert_error(
        save_model(Path::new("/proc/model"), &bae(), &parameters, &Map::new(), false),
        "IO",
        &refused,
    );
    assert_error(check_output(Path::new("/"), false), "IO", &["already holds other files"]);
}

#[cfg(unix)]
#[test]
fn a_model_has_the_rights_of_any_new_file_and_links_are_followed() {
    use std::os::unix::fs::MetadataExt;
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    save(&dir, 1);
    fs::create_dir(root.path().join("plain")).unwrap();
    fs::write(root.path().join("plain/file"), "").unwrap();
    let mode = |path: &str| fs::metadata(root.path().join(path)).unwrap().mode();
    assert_eq!(mode("model"), mode("plain"));
    assert_eq!(mode("model/cfg.json"), mode("plain/file"));

    let link = root.path().join("latest");
    std::os::unix::fs::symlink("model", &link).unwrap();
    let second = random_model(2, 3, 5);
    save_model(&link, &bae(), &second, &Map::new(), true).unwrap();
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(load_model(&dir).unwrap().parameters, second);
}

#[test]
fn a_model_that_is_not_one_is_named() {
    let root = tempdir().unwrap();
    let dir = root.path().join("model");
    let cfg = dir.join("cfg.json");
    let weights = dir.join("sae_weights.safetensors");
    assert_error(load_model(&dir), "IO", &["cfg.json", "check the path"]);
    save(&dir, 1);
    let sound = fs::read_to_string(&cfg).unwrap();
    let with_cfg = |from: &str, to: &str| {
        assert!(sound.contains(from), "{sound}");
        fs::write(&cfg, sound.replace(from, to)).unwrap();
        load_model(&dir)
    };
    assert_error(
        with_cfg("\"bae\"", "\"resnet\""),
        "UNSUPPORTED_FORMAT",
        &["cfg.json: architecture is \"resnet\"", "read here are bae, standard"],
    );
    assert_error(with_cfg("\"architecture\"", "\"a\""), "UNSUPPORTED_FORMAT", &["architecture is absent"]);
    assert_error(with_cfg("\": false", "\": true"), "UNSUPPORTED_FORMAT", &["apply_b_dec_to_input"]);
    assert_error(with_cfg("\"d_in\": 3", "\"d_in\": 0"), "CORRUPT_FILE", &["d_in is no positive"]);
    assert_error(with_cfg("\"d_sae\": 5", "\"d_sae\": 5.5"), "CORRUPT_FILE", &["d_sae is no positive"]);
    assert_error(with_cfg("\"d_sae\": 5", "\"d_sae\": 18446744073709551615"), "SHAPE_MISMATCH", &["W_enc"]);
    assert_error(
        with_cfg("\"d_in\": 3", "\"d_in\": 4"),
        "SHAPE_MISMATCH",
        &["W_enc has shape [3, 5]", "[4, 5]"],
    );
    assert_error(with_cfg("}", ""), "CORRUPT_FILE", &["no JSON object"]);
    fs::write(&cfg, "[1]").unwrap();
    assert_error(load_model(&dir), "CORRUPT_FILE", &["no JSON object"]);
    fs::write(&cfg, "[".repeat(1_000_000)).unwrap();
    assert_error(load_model(&dir), "CORRUPT_FILE", &["no JSON object"]);
    fs::write(&cfg, sound).unwrap();

    let bytes = [0; 200];
    let with_tensors = |change: &dyn Fn(&mut Vec<Described>)| {
        let mut tensors = vec![
            ("W_enc", Dtype::F32, vec![3, 5]),
            ("b_enc", Dtype::F32, vec![5]),
            ("W_dec", Dtype::F32, vec![5, 3]),
            ("b_dec", Dtype::F32, vec![3]),
        ];
        change(&mut tensors);
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape)| {
                let size = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                (*name, *dtype, &shape[..], &bytes[..size])
            })
            .collect();
        fs::write(&weights, safetensors_bytes(&tensors)).unwrap();
        load_model(&dir)
    };
    assert!(with_tensors(&|tensors| tensors.push(("extra", Dtype::I8, vec![2]))).is_ok());
    let missing = ["sae_weights.safetensors has no tensor b_dec", "W_enc F32 [3, 5]"];
    assert_error(with_tensors(&|tensors| drop(tensors.pop())), "CORRUPT_FILE", &missing);
    assert_error(
        with_tensors(&|tensors| tensors[1].1 = Dtype::F64),
        "UNSUPPORTED_FORMAT",
        &["b_enc is of type F64"],
    );
    assert_error(
        with_tensors(&|tensors| tensors[1].2 = vec![1, 5]),
        "SHAPE_MISMATCH",
        &["b_enc has shape [1, 5]"],
    );
    assert_error(
        with_tensors(&|tensors| tensors[2].2 = vec![3, 5]),
        "SHAPE_MISMATCH",
        &["W_dec has shape [3, 5]"],
    );

    let mut parameters = random_model(1, 3, 5);
    parameters.b_enc[3] = f32::INFINITY;
    let values: Vec<_> = parameters.flat().into_iter().map(f32_bytes).collect();
    let names = ["W_enc", "b_enc", "W_dec", "b_dec"];
    let shapes: [&[usize]; 4] = [&[3, 5], &[5], &[5, 3], &[3]];
    let tensors: Vec<_> = (0..4).map(|at| (names[at], Dtype::F32, shapes[at], &values[at][..])).collect();
    let whole = safetensors_bytes(&tensors);
    fs::write(&weights, &whole).unwrap();
    assert_error(load_model(&dir), "NOT_FINITE", &["sae_weights.safetensors#b_enc: row 0, column 3 is inf"]);
    for length in 0..whole.len() {
        fs::write(&weights, &whole[..length]).unwrap();
        assert_error(load_model(&dir), "CORRUPT_FILE", &["sae_weights.safetensors"]);
    }
    fs::remove_file(&weights).unwrap();
    assert_error(load_model(&dir), "IO", &["sae_weights.safetensors"]);
}

//! Folders that other tools wrote themselves (`__test__/neighbours`), and what these make of rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bae_data::{Format, LoadedModel, export_model, inspect, load_model, save_model};
use bae_model::{Backend, Cpu, Sae, layer_norm};
use ndarray::{Array2, ArrayView2};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::common::{assert_error, f32_bytes, names, safetensors_bytes};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../__test__/neighbours")
}

fn manifest() -> Vec<Value> {
    let text = fs::read(fixtures().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&text).unwrap();
    manifest["models"].as_array().unwrap().clone()
}

/// What a tool says of its model: rows, activations, reconstruction.
fn expected(folder: &Path) -> [Array2<f32>; 3] {
    let bytes = fs::read(folder.join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    ["x", "activations", "reconstruction"].map(|name| {
        let tensor = tensors.tensor(name).unwrap();
        let values = tensor.data().chunks_exact(4).map(|v| f32::from_le_bytes(v.try_into().unwrap()));
        Array2::from_shape_vec((tensor.shape()[0], tensor.shape()[1]), values.collect()).unwrap()
    })
}

/// Activations and reconstruction of a model of ours.
fn apply(model: &LoadedModel, x: ArrayView2<f32>) -> [Array2<f32>; 2] {
    let mut x = x.to_owned();
    let norms = model.layer_norm.then(|| layer_norm(x.view_mut()));
    let architecture = &model.architecture;
    let (codes, mut y) = if architecture.kind().is_some() {
        let sae = Sae::new(&model.parameters, 1);
        let codes = sae.values(architecture, x.view()).unwrap();
        let y = sae.decode_values(architecture, &codes).unwrap();
        (codes, y)
    } else {
        let cpu = Cpu::new(&model.parameters, 1);
        let codes = cpu.encode(architecture, x.view()).unwrap();
        ((&codes).into(), cpu.decode(architecture, &codes).unwrap())
    };
    let activations = Array2::from_shape_vec((x.nrows(), codes.features()), codes.dense()).unwrap();
    for (mut row, (mean, divisor)) in y.rows_mut().into_iter().zip(norms.into_iter().flatten()) {
        // SAELens divides by std + 1e-5 and multiplies by std
        row.mapv_inplace(|y| y * (divisor - 1e-5) + mean);
    }
    [activations, y]
}

/// The same values are 0, all others agree to 1e-5 of the largest of their row.
fn assert_alike(what: &str, got: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(got.dim(), expected.dim(), "{what}");
    for (row, (got, expected)) in got.rows().into_iter().zip(expected.rows()).enumerate() {
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for (column, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            assert_eq!(got == 0.0, expected == 0.0, "{what}: row {row}, column {column}: {got} {expected}");
            assert!(
                (got - expected).abs() <= 1e-5 * largest,
                "{what}: row {row}, column {column} is {got}, not {expected}"
            );
        }
    }
}

/// What no architecture expresses, by the folder's name, and the name that the refusal gives.
const REFUSED: [(&str, &str); 6] = [
    ("sae_lens/abstopk", "architecture is \"abstopk\""),
    ("sae_lens/skip_transcoder", "architecture is \"skip_transcoder\""),
    ("sae_lens/jumprelu_skip_transcoder", "architecture is \"jumprelu_skip_transcoder\""),
    ("sae_lens/standard_constant_norm_rescale", "normalize_activations is \"constant_norm_rescale\""),
    ("sparsify/groupmax", "activation is \"groupmax\""),
    ("sparsify/skip_transcoder", "skip connection"),
];

#[test]
fn every_folder_gives_its_tools_activations_or_is_refused_by_name() {
    let mut done = BTreeMap::new();
    for entry in manifest() {
        let name = entry["folder"].as_str().unwrap().strip_prefix("models/").unwrap();
        let folder = fixtures().join("models").join(name);
        if let Some((_, what)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            assert_error(
                load_model(&folder),
                "UNSUPPORTED_FORMAT",
                &[what, "which no architecture here does"],
            );
            *done.entry("refused").or_insert(0) += 1;
            continue;
        }
        let model = load_model(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.config["d_sae"], entry["d_sae"], "{name}");
        let [x, mut activations, mut reconstruction] = expected(&folder);
        if let Some(name) = name.strip_suffix("batchtopk_checkpoint") {
            // a batch's own k · n largest say nothing of one row; what SAELens makes of the checkpoint for use does
            [_, activations, reconstruction] =
                expected(&fixtures().join("models").join(format!("{name}batchtopk_for_use")));
        }
        let [got, again] = apply(&model, x.view());
        assert_alike(&format!("{name}: activations"), &got, &activations);
        assert_alike(&format!("{name}: reconstruction"), &again, &reconstruction);
        *done.entry("equal").or_insert(0) += 1;

        // saved in our own form it is the same model
        let root = tempdir().unwrap();
        save_model(root.path(), &model.architecture, &model.parameters, &model.config, true).unwrap();
        let saved = load_model(root.path()).unwrap();
        assert_eq!(saved, model, "{name}");
        let described = inspect(folder.to_str().unwrap()).unwrap();
        assert_eq!(described["cfg"], Value::Object(model.config), "{name}");
    }
    assert_eq!(done["equal"] + done["refused"], manifest().len());
    assert_eq!(done["refused"], REFUSED.len());
}

#[test]
fn every_model_goes_out_in_every_format_that_can_say_it() {
    let mut written = BTreeMap::<&str, usize>::new();
    for entry in manifest() {
        let folder = fixtures().join(entry["folder"].as_str().unwrap());
        let Ok(model) = load_model(&folder) else { continue };
        let name = entry["folder"].as_str().unwrap();
        let architecture = model.config["architecture"].as_str().unwrap();
        for (format_name, format) in Format::ALL {
            let root = tempdir().unwrap();
            let dir = root.path().join("model");
            let can = match (format_name, architecture) {
                ("saelens", _) => architecture != "topk_transcoder",
                ("sparsify", _) => architecture.starts_with("topk"),
                ("published", _) => architecture == "bae",
                (_, "standard" | "topk" | "jumprelu" | "gated") => !model.layer_norm,
                _ => false,
            };
            let exported = export_model(&dir, format, &model, false);
            if !can {
                assert_error(
                    exported,
                    "UNSUPPORTED_FORMAT",
                    &["the model", format_name, "choose another format"],
                );
                assert!(!dir.exists());
                continue;
            }
            exported.unwrap_or_else(|error| panic!("{name} as {format_name}: {error}"));
            *written.entry(format_name).or_default() += 1;
            let again = load_model(&dir).unwrap();
            assert_eq!(again.architecture, model.architecture);
            let [x, ..] = expected(&folder);
            let [[activations, y], [activations_again, y_again]] =
                [apply(&model, x.view()), apply(&again, x.view())];
            assert_alike(&format!("{name} as {format_name}"), &activations_again, &activations);
            assert_alike(&format!("{name} as {format_name}"), &y_again, &y);
            // only what subtracts b_dec is rounded on the way
            let is_centred = match format_name {
                "sparsify" => architecture == "topk",
                "dictionary_learning" => matches!(architecture, "topk" | "gated"),
                _ => false,
            };
            assert!(is_centred || again.parameters == model.parameters, "{name} as {format_name}");
            if format_name == "saelens" {
                assert_eq!(again.config, model.config, "{name}");
            }
            // twice the same bytes
            let twice = root.path().join("twice");
            export_model(&twice, format, &model, false).unwrap();
            for file in names(&dir) {
                assert_eq!(
                    fs::read(dir.join(&file)).unwrap(),
                    fs::read(twice.join(&file)).unwrap(),
                    "{file}"
                );
            }
        }
    }
    assert_eq!(written.len(), Format::ALL.len(), "{written:?}");
}

#[test]
fn a_format_that_is_none_is_refused_with_those_there_are() {
    let expected = ["format is \"gguf\"", "saelens, sparsify, dictionary_learning, published"];
    assert_error("gguf".parse::<Format>(), "INVALID_ARGUMENT", &expected);
    for (name, format) in Format::ALL {
        assert_eq!(name.parse::<Format>().unwrap(), format);
    }
}

#[test]
fn two_tools_models_never_share_a_folder() {
    let root = tempdir().unwrap();
    let topk = load_model(&fixtures().join("models/sae_lens/topk")).unwrap();
    export_model(root.path(), Format::Sparsify, &topk, false).unwrap();
    let expected = ["holds sae.safetensors, another tool's model", "choose another --out"];
    for format in [Format::SaeLens, Format::DictionaryLearning] {
        assert_error(export_model(root.path(), format, &topk, true), "IO", &expected);
    }
    let saved = save_model(root.path(), &topk.architecture, &topk.parameters, &topk.config, true);
    assert_error(saved, "IO", &expected);
    export_model(root.path(), Format::Sparsify, &topk, true).unwrap();
}

/// sparsify keeps a folder for each layer.
#[test]
fn of_several_models_in_a_folder_one_is_to_be_named() {
    let root = tempdir().unwrap();
    let topk = load_model(&fixtures().join("models/sae_lens/topk")).unwrap();
    for layer in ["layers.10", "layers.2"] {
        export_model(&root.path().join(layer), Format::Sparsify, &topk, false).unwrap();
    }
    fs::create_dir(root.path().join("notes")).unwrap();
    let expected = ["holds several models", "layers.10, layers.2"];
    assert_error(load_model(root.path()), "IO", &expected);
}

#[test]
fn a_file_alone_is_read_where_it_says_all() {
    let of = |name: &str| fixtures().join("models").join(name);
    let folder = load_model(&of("published/bae")).unwrap();
    assert_eq!(load_model(&of("published/bae/model.pt")).unwrap(), folder);
    let with_config = load_model(&of("dictionary_learning/gated")).unwrap();
    assert_eq!(load_model(&of("dictionary_learning/gated/ae.pt")).unwrap(), with_config);

    let root = tempdir().unwrap();
    let alone = root.path().join("ae.pt");
    fs::copy(of("dictionary_learning/topk/ae.pt"), &alone).unwrap();
    assert_error(load_model(&alone), "UNSUPPORTED_FORMAT", &["ae.pt: it has a tensor b_dec", "description"]);
    assert_error(load_model(root.path()), "IO", &["config.json"]);
    let weights = of("sae_lens/topk/sae_weights.safetensors");
    assert_error(load_model(&weights), "UNSUPPORTED_FORMAT", &["give the folder that it lies in"]);
}

/// Copies a folder with changes to its JSON.
fn changed(name: &str, config: &str, changes: &[(&str, Value)]) -> tempfile::TempDir {
    let root = tempdir().unwrap();
    for entry in fs::read_dir(fixtures().join("models").join(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), root.path().join(entry.file_name())).unwrap();
    }
    let path = root.path().join(config);
    let mut settings: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let object = settings.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(object.remove(key)),
            value => drop(object.insert(key.to_string(), value.clone())),
        }
    }
    fs::write(path, settings.to_string()).unwrap();
    root
}

#[test]
fn settings_decide_and_what_they_ask_beyond_is_refused() {
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, Value)], &'a str, &'a str);
    let cases: &[Case] = &[
        ("sae_lens/topk", "cfg.json", &[("/k", json!(0))], "CORRUPT_FILE", "k is no positive whole number"),
        ("sae_lens/topk", "cfg.json", &[("/k", json!(2.5))], "CORRUPT_FILE", "k is no positive whole number"),
        (
            "sae_lens/standard",
            "cfg.json",
            &[("/d_sae", json!(49))],
            "SHAPE_MISMATCH",
            "W_enc has shape [16, 48]",
        ),
        (
            "sae_lens/standard",
            "cfg.json",
            &[("/d_in", json!(1u64 << 60))],
            "SHAPE_MISMATCH",
            "W_enc has shape [16, 48]",
        ),
        (
            "sae_lens/standard",
            "cfg.json",
            &[("/activation_fn", json!("tanh-relu"))],
            "UNSUPPORTED_FORMAT",
            "tanh-relu",
        ),
        (
            "sae_lens/standard",
            "cfg.json",
            &[("/normalize_activations", json!("expected_average_only_in"))],
            "UNSUPPORTED_FORMAT",
            "expected_average_only_in",
        ),
        (
            "sae_lens/transcoder",
            "cfg.json",
            &[("/normalize_activations", json!("layer_norm"))],
            "UNSUPPORTED_FORMAT",
            "not scaled back",
        ),
        (
            "sae_lens/skip_transcoder",
            "cfg.json",
            &[("/architecture", json!("transcoder"))],
            "UNSUPPORTED_FORMAT",
            "W_skip",
        ),
        (
            "sparsify/topk",
            "cfg.json",
            &[("/num_latents", json!(0))],
            "SHAPE_MISMATCH",
            "encoder.weight has shape [48, 16]",
        ),
        (
            "sparsify/topk",
            "cfg.json",
            &[("/d_in", json!(0))],
            "CORRUPT_FILE",
            "d_in is no positive whole number",
        ),
        (
            "sparsify/skip_transcoder",
            "cfg.json",
            &[("/skip_connection", json!(false))],
            "UNSUPPORTED_FORMAT",
            "a tensor W_skip",
        ),
        (
            "dictionary_learning/topk",
            "config.json",
            &[("/trainer/dict_class", Value::Null)],
            "UNSUPPORTED_FORMAT",
            "trainer.dict_class is absent",
        ),
        (
            "dictionary_learning/topk",
            "config.json",
            &[("/trainer/dict_class", json!("CrossCoder"))],
            "UNSUPPORTED_FORMAT",
            "CrossCoder",
        ),
        (
            "dictionary_learning/topk",
            "config.json",
            &[("/trainer/dict_class", json!("AutoEncoder"))],
            "UNSUPPORTED_FORMAT",
            "a tensor b_dec",
        ),
        (
            "dictionary_learning/topk",
            "config.json",
            &[("/trainer/k", json!(-3))],
            "CORRUPT_FILE",
            "k is no positive",
        ),
        (
            "dictionary_learning/gated",
            "config.json",
            &[("/trainer/dict_class", json!("JumpReluAutoEncoder"))],
            "UNSUPPORTED_FORMAT",
            "a tensor",
        ),
    ];
    for (name, config, changes, code, what) in cases {
        let folder = changed(name, config, changes);
        assert_error(load_model(folder.path()), code, &[what]);
    }
}

/// Before version 6 `cfg.json` says less, and topk is an activation function.
#[test]
fn older_sae_lens_folders_are_read_as_they_were_meant() {
    let standard = load_model(&fixtures().join("models/sae_lens/standard")).unwrap();
    let old = changed(
        "sae_lens/standard",
        "cfg.json",
        &[
            ("/architecture", Value::Null),
            ("/apply_b_dec_to_input", Value::Null),
            ("/normalize_activations", json!(false)),
            ("/activation_fn_str", json!("relu")),
        ],
    );
    assert_eq!(load_model(old.path()).unwrap().parameters, standard.parameters);
    let topk = load_model(&fixtures().join("models/sae_lens/topk")).unwrap();
    let old = changed(
        "sae_lens/topk",
        "cfg.json",
        &[
            ("/architecture", json!("standard")),
            ("/k", Value::Null),
            ("/activation_fn_str", json!("topk")),
            ("/activation_fn_kwargs", json!({ "k": 5 })),
        ],
    );
    let again = load_model(old.path()).unwrap();
    assert_eq!((again.parameters, again.architecture), (topk.parameters, topk.architecture));
}

/// The thresholds of some checkpoints are logarithms.
#[test]
fn logarithms_of_thresholds_and_factors_of_one_change_nothing() {
    let folder = fixtures().join("models/sae_lens/jumprelu");
    let bytes = fs::read(folder.join("sae_weights.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let root = tempdir().unwrap();
    let logs: Vec<f32> = (0..48).map(|at| at as f32 / 10.0 - 3.0).collect();
    let write = |factor: f32| {
        let (logs, factors) = (f32_bytes(&logs), f32_bytes(&[factor; 48]));
        let mut all: Vec<_> = tensors
            .iter()
            .filter(|(name, _)| *name != "threshold")
            .map(|(name, tensor)| (name, tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
            .collect();
        all.push(("log_threshold", Dtype::F32, vec![48], logs));
        all.push(("scaling_factor", Dtype::F32, vec![48], factors));
        let all: Vec<_> =
            all.iter().map(|(name, dtype, shape, data)| (*name, *dtype, &shape[..], &data[..])).collect();
        fs::write(root.path().join("sae_weights.safetensors"), safetensors_bytes(&all)).unwrap();
        load_model(root.path())
    };
    fs::copy(folder.join("cfg.json"), root.path().join("cfg.json")).unwrap();
    let model = write(1.0).unwrap();
    for (threshold, log) in model.parameters.of_features("threshold").iter().zip(&logs) {
        assert_eq!(*threshold, libm::exp(f64::from(*log)) as f32);
    }
    assert_error(write(1.5), "UNSUPPORTED_FORMAT", &["scaling_factor"]);
    // what is claimed is held against the file before there is memory for it
    let path = root.path().join("cfg.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["d_sae"] = json!(1u64 << 52);
    fs::write(&path, config.to_string()).unwrap();
    assert_error(write(1.0), "SHAPE_MISMATCH", &["scaling_factor", "4503599627370496"]);
}

//! Folders that other tools wrote themselves (`__test__/neighbours`), and what these make of rows.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use bae_data::{LoadedModel, inspect, load_model, save_model};
use bae_model::{Backend, Cpu, Sae, layer_norm};
use ndarray::{Array2, ArrayView2};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::tempdir;

use crate::common::assert_error;

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

use std::fs;
use std::path::PathBuf;

use bae_data::{Dataset, KeptFiles, Layers, files_of, layers_of};
use ndarray::Array2;
use safetensors::Dtype;
use tempfile::tempdir;

use crate::common::{assert_error, f32_bytes, write_npy, write_safetensors};

/// A dump of `tokens` tokens and `layers` layers of width 2, whose values say where they are from.
fn write_dump(path: &std::path::Path, tokens: usize, layers: usize) {
    let values: Vec<f32> = (0..tokens * layers * 2).map(|at| at as f32).collect();
    let shape = [tokens, layers, 2];
    write_safetensors(path, &[("hidden_states", Dtype::F32, &shape, &f32_bytes(&values))]);
}

fn all(specs: &[String]) -> Result<Layers, bae_data::DataError> {
    layers_of(specs, &KeptFiles::new(1 << 20), || true)
}

#[test]
fn files_are_listed_in_the_order_they_are_stacked() {
    let dir = tempdir().unwrap();
    for name in ["b.npy", "a.npy", "c.txt"] {
        write_npy(&dir.path().join(name), [1, 2], &[0.0; 2]);
    }
    let at = |name: &str| dir.path().join(name);
    let folder = dir.path().display().to_string();
    let specs = [format!("{}#x", at("b.npy").display()), folder.clone(), format!("{folder}#:layer=3")];
    let found = files_of(&specs).unwrap();
    let shown: Vec<(PathBuf, Option<&str>, Option<usize>)> =
        found.iter().map(|file| (file.path.clone(), file.tensor.as_deref(), file.layer)).collect();
    let expected = [
        (at("b.npy"), Some("x"), None),
        (at("a.npy"), None, None),
        (at("b.npy"), None, None),
        (at("a.npy"), None, Some(3)),
        (at("b.npy"), None, Some(3)),
    ];
    assert_eq!(shown, expected);
    assert_error(files_of(&[format!("{folder}/*.pt")]), "INVALID_ARGUMENT", &["*.pt"]);
}

#[test]
fn layers_of_dumps_are_along_their_axis() {
    let dir = tempdir().unwrap();
    for (name, tokens) in [("a.safetensors", 5), ("b.safetensors", 1)] {
        write_dump(&dir.path().join(name), tokens, 3);
    }
    let folder = dir.path().display().to_string();
    assert_eq!(all(std::slice::from_ref(&folder)).unwrap(), Layers::Axis(3));
    assert_eq!(all(&[format!("{folder}#hidden_states")]).unwrap(), Layers::Axis(3));
    assert_error(all(&[format!("{folder}#:layer=1")]), "INVALID_ARGUMENT", &["picked already"]);
    write_dump(&dir.path().join("c.safetensors"), 2, 4);
    assert_error(all(std::slice::from_ref(&folder)), "SHAPE_MISMATCH", &["3 layers", "c.safetensors has 4"]);
    fs::remove_file(dir.path().join("c.safetensors")).unwrap();
    write_npy(&dir.path().join("d.npy"), [2, 2], &[0.0; 4]);
    assert_error(all(&[folder]), "INVALID_ARGUMENT", &["d.npy", "without layers"]);
}

#[test]
fn layers_in_a_column_are_its_values() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let layers: Vec<u8> = [7i64, -1, 7, 20].iter().flat_map(|layer| layer.to_le_bytes()).collect();
    let states = f32_bytes(&[0.0; 8]);
    let tensors = [("x", Dtype::F32, &[4, 2][..], &states[..]), ("layer", Dtype::I64, &[4], &layers)];
    write_safetensors(&path, &tensors);
    let spec = [path.display().to_string()];
    assert_eq!(all(&spec).unwrap(), Layers::Column(vec![-1, 7, 20]));
    let cancelled = layers_of(&spec, &KeptFiles::new(0), || false);
    assert_error(cancelled, "CANCELLED", &[]);
    write_npy(&dir.path().join("b.npy"), [2, 2], &[0.0; 4]);
    let without = [dir.path().join("b.npy").display().to_string()];
    assert_error(all(&without), "INVALID_ARGUMENT", &["b.npy", "no column layer"]);
}

#[test]
fn kept_files_are_read_once_for_all_layers() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    let (tokens, layers) = (3000, 64);
    write_dump(&path, tokens, layers);
    let size = fs::metadata(&path).unwrap().len();
    assert!(size > 1 << 20, "several blocks");
    for (limit, once) in [(u64::MAX, true), (1 << 20, false)] {
        let kept = KeptFiles::new(limit);
        for layer in 0..layers {
            let spec = [format!("{}#:layer={layer}", path.display())];
            let mut rows = [Array2::zeros((tokens, 2)), Array2::zeros((tokens, 2))];
            for (data, rows) in
                [Dataset::open_kept(&spec, &kept), Dataset::open(&spec)].into_iter().zip(&mut rows)
            {
                data.unwrap().read(0..tokens, rows.view_mut()).unwrap();
            }
            assert_eq!(rows[0], rows[1], "layer {layer}");
            assert_eq!(rows[0][[1, 0]], ((layers + layer) * 2) as f32);
        }
        assert_eq!(kept.bytes_read() == size, once, "{} of {size}", kept.bytes_read());
    }
}

#[test]
fn a_kept_file_must_stay_as_it_is() {
    let dir = tempdir().unwrap();
    let path = dir.path().join("a.safetensors");
    write_dump(&path, 2, 1);
    let (kept, spec) = (KeptFiles::new(1 << 20), [format!("{}#:layer=0", path.display())]);
    Dataset::open_kept(&spec, &kept).unwrap();
    write_dump(&path, 3, 1);
    assert_error(Dataset::open_kept(&spec, &kept).map(drop), "CORRUPT_FILE", &["a.safetensors changed"]);
}

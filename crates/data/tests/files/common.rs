//! Files as other programs write them.

use std::fs;
use std::path::Path;

use bae_data::{Column, DataError, Dataset, Source, open_sources};
use bae_model::{Architecture, Estimator};
use ndarray::Array2;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The Binary Autoencoder.
pub fn bae() -> Architecture {
    Architecture::binary(Estimator::Identity)
}

/// Writes a safetensors file with the crate of that name.
pub fn write_safetensors(path: &Path, tensors: &[(&str, Dtype, &[usize], &[u8])]) {
    fs::write(path, safetensors_bytes(tensors)).unwrap();
}

pub fn safetensors_bytes(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|&(name, dtype, shape, bytes)| (name, TensorView::new(dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

/// One F32 tensor called `states`.
pub fn write_states(path: &Path, shape: [usize; 2], values: &[f32]) {
    write_safetensors(path, &[("states", Dtype::F32, &shape, &f32_bytes(values))]);
}

pub fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// An .npy file byte for byte as numpy writes it: the values start at a multiple of 64.
pub fn npy_bytes(version: u8, descr: &str, fortran_order: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran_order}, 'shape': {shape}, }}");
    let before = if version == 1 { 10 } else { 12 };
    while (before + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY".to_vec();
    bytes.extend([version, 0]);
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    bytes.extend(header.as_bytes());
    bytes.extend(values);
    bytes
}

pub fn write_npy(path: &Path, shape: [usize; 2], values: &[f32]) {
    let shape = format!("({}, {})", shape[0], shape[1]);
    fs::write(path, npy_bytes(1, "<f4", "False", &shape, &f32_bytes(values))).unwrap();
}

pub fn open(specs: &[&str]) -> Result<Dataset, DataError> {
    Dataset::open(&specs.iter().map(|spec| spec.to_string()).collect::<Vec<_>>())
}

pub fn open_path(path: &Path) -> Result<Dataset, DataError> {
    open(&[path.to_str().unwrap()])
}

/// The one source that a spec names.
pub fn open_source(spec: &str) -> Result<Box<dyn Source>, DataError> {
    let mut sources = open_sources(&[spec.to_owned()])?;
    assert_eq!(sources.len(), 1, "{spec}");
    Ok(sources.remove(0))
}

pub fn column(source: &dyn Source, column: Column) -> Vec<i64> {
    let mut out = vec![0; source.rows()];
    source.read_column(column, 0, &mut out).unwrap();
    out
}

pub fn read_all(data: &Dataset) -> Result<Array2<f32>, DataError> {
    let mut out = Array2::zeros((data.rows(), data.d_in()));
    data.read(0..data.rows(), out.view_mut())?;
    Ok(out)
}

/// Checks an error's code and that its one line names all of `parts`.
#[track_caller]
pub fn assert_error<T>(result: Result<T, DataError>, code: &str, parts: &[&str]) {
    let error = result.err().expect("an error");
    let message = error.to_string();
    assert_eq!(error.code(), code, "{message}");
    assert!(!message.contains('\n'), "{message}");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

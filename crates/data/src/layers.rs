//! What hidden states can be taken apart by: files, layers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use crate::column::Column;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::kept_files::KeptFiles;
use crate::open::{Found, Wanted, found, open_found};

/// A file of hidden states, as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The tensor or column asked for, by name.
    pub tensor: Option<String>,
    /// The layer asked for.
    pub layer: Option<usize>,
}

/// Where the layers of hidden states are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layers {
    /// Along the second axis of tensors `[tokens, layers, d_in]`, so many in each.
    Axis(usize),
    /// In a column: its values, ascending.
    Column(Vec<i64>),
}

/// The files that [`Dataset::open`] would stack, in its order. None of them is opened.
///
/// # Errors
/// `INVALID_ARGUMENT` for a pattern or folder without data, `IO` for a path that cannot be read.
pub fn files_of(specs: &[String]) -> Result<Vec<NamedFile>, DataError> {
    let named = |(path, Wanted { tensor, layer })| NamedFile { path, tensor, layer };
    Ok(found(specs)?.into_iter().map(named).collect())
}

/// The layers in these files: of tensors of rank 3, where the first file holds one, else of the column `layer`. `going_on` is asked now
/// and then.
///
/// # Errors
/// `INVALID_ARGUMENT` if a layer is picked already, or there is neither; `SHAPE_MISMATCH` if files differ in their number of layers;
/// [`DataError::Cancelled`]; as [`Dataset::open`].
pub fn layers_of(
    specs: &[String],
    kept: &Arc<KeptFiles>,
    going_on: impl Fn() -> bool,
) -> Result<Layers, DataError> {
    let plain = found(specs)?;
    if let Some((path, _)) = plain.iter().find(|(_, wanted)| wanted.layer.is_some()) {
        return Err(DataError::argument(format!(
            "{}: a layer is picked already; leave :layer=… away to go through all layers",
            path.display()
        )));
    }
    let first =
        |(path, wanted): &(PathBuf, Wanted)| (path.clone(), Wanted { layer: Some(0), ..wanted.clone() });
    let picked: Found = plain.iter().map(first).collect();
    let has_axis = picked.first().is_some_and(|file| open_found(&vec![file.clone()], Some(kept)).is_ok());
    if has_axis {
        return on_axis(&picked, kept);
    }
    let sources = open_found(&plain, Some(kept))?;
    let data = Dataset::new(sources.into_iter().map(|source| source as _).collect())?;
    in_column(&data, going_on)
}

fn on_axis(picked: &Found, kept: &Arc<KeptFiles>) -> Result<Layers, DataError> {
    let sources = open_found(picked, Some(kept))?;
    let mut counts = sources.iter().map(|source| (source.layers().unwrap_or(0), source.path()));
    let Some((layers, first)) = counts.next() else { return Ok(Layers::Axis(0)) };
    if let Some((other, path)) = counts.find(|&(other, _)| other != layers) {
        return Err(DataError::shape(format!(
            "{} has {layers} layers, {} has {other}; give files of one model's layers only",
            first.display(),
            path.display()
        )));
    }
    Ok(Layers::Axis(layers))
}

fn in_column(data: &Dataset, going_on: impl Fn() -> bool) -> Result<Layers, DataError> {
    const CHUNK: usize = 65_536;
    let (mut layers, mut values) = (BTreeSet::new(), vec![]);
    for start in (0..data.rows()).step_by(CHUNK) {
        if !going_on() {
            return Err(DataError::Cancelled);
        }
        let range = start..data.rows().min(start + CHUNK);
        values.resize(range.len(), 0);
        data.read_column(Column::Layer, range, &mut values)?;
        layers.extend(values.iter().copied());
    }
    Ok(Layers::Column(layers.into_iter().collect()))
}

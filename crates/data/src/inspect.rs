use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::codes_file::StoredCodes;
use crate::column::Column;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::input_file::InputFile;
use crate::neighbours::{is_model, open_model};
use crate::open;
use crate::safetensors_file::Header;
use crate::statistics_file::{is_statistics, load_statistics};
use crate::stored_model::{StoredModel, Widths};

/// Describes what lies at `path`, from headers alone.
///
/// - a model folder: `kind` "model", `dIn`, `dSae`, `files`, and `cfg` as the file has it;
/// - a codes file: `kind` "codes", `rows`, `dSae`, `model`;
/// - counts of codes: `kind` "statistics", `rows`, `dSae`, `by`, `shards`;
/// - hidden states, as [`Dataset::open`] takes them: `kind` "hidden_states", `rows`, `dIn`, `dtype` ("mixed" if
///   files differ), `tensors`, `columns` (those that all files bring), and `files` with the `path`, `tensor`, `layer` (if one
///   was picked), `rows` and `dtype` of each.
///
/// # Errors
/// As the reader of each.
pub fn inspect(path: &str) -> Result<Value, DataError> {
    let file = Path::new(path);
    if is_model(file) {
        return model(file);
    }
    if is_codes(file) {
        let StoredCodes { rows, d_sae, model, .. } = StoredCodes::open(file)?;
        return Ok(json!({ "kind": "codes", "rows": rows, "dSae": d_sae, "model": model }));
    }
    if is_statistics_file(file) {
        let statistics = load_statistics(file)?;
        let shards = statistics.shards();
        return Ok(json!({
            "kind": "statistics",
            "rows": statistics.rows(),
            "dSae": statistics.features(),
            "by": statistics.by(),
            "shards": shards.map(|shards| json!({ "of": shards.of, "counted": shards.counted })),
        }));
    }
    hidden_states(path)
}

fn model(dir: &Path) -> Result<Value, DataError> {
    let StoredModel { widths: Widths { d_in, d_sae, .. }, config, .. } = open_model(dir)?;
    let cannot = |error| DataError::io("list", dir, error, "check the folder's permissions");
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        files.insert(entry.map_err(cannot)?.file_name().to_string_lossy().into_owned());
    }
    Ok(json!({ "kind": "model", "dIn": d_in, "dSae": d_sae, "files": files, "cfg": config }))
}

fn is_codes(path: &Path) -> bool {
    header_of(path)
        .is_some_and(|header| header.tensor("codes").is_some() && header.metadata.contains_key("d_sae"))
}

fn is_statistics_file(path: &Path) -> bool {
    header_of(path).is_some_and(|header| is_statistics(&header))
}

/// The header, if it is a safetensors file that has one.
fn header_of(path: &Path) -> Option<Header> {
    let is_safetensors =
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors"));
    if !is_safetensors || !path.is_file() {
        return None;
    }
    Header::read(&InputFile::open(path).ok()?).ok()
}

fn hidden_states(spec: &str) -> Result<Value, DataError> {
    let sources = open::files(&[spec.to_owned()], None)?;
    let dtypes: BTreeSet<&str> = sources.iter().map(|source| source.dtype()).collect();
    let dtype = if dtypes.len() == 1 { dtypes.first().copied() } else { Some("mixed") };
    let tensors: BTreeSet<&str> = sources.iter().filter_map(|source| source.tensor()).collect();
    let files: Vec<Value> = sources
        .iter()
        .map(|source| {
            let mut file = json!({
                "path": source.path().to_string_lossy(),
                "tensor": source.tensor(),
                "rows": source.rows(),
                "dtype": source.dtype(),
            });
            if let Some(layer) = source.layer() {
                file["layer"] = json!(layer);
            }
            file
        })
        .collect();
    let mut described =
        json!({ "kind": "hidden_states", "dtype": dtype, "tensors": tensors, "files": files });
    let data = Dataset::new(sources.into_iter().map(|source| source as _).collect())?;
    described["rows"] = json!(data.rows());
    described["dIn"] = json!(data.d_in());
    let columns = Column::ALL.into_iter().filter(|&column| data.has_column(column));
    described["columns"] = columns.map(|column| column.to_string()).collect();
    Ok(described)
}

//! What rows are said to be, by whoever made the data: a class for each, to be found again in hidden states and codes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use bae_codes::Label;
use serde_json::{Map, Value};

use crate::column::Column;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::input_file::{InputFile, open_regular};
use crate::npy::Array;
use crate::numbers::{Number, read_integers};
use crate::safetensors_file::Header;

/// Bytes in a line of a JSON Lines file, at most.
const MAX_LINE: u64 = 16 << 20;

/// A class for each row of some data, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Labels {
    /// The classes, ascending: numbers before texts.
    values: Vec<Label>,
    /// Of each row, which of them.
    of_row: Vec<Option<u32>>,
}

impl Labels {
    /// Labels of rows, in their order.
    pub fn new(rows: impl IntoIterator<Item = Option<Label>>) -> Self {
        let mut numbers: BTreeMap<Label, u32> = BTreeMap::new();
        let mut of_row: Vec<Option<u32>> = vec![];
        for label in rows {
            let next = numbers.len() as u32;
            of_row.push(label.map(|label| *numbers.entry(label).or_insert(next)));
        }
        // numbered as they came in; from here on in their order
        let mut ranks = vec![0; numbers.len()];
        for (rank, &number) in numbers.values().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        of_row.iter_mut().flatten().for_each(|number| *number = ranks[*number as usize]);
        Self { values: numbers.into_keys().collect(), of_row }
    }

    /// Reads the labels of the rows of `data` from where `spec` says:
    ///
    /// - `COLUMN`: a column that the data brings;
    /// - `FILE.jsonl#FIELD`: a JSON object a line, whose field is a whole number, a string, true or false; null or no such
    ///   field is no label;
    /// - `FILE.safetensors#NAME`, `FILE.npy`: whole numbers `[rows]`.
    ///
    /// A file has a line or number for each row of all the data, in its order.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a column, field or tensor that is not there, naming those that are; `SHAPE_MISMATCH` where a
    /// file has labels for more or fewer rows; `UNSUPPORTED_FORMAT` for what is no label; `CORRUPT_FILE`, `IO`.
    pub fn read(data: &Dataset, spec: &str) -> Result<Self, DataError> {
        if let Some(column) = Column::named(spec) {
            let mut values = vec![0; data.rows()];
            data.read_column(column, 0..data.rows(), &mut values)?;
            return Ok(Self::new(values.into_iter().map(|value| Some(Label::Number(value)))));
        }
        let (path, name) = match spec.rsplit_once('#') {
            Some((path, name)) => (path, Some(name)),
            None => (spec, None),
        };
        let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
        match (extension.map(str::to_ascii_lowercase).as_deref(), name) {
            (Some("jsonl" | "ndjson"), Some(field)) => from_lines(Path::new(path), field, data.rows()),
            (Some("safetensors"), Some(tensor)) => from_tensor(Path::new(path), tensor, data.rows()),
            (Some("npy"), None) => from_npy(Path::new(path), data.rows()),
            _ => {
                let has = |column: &Column| data.has_column(*column);
                let columns: Vec<String> =
                    Column::ALL.iter().filter(|column| has(column)).map(Column::to_string).collect();
                Err(DataError::argument(format!(
                    "there is no label '{spec}': the data has {}; name a column of it, FILE.jsonl#FIELD, \
                     FILE.safetensors#NAME or FILE.npy",
                    if columns.is_empty() {
                        "no columns".to_owned()
                    } else {
                        format!("the columns {}", columns.join(", "))
                    }
                )))
            }
        }
    }

    /// The classes, ascending: numbers before texts. Some may be of no row that is taken.
    pub fn values(&self) -> &[Label] {
        &self.values
    }

    /// Rows that they are of, labelled or not.
    pub fn rows(&self) -> usize {
        self.of_row.len()
    }

    /// Which of [`Labels::values`] a row is.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn of(&self, row: usize) -> Option<usize> {
        self.of_row[row].map(|label| label as usize)
    }
}

fn from_lines(path: &Path, field: &str, rows: usize) -> Result<Labels, DataError> {
    let shown = path.display();
    let cannot = |error| DataError::io("read", path, error, "name a file with a JSON object a line");
    let mut lines = BufReader::new(open_regular(path)?.0);
    let (mut labels, mut line, mut fields) = (vec![], vec![], None);
    loop {
        line.clear();
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(cannot)? == 0 {
            break;
        }
        let number = labels.len() + 1;
        if line.trim_ascii().is_empty() {
            return Err(DataError::corrupt(format!(
                "{shown}, line {number} is empty; give a JSON object a row"
            )));
        }
        if labels.len() == rows {
            return Err(DataError::shape(format!(
                "{shown} has more lines than the data has rows, {rows}; give one line a row"
            )));
        }
        let object: Map<String, Value> = serde_json::from_slice(&line).map_err(|error| {
            DataError::corrupt(format!("{shown}, line {number} is no JSON object: {error}; correct it"))
        })?;
        labels.push(match object.get(field) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(Label::Text(text.clone())),
            Some(Value::Bool(truth)) => Some(Label::Text(truth.to_string())),
            Some(value) => Some(Label::Number(value.as_i64().ok_or_else(|| {
                let kind = match value {
                    Value::Number(_) => "a number that is not whole, or too large",
                    Value::Array(_) => "an array",
                    _ => "an object",
                };
                DataError::format(format!(
                    "{shown}, line {number}: {field} is {kind}; labels are whole numbers, strings, true or false"
                ))
            })?)),
        });
        fields.get_or_insert_with(|| object.keys().cloned().collect::<Vec<_>>().join(", "));
    }
    if labels.len() != rows {
        return Err(too_few(&shown, labels.len(), rows, "lines"));
    }
    if labels.iter().all(Option::is_none) {
        return Err(DataError::argument(format!(
            "{shown} has no field {field} in any line; the first has {}",
            fields.filter(|fields| !fields.is_empty()).unwrap_or_else(|| "none".to_owned())
        )));
    }
    Ok(Labels::new(labels))
}

fn from_tensor(path: &Path, name: &str, rows: usize) -> Result<Labels, DataError> {
    let file = InputFile::open(path)?;
    let header = Header::read(&file)?;
    let tensor = header.tensor(name).ok_or_else(|| {
        DataError::argument(format!("{} has no tensor {name}; it holds {}", path.display(), header.listing()))
    })?;
    let shown = format!("{}#{name}", path.display());
    from_numbers(&file, &shown, Number::of_safetensors(tensor.dtype), &tensor.shape, tensor.offset, rows)
}

fn from_npy(path: &Path, rows: usize) -> Result<Labels, DataError> {
    let file = InputFile::open(path)?;
    let array = Array::in_file(&file)?;
    let tensor = array.tensor("");
    from_numbers(&file, &path.display().to_string(), tensor.number, &tensor.shape, array.offset, rows)
}

fn from_numbers(
    file: &InputFile,
    shown: &str,
    number: Option<Number>,
    shape: &[usize],
    offset: u64,
    rows: usize,
) -> Result<Labels, DataError> {
    let Some(Number::Integer(integer)) = number else {
        return Err(DataError::format(format!(
            "{shown} does not hold whole numbers; save labels in Python as labels.astype('int64')"
        )));
    };
    let &[count] = shape else {
        return Err(DataError::shape(format!(
            "{shown} has shape {shape:?}; labels are [rows], one for each row"
        )));
    };
    if count != rows {
        return Err(too_few(&shown, count, rows, "labels"));
    }
    let mut values = vec![0; rows];
    read_integers(file, integer, offset, &mut values)?;
    integer.check(&values, shown, 0)?;
    Ok(Labels::new(values.into_iter().map(|value| Some(Label::Number(value)))))
}

fn too_few(shown: &dyn std::fmt::Display, found: usize, rows: usize, what: &str) -> DataError {
    DataError::shape(format!(
        "{shown} has {found} {what}, the data has {rows} rows; give one for each row of all the data, in its order"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::MemorySource;

    fn data(rows: usize) -> Dataset {
        let source = MemorySource::new("memory", vec![0.0; rows * 2], 2).unwrap();
        Dataset::new(vec![Box::new(source)]).unwrap()
    }

    fn read(text: &str, rows: usize) -> Result<Labels, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.jsonl");
        std::fs::write(&path, text).unwrap();
        Labels::read(&data(rows), &format!("{}#kind", path.display()))
    }

    #[test]
    fn labels_are_numbered_in_their_order_whatever_order_the_rows_have() {
        let text = |text: &str| Some(Label::Text(text.into()));
        let number = |number| Some(Label::Number(number));
        let labels = Labels::new([text("b"), number(7), None, text("a"), number(-1), text("b")]);
        let values: Vec<String> = labels.values().iter().map(Label::to_string).collect();
        assert_eq!(values, ["-1", "7", "a", "b"]);
        let of: Vec<_> = (0..labels.rows()).map(|row| labels.of(row)).collect();
        assert_eq!(of, [Some(3), Some(1), None, Some(2), Some(0), Some(3)]);
    }

    #[test]
    fn lines_give_strings_numbers_and_truths_and_leave_rows_out() {
        let labels =
            read("{\"kind\":\"x\"}\n{\"kind\":3}\r\n{\"kind\":true}\n{\"kind\":null}\n{}", 5).unwrap();
        let expected =
            [Some(Label::Text("x".into())), Some(Label::Number(3)), Some(Label::Text("true".into()))];
        assert_eq!(labels, Labels::new(expected.into_iter().chain([None, None])));
    }

    #[test]
    fn what_is_no_label_is_refused_by_line() {
        for (text, code, message) in [
            (
                "{\"kind\":1}\n{\"kind\":1.5}",
                "UNSUPPORTED_FORMAT",
                "line 2: kind is a number that is not whole",
            ),
            ("{\"kind\":[1]}\n{}", "UNSUPPORTED_FORMAT", "line 1: kind is an array"),
            ("{\"kind\":1}\nkind", "CORRUPT_FILE", "line 2 is no JSON object"),
            ("{\"kind\":1}\n\n", "CORRUPT_FILE", "line 2 is empty"),
            ("[1]\n{}", "CORRUPT_FILE", "line 1 is no JSON object"),
            ("{\"kind\":1}", "SHAPE_MISMATCH", "has 1 lines, the data has 2 rows"),
            ("{}\n{}\n{}", "SHAPE_MISMATCH", "has more lines than the data has rows, 2"),
            ("{\"a\":1,\"b\":2}\n{}", "INVALID_ARGUMENT", "no field kind in any line; the first has a, b"),
            ("{\"kind\":\"\u{0}", "CORRUPT_FILE", "line 1 is no JSON object"),
        ] {
            let error = read(text, 2).unwrap_err();
            assert_eq!(error.code(), code, "{text}: {error}");
            assert!(error.to_string().contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_label_that_is_not_there_is_refused_with_what_there_is() {
        let refused = |spec: &str| Labels::read(&data(3), spec).unwrap_err().to_string();
        assert!(refused("lexname").contains("there is no label 'lexname': the data has no columns"));
        assert!(refused("group").contains("memory has no column group"));
        assert!(refused("nowhere.jsonl#x").contains("cannot read nowhere.jsonl"));
        assert!(refused("texts.csv#x").contains("FILE.jsonl#FIELD"));
    }
}

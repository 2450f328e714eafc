//! What Parquet and Arrow files share: hidden states are a column of lists, beside columns of whole numbers.

use std::path::Path;

use crate::column::Column;
use crate::error::DataError;
use crate::numbers::Number;
use crate::open::Wanted;
use crate::tensor_file::{PREFERRED, named_columns};

/// A column of a table that is read here: numbers, or lists of numbers.
pub(crate) struct Field {
    pub(crate) name: String,
    /// Absent for types that are not read.
    pub(crate) number: Option<Number>,
    pub(crate) is_vector: bool,
    /// Where the file's own schema has it.
    pub(crate) leaf: usize,
}

impl Field {
    fn is_states(&self) -> bool {
        self.is_vector && matches!(self.number, Some(Number::Float(_)))
    }

    fn described(&self) -> String {
        let number = self.number.map_or("something else", Number::name);
        if self.is_vector {
            format!("{} (lists of {number})", self.name)
        } else {
            format!("{} ({number})", self.name)
        }
    }
}

/// The hidden states and the columns among `fields`.
pub(crate) fn find(
    path: &Path,
    fields: &[Field],
    wanted: &Wanted,
) -> Result<(usize, Vec<(Column, usize)>), DataError> {
    let shown = path.display();
    if let Some(layer) = wanted.layer {
        return Err(DataError::argument(format!(
            "{shown} is a table, whose columns are [rows, d_in] without layers; leave :layer={layer} away"
        )));
    }
    let listing = || {
        const SHOWN: usize = 8;
        let mut parts: Vec<String> = fields.iter().take(SHOWN).map(Field::described).collect();
        if fields.len() > SHOWN {
            parts.push(format!("{} more", fields.len() - SHOWN));
        }
        if parts.is_empty() { "nothing that is read here".to_owned() } else { parts.join(", ") }
    };
    let named = |name: &str| fields.iter().position(|field| field.name == name);
    let candidates: Vec<usize> = (0..fields.len()).filter(|&at| fields[at].is_states()).collect();
    let states = match (&wanted.tensor, named(PREFERRED), &candidates[..]) {
        (Some(name), ..) => named(name).ok_or_else(|| {
            DataError::argument(format!("{shown} has no column {name}; it holds {}", listing()))
        })?,
        (None, Some(preferred), _) => preferred,
        (None, None, &[only]) => only,
        (None, None, []) => {
            return Err(DataError::format(format!(
                "{shown} holds no column of lists of floats, only {}; save the hidden states as one",
                listing()
            )));
        }
        (None, None, &[first, ..]) => {
            return Err(DataError::format(format!(
                "{shown} holds several columns that could be hidden states: {}; pick one, as {shown}#{}",
                listing(),
                fields[first].name
            )));
        }
    };
    if !fields[states].is_states() {
        return Err(DataError::format(format!(
            "{shown}#{} is no column of lists of float16, float32 or float64; convert it or pick another one of {}",
            fields[states].name,
            listing()
        )));
    }
    let columns = named_columns(|name| {
        let is_column = |field: &Field| {
            field.name == name && matches!(field.number, Some(Number::Integer(_))) && !field.is_vector
        };
        fields.iter().position(is_column)
    });
    Ok((states, columns))
}

/// Run lengths and packed bytes make up any number of rows, and whoever reads some takes memory for each: a bit or more.
pub(crate) fn check_rows(path: &Path, rows: usize, size: u64) -> Result<(), DataError> {
    // hidden states that are all alike, by the million, come to some hundred in a byte; others take bytes for each row
    const MOST_IN_A_BYTE: usize = 1024;
    if (rows / MOST_IN_A_BYTE) as u64 <= size {
        return Ok(());
    }
    Err(DataError::corrupt(format!(
        "{} names {rows} rows in {size} bytes, more than {MOST_IN_A_BYTE} in each; make or copy it again",
        path.display()
    )))
}

/// A width that packed values make up may cost memory for each row that they do not have.
pub(crate) fn check_width(name: &str, d_in: usize) -> Result<(), DataError> {
    // no model comes near it
    const MAX_WIDTH: usize = 1 << 20;
    if (1..=MAX_WIDTH).contains(&d_in) {
        return Ok(());
    }
    Err(DataError::shape(format!(
        "{name} has hidden states of width {d_in}; they need one from 1 to {MAX_WIDTH}: save them anew"
    )))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Field, find};
    use crate::column::Column;
    use crate::numbers::{Element, Integer, Number};
    use crate::open::Wanted;

    #[test]
    fn what_does_not_fit_is_no_column() {
        let field =
            |name: &str, number, is_vector| Field { name: name.to_owned(), number, is_vector, leaf: 0 };
        let integer = Some(Number::Integer(Integer::I64));
        let fields = [
            field("input_ids", integer, false),
            field("token_ids", integer, false),
            field("token", integer, true),
            field("hidden_states", Some(Number::Float(Element::F32)), true),
            field("position", integer, true),
            field("layer", None, false),
            field("group", Some(Number::Float(Element::F32)), false),
            field("sequence_id", integer, false),
        ];
        let (states, columns) = find(Path::new("x.parquet"), &fields, &Wanted::default()).unwrap();
        assert_eq!((states, columns), (3, vec![(Column::Token, 1), (Column::Sequence, 7)]));
    }
}

use std::cmp::Ordering;
use std::ops::Range;
use std::str::FromStr;

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, s};

use crate::column::Column;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::row_set::RowSet;

/// What rows must be to be taken: `SUBJECT OPERATOR VALUE`, as `position>0`, `token!=0,2` or `norm<1000`.
///
/// The subject is a column or `norm`, the Euclidean norm of the row. `=` and `!=` take several values, separated by
/// commas: any of them, none of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    text: String,
    subject: Subject,
    comparison: Comparison,
    values: Vec<Bound>,
}

/// A number to compare with; whole ones exactly, for there are columns of 63 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Whole(i64),
    Real(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Column(Column),
    Norm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// The rows that were taken, and why the others were not.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Those taken.
    pub rows: RowSet,
    /// Rows that a condition leaves out.
    pub filtered: usize,
    /// Rows left out because they hold a value that is not finite.
    pub invalid: usize,
}

impl Condition {
    /// As it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn holds(&self, value: Bound) -> bool {
        let is = |bound: &Bound| value.compare(*bound);
        let first = is(&self.values[0]);
        match self.comparison {
            Comparison::Equal => self.values.iter().any(|bound| is(bound).is_eq()),
            Comparison::NotEqual => !self.values.iter().any(|bound| is(bound).is_eq()),
            Comparison::Less => first.is_lt(),
            Comparison::AtMost => first.is_le(),
            Comparison::Greater => first.is_gt(),
            Comparison::AtLeast => first.is_ge(),
        }
    }
}

impl Bound {
    fn compare(self, other: Self) -> Ordering {
        let real = |bound| match bound {
            Self::Whole(value) => value as f64,
            Self::Real(value) => value,
        };
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => a.cmp(&b),
            _ => real(self).total_cmp(&real(other)),
        }
    }
}

impl FromStr for Bound {
    type Err = std::num::ParseFloatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Whole).or_else(|_| text.parse().map(Self::Real))
    }
}

impl FromStr for Condition {
    type Err = DataError;

    fn from_str(text: &str) -> Result<Self, DataError> {
        const OPERATORS: [(&str, Comparison); 7] = [
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("=", Comparison::Equal),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let refuse = |why: &str| {
            let names: Vec<String> = Column::ALL.map(|column| column.to_string()).into();
            Err(DataError::argument(format!(
                "'{text}' is no condition: {why}; write one like position>0, token!=0,2 or norm<1000, of {} or norm",
                names.join(", ")
            )))
        };
        let found = OPERATORS.iter().filter_map(|&(sign, kind)| Some((text.find(sign)?, sign, kind)));
        // the leftmost, and of those that start there the longest
        let Some((at, sign, comparison)) = found.min_by_key(|&(at, sign, _)| (at, 2 - sign.len())) else {
            return refuse("it has no =, !=, <, <=, > or >=");
        };
        let (name, list) = (text[..at].trim(), text[at + sign.len()..].trim());
        let subject = match Column::named(name) {
            Some(column) => Subject::Column(column),
            None if name == "norm" => Subject::Norm,
            None => return refuse(&format!("there is no '{name}'")),
        };
        let values: Result<Vec<Bound>, _> = list.split(',').map(|value| value.trim().parse()).collect();
        let Ok(values) = values else { return refuse(&format!("'{list}' is no number")) };
        if values.iter().any(|value| matches!(value, Bound::Real(value) if !value.is_finite())) {
            return refuse(&format!("'{list}' is no finite number"));
        }
        if values.len() > 1 && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            return refuse("only = and != take several values");
        }
        Ok(Self { text: text.to_owned(), subject, comparison, values })
    }
}

/// Rows that are looked at together, at most ...
const CHUNK: usize = 65_536;
/// ... and their values, where the rows themselves are read.
const CHUNK_VALUES: usize = 1 << 20;

impl Dataset {
    /// The rows that meet all `conditions`, and with `skip_invalid` hold finite values only, as do their targets. Columns are read
    /// where a condition names them, or targets have them too; the rows themselves only for `norm` or `skip_invalid`.
    /// `progress` gets the rows looked at and says whether to go on.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if a source lacks a column, a row and its target are of different tokens, or nothing is left; `NOT_FINITE` where a norm is asked for of a
    /// row that has none; those of reading. `Ok(None)` if `progress` says stop.
    pub fn select(
        &self,
        conditions: &[Condition],
        skip_invalid: bool,
        mut progress: impl FnMut(usize) -> bool,
    ) -> Result<Option<Selection>, DataError> {
        let mut rows = RowSet::all(self.rows());
        let (mut filtered, mut invalid) = (0, 0);
        let (of_norm, of_columns): (Vec<&Condition>, Vec<&Condition>) =
            conditions.iter().partition(|condition| condition.subject == Subject::Norm);
        let reads = skip_invalid || !of_norm.is_empty();
        let chunk = if reads { CHUNK.min(CHUNK_VALUES.div_ceil(self.width())) } else { CHUNK };
        let mut columns = vec![];
        let mut values = Array2::zeros((if reads { chunk.min(self.rows()) } else { 0 }, self.width()));
        for start in (0..self.rows()).step_by(chunk) {
            let range = start..self.rows().min(start + chunk);
            self.check_order(range.clone())?;
            for condition in &of_columns {
                let Subject::Column(column) = condition.subject else { continue };
                columns.resize(range.len(), 0);
                self.read_column(column, range.clone(), &mut columns)?;
                for (row, &value) in range.clone().zip(&columns) {
                    if rows.contains(row) && !condition.holds(Bound::Whole(value)) {
                        rows.set(row, false);
                        filtered += 1;
                    }
                }
            }
            if reads && rows.count_in(range.clone()) > 0 {
                let mut values = values.slice_mut(s![..range.len(), ..]);
                self.read_raw(range.clone(), values.view_mut())?;
                let (left_out, not_finite) =
                    self.look_at(&mut rows, range, values.view(), &of_norm, skip_invalid)?;
                filtered += left_out;
                invalid += not_finite;
            }
            if !progress(start + chunk) {
                return Ok(None);
            }
        }
        if rows.count() == 0 {
            let conditions: Vec<&str> = conditions.iter().map(Condition::text).collect();
            return Err(DataError::argument(format!(
                "none of the {} rows is left: {filtered} do not meet {}, {invalid} hold values that are not finite; \
                 ask for less",
                self.rows(),
                if conditions.is_empty() { "a condition".to_owned() } else { conditions.join(" and ") }
            )));
        }
        Ok(Some(Selection { rows, filtered, invalid }))
    }

    /// Takes rows out by what is in them; counts those that do not meet a condition, and those that are not finite.
    fn look_at(
        &self,
        rows: &mut RowSet,
        range: Range<usize>,
        values: ArrayView2<f32>,
        of_norm: &[&Condition],
        skip_invalid: bool,
    ) -> Result<(usize, usize), DataError> {
        let (mut filtered, mut invalid) = (0, 0);
        for (row, values) in range.zip(values.axis_iter(Axis(0))) {
            if !rows.contains(row) {
                continue;
            }
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                if !skip_invalid {
                    return Err(self.not_finite(row, column, values[column]));
                }
                rows.set(row, false);
                invalid += 1;
            } else if !of_norm.is_empty() {
                let norm = Bound::Real(norm(values.slice(s![..self.d_in()])));
                if !of_norm.iter().all(|condition| condition.holds(norm)) {
                    rows.set(row, false);
                    filtered += 1;
                }
            }
        }
        Ok((filtered, invalid))
    }
}

fn norm(row: ArrayView1<f32>) -> f64 {
    row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

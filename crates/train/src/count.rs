use bae_codes::{BATCH, Counting, GroupedStatistics, Label, Shards};
use bae_data::{Column, Dataset, Feed, Order, RowSet, parameters_checksum};

use crate::TrainError;
use crate::evaluate::{Applied, encode_chunks};
use crate::memory::READ_ONCE;

/// What rows are grouped by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// The value of a column.
    Column(Column),
    /// The file they are in, by what each of the data's sources is called.
    File(Vec<Label>),
}

impl By {
    /// What each of these rows (ascending) is called.
    ///
    /// # Errors
    /// Those of reading a column; rows that do not come from as many files as are named.
    pub fn labels(&self, data: &Dataset, rows: &[usize]) -> Result<Vec<Label>, TrainError> {
        match self {
            Self::File(files) if files.len() != data.sources() => Err(TrainError::Option(format!(
                "rows can be grouped by file where they come from files: {} are named, the data has {} parts",
                files.len(),
                data.sources()
            ))),
            Self::File(files) => Ok(rows.iter().map(|&row| files[data.source_of(row)].clone()).collect()),
            Self::Column(column) => {
                Ok(data.read_column_of(*column, rows)?.into_iter().map(Label::Number).collect())
            }
        }
    }
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Column(column) => column.fmt(f),
            Self::File(_) => f.write_str("file"),
        }
    }
}

/// What to count on the codes of which rows.
#[derive(Clone, Debug, Default)]
pub struct CountOptions {
    /// What is counted.
    pub counting: Counting,
    /// What rows are grouped by, if anything.
    pub by: Option<By>,
    /// Which part of the rows, from 1, of how many: parts are equal to one [`BATCH`] of rows, the last one is cut short.
    pub shard: Option<(u32, u32)>,
}

/// Counts the codes of `rows` in one pass. Rows are taken for clustered by sequence where all sources say what those are.
/// `progress` gets the rows done, and those there are, and says whether to go on.
///
/// # Errors
/// Those of reading, encoding and counting; an option for a shard that is none; [`TrainError::Cancelled`].
pub fn count(
    model: &Applied,
    data: &Dataset,
    rows: &RowSet,
    options: &CountOptions,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<GroupedStatistics, TrainError> {
    let (first_row, part) = match options.shard {
        Some((shard, of)) => {
            let (first, part) = part(rows, shard, of)?;
            (first, Some(part))
        }
        None => (0, None),
    };
    let rows = part.as_ref().unwrap_or(rows);
    let mut statistics = GroupedStatistics::new(
        model.backend.d_sae(),
        &options.counting,
        options.by.as_ref().map(By::to_string),
        parameters_checksum(&model.backend.parameters()?),
    )?;
    if let Some((shard, of)) = options.shard {
        statistics = statistics.of_shard(shard, of);
    }
    let has_sequences = data.has_column(Column::Sequence);
    let total = rows.count();
    let mut numbers = rows.iter();
    encode_chunks(model, &Feed::new(data, rows, Order::Stored, READ_ONCE), |done, x, codes| {
        let of_chunk: Vec<usize> = numbers.by_ref().take(x.nrows()).collect();
        let sequences =
            has_sequences.then(|| data.read_column_of(Column::Sequence, &of_chunk)).transpose()?;
        let labels = options.by.as_ref().map(|by| by.labels(data, &of_chunk)).transpose()?;
        statistics.add(&codes, first_row + done as u64, sequences.as_deref(), labels.as_deref())?;
        Ok(progress(done + x.nrows(), total))
    })?;
    Ok(statistics)
}

/// The rows of part `shard` (from 1) of `of`, and how many of the rows come before it.
fn part(rows: &RowSet, shard: u32, of: u32) -> Result<(u64, RowSet), TrainError> {
    if of == 0 || shard == 0 || shard > of {
        return Err(TrainError::Option(format!(
            "part {shard}/{of} is none: parts are numbered from 1 to their number, as 1/{}",
            of.max(1)
        )));
    }
    if of > Shards::MOST {
        return Err(TrainError::Option(format!("{of} parts are more than {}", Shards::MOST)));
    }
    let batches = rows.count().div_ceil(BATCH) as u64;
    let start = |shard: u32| {
        let batch = u64::from(shard) * batches / u64::from(of);
        (batch as usize * BATCH).min(rows.count())
    };
    let range = start(shard - 1)..start(shard);
    let mut part = RowSet::none(rows.of());
    rows.iter().skip(range.start).take(range.len()).for_each(|row| part.set(row, true));
    Ok((range.start as u64, part))
}

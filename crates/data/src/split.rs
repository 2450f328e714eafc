use std::collections::{BTreeMap, BTreeSet};

use rand::RngExt;
use rand::seq::SliceRandom;

use crate::column::Column;
use crate::dataset::Dataset;
use crate::error::DataError;
use crate::random::{Purpose, generator};
use crate::row_set::RowSet;

/// How many of `rows` to train on when `validation_fraction` of them are held out: the whole part of
/// rows · (1 − validation_fraction), in f64.
pub fn training_rows(rows: usize, validation_fraction: f64) -> usize {
    training_rows_of(1.0 - validation_fraction, rows)
}

/// The whole part of rows · fraction, in f64 as the published code computes it: 0.57 of 100 rows are 56.
///
/// Never more than `rows`, and 0 for a fraction below 0 or NaN.
pub fn training_rows_of(fraction: f64, rows: usize) -> usize {
    ((rows as f64 * fraction) as usize).min(rows)
}

/// Rows to train on and rows to hold out.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// To train on.
    pub training: RowSet,
    /// To measure on.
    pub held_out: RowSet,
    /// Sequences there are, where the data says so and they matter. Whole ones were held out if there are several; of a single one,
    /// rows.
    pub sequences: Option<usize>,
}

/// How rows are held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldOut {
    /// At random, whole sequences where the data says what they are.
    Random {
        /// Of the draw.
        seed: u64,
    },
    /// Those at the end, whole sequences where the data says what they are.
    Last,
    /// The last rows, as published.
    LastRows,
}

impl Split {
    /// Holds out `fraction` of `rows`: exactly, by the rounding of [`training_rows`], where rows are held out; where whole
    /// sequences are, as many as fit, or one.
    ///
    /// The rows of a sequence are like each other: with some of them trained on, the others are no test. Takes two bits
    /// for each row, and about 100 bytes for each sequence.
    ///
    /// # Errors
    /// Those of reading the column.
    pub fn new(data: &Dataset, rows: &RowSet, fraction: f64, how: HoldOut) -> Result<Self, DataError> {
        let held_out = rows.count() - training_rows(rows.count(), fraction);
        let by_sequence = how != HoldOut::LastRows && held_out > 0 && data.has_column(Column::Sequence);
        let sequences = if by_sequence { Some(sequences_of(data, rows)?) } else { None };
        if let Some(sequences) = sequences.as_ref().filter(|sequences| sequences.len() > 1) {
            return Self::by_sequence(data, rows, held_out, how, sequences);
        }
        let sequences = sequences.map(|sequences| sequences.len());
        let mut split = Self { training: rows.clone(), held_out: RowSet::none(rows.of()), sequences };
        match how {
            HoldOut::Random { seed } => {
                // selection sampling (Knuth, TAOCP 3.4.2, algorithm S): exactly so many, in one pass, without a list
                let mut random = generator(seed, Purpose::Split, 0);
                let (mut left, mut wanted) = (rows.count() as u64, held_out as u64);
                for row in rows.iter() {
                    if wanted == 0 {
                        break;
                    }
                    if random.random_range(0..left) < wanted {
                        split.hold_out(row);
                        wanted -= 1;
                    }
                    left -= 1;
                }
            }
            HoldOut::Last | HoldOut::LastRows => {
                let first = rows.count() - held_out;
                rows.iter().skip(first).for_each(|row| split.hold_out(row));
            }
        }
        Ok(split)
    }

    fn by_sequence(
        data: &Dataset,
        rows: &RowSet,
        held_out: usize,
        how: HoldOut,
        sequences: &Sequences,
    ) -> Result<Self, DataError> {
        let mut order: Vec<(usize, i64, usize)> =
            sequences.iter().map(|(&sequence, &(number, rows))| (number, sequence, rows)).collect();
        order.sort_unstable();
        match how {
            HoldOut::Random { seed } => order.shuffle(&mut generator(seed, Purpose::Split, 0)),
            HoldOut::Last | HoldOut::LastRows => order.reverse(),
        }
        let mut taken = 0;
        let mut chosen = BTreeSet::new();
        for &(_, sequence, count) in &order {
            if taken + count <= held_out {
                chosen.insert(sequence);
                taken += count;
            } else if how == HoldOut::Last {
                break;
            }
        }
        if chosen.is_empty() {
            let shortest = order.iter().min_by_key(|&&(number, _, count)| (count, number));
            let taken = if how == HoldOut::Last { order.first() } else { shortest };
            chosen.extend(taken.map(|&(_, sequence, _)| sequence));
        }
        let mut split =
            Self { training: rows.clone(), held_out: RowSet::none(rows.of()), sequences: Some(order.len()) };
        data.for_each_of(Column::Sequence, rows, |row, sequence| {
            if chosen.contains(&sequence) {
                split.hold_out(row);
            }
        })?;
        Ok(split)
    }

    fn hold_out(&mut self, row: usize) {
        self.training.set(row, false);
        self.held_out.set(row, true);
    }
}

/// The sequences, each with its number in the order of the data and its rows.
type Sequences = BTreeMap<i64, (usize, usize)>;

fn sequences_of(data: &Dataset, rows: &RowSet) -> Result<Sequences, DataError> {
    let mut sequences = Sequences::new();
    data.for_each_of(Column::Sequence, rows, |_, sequence| {
        let number = sequences.len();
        sequences.entry(sequence).or_insert((number, 0)).1 += 1;
    })?;
    Ok(sequences)
}

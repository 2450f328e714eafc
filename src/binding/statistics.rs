//! Counts of codes that go on, are merged and kept.

use crate::codes::Codes;
use crate::error::Failure;
use crate::job::{self, End, Events, Job};
use crate::model::{Model, Place};
use crate::states::States;
use bae_codes::{CodeStatistics, Counting, GroupedStatistics, Label};
use bae_data::{Column, load_statistics, save_statistics};
use bae_train::{By, CountOptions, count};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use serde_json::json;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Rows that are counted between two reports of progress.
const CHUNK: usize = 1 << 14;

/// Counts that one job at a time works with.
type Shared = Arc<Counts>;

struct Counts {
    counts: Mutex<GroupedStatistics>,
    d_sae: usize,
    /// Rows after the last job that added some: JavaScript asks for them, and must not wait for a job that works with the counts.
    rows: AtomicU64,
}

impl Counts {
    fn locked(&self) -> MutexGuard<'_, GroupedStatistics> {
        self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the counts, and tells how many rows there are then, whatever comes of it.
    fn change<T>(&self, change: impl FnOnce(&mut GroupedStatistics) -> T) -> T {
        let mut counts = self.locked();
        let result = change(&mut counts);
        self.rows.store(counts.rows(), Ordering::Relaxed);
        result
    }
}

/// Counts of codes; `None` once disposed.
#[napi]
pub struct Statistics {
    counts: Mutex<Option<Shared>>,
}

impl From<GroupedStatistics> for Statistics {
    fn from(counts: GroupedStatistics) -> Self {
        let (d_sae, rows) = (counts.features(), AtomicU64::new(counts.rows()));
        Self { counts: Mutex::new(Some(Arc::new(Counts { counts: Mutex::new(counts), d_sae, rows }))) }
    }
}

impl Statistics {
    /// The counts, unless disposed.
    fn get(&self) -> std::result::Result<Shared, Failure> {
        let counts = self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        counts.clone().ok_or_else(|| Failure::disposed("set of counts"))
    }
}

/// What rows are grouped by.
#[napi(object, object_to_js = false)]
pub struct Grouping {
    /// A column, or `file`; nothing where rows stay together.
    pub by: Option<String>,
    /// What each file is called, where they are groups.
    pub files: Option<Vec<Either<i64, String>>>,
}

impl Grouping {
    /// What rows are grouped by, if anything.
    pub fn by(&self) -> std::result::Result<Option<By>, Failure> {
        by(self.by.as_deref(), self.files.as_deref())
    }
}

fn by(by: Option<&str>, files: Option<&[Either<i64, String>]>) -> std::result::Result<Option<By>, Failure> {
    let label = |name: &Either<i64, String>| match name {
        Either::A(number) => Label::Number(*number),
        Either::B(text) => Label::Text(text.clone()),
    };
    Ok(match by {
        None => None,
        Some("file") => Some(By::File(files.unwrap_or_default().iter().map(label).collect())),
        Some(name) => Some(By::Column(Column::named(name).ok_or_else(|| {
            let columns = Column::ALL.map(|column| column.to_string()).join(", ");
            let message = format!("rows cannot be grouped by '{name}', only by {columns} or file");
            Failure { code: "INVALID_ARGUMENT", message }
        })?)),
    })
}

/// What is counted beside ones, rows and batches.
#[napi(object, object_to_js = false)]
pub struct CountRequest {
    /// All pairs, and a sample of rows.
    pub pairs: bool,
    /// Patterns of these features.
    pub subset: Vec<u32>,
    /// Groups: a column, or `file`.
    pub by: Option<String>,
    /// What each file is called, where they are groups.
    pub files: Option<Vec<Either<i64, String>>>,
    /// Part of the rows, from 1 ...
    pub shard: Option<u32>,
    /// ... of so many.
    pub shards: Option<u32>,
}

impl CountRequest {
    fn counting(&self) -> Counting {
        let subset = self.subset.iter().map(|&feature| feature as usize).collect();
        Counting { batches: true, pairs: self.pairs, subset }
    }

    fn options(&self) -> std::result::Result<CountOptions, Failure> {
        let by = by(self.by.as_deref(), self.files.as_deref())?;
        let shard = self.shard.zip(self.shards);
        Ok(CountOptions { counting: self.counting(), by, shard })
    }
}

#[napi]
impl Statistics {
    /// No rows yet, of codes with `dSae` bits.
    #[napi(constructor, catch_unwind)]
    pub fn new(d_sae: u32, request: CountRequest) -> Result<Self, &'static str> {
        let counts = GroupedStatistics::new(d_sae as usize, &request.counting(), None, String::new());
        Ok(counts.map_err(Failure::from)?.into())
    }

    /// Rows counted, by the jobs that have ended.
    #[napi(getter, catch_unwind)]
    pub fn rows(&self) -> Result<f64, &'static str> {
        Ok(self.get()?.rows.load(Ordering::Relaxed) as f64)
    }

    /// Bits in a code.
    #[napi(getter, catch_unwind)]
    pub fn d_sae(&self) -> Result<u32, &'static str> {
        Ok(self.get()?.d_sae as u32)
    }

    /// Frees the counts once no running job needs them.
    #[napi(catch_unwind)]
    pub fn dispose(&self) {
        self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    }
}

/// Bytes that counts of all pairs of so many features take.
#[napi(catch_unwind)]
pub fn pair_bytes(features: u32) -> f64 {
    CodeStatistics::pair_bytes(features as usize) as f64
}

/// Counts the codes of hidden states.
#[napi(catch_unwind)]
pub fn start_count(
    model: &Model,
    states: States,
    request: CountRequest,
    place: Place,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (model, states) = (model.get()?, states.hold()?);
    job::start(on_event, move |context| {
        let options = request.options()?;
        let chosen = model.open(states, context)?;
        let applied = model.on(place)?;
        let statistics =
            count(&applied, &chosen.data, &chosen.rows, &options, |rows, total| context.rows(rows, total))?;
        context.leave(|output| output.statistics = Some(statistics));
        Ok(End::Done(chosen.complete(json!({}))))
    })
}

/// Counts codes in memory, numbered from `firstRow` on, onto what was counted before.
#[napi(catch_unwind)]
pub fn start_count_codes(
    statistics: &Statistics,
    codes: &Codes,
    sequences: Option<BigInt64Array>,
    first_row: Option<f64>,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (counts, codes) = (statistics.get()?, codes.get()?);
    let sequences = sequences.map(|sequences| sequences.to_vec());
    job::start(on_event, move |context| {
        counts.change(|counts| {
            let first_row = first_row.map_or(counts.rows(), |row| row as u64);
            let mut row = 0;
            for part in codes.chunks(CHUNK) {
                let of_part = sequences.as_ref().map(|sequences| &sequences[row..row + part.rows()]);
                counts.add(&part, first_row + row as u64, of_part, None)?;
                row += part.rows();
                if !context.rows(row, codes.rows()) {
                    return Ok(End::Cancelled(json!({})));
                }
            }
            Ok(End::Done(json!({ "rows": row })))
        })
    })
}

/// Adds the counts of `other`.
#[napi(catch_unwind)]
pub fn start_merge(
    statistics: &Statistics,
    other: &Statistics,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let (counts, other) = (statistics.get()?, other.get()?);
    job::start(on_event, move |_| {
        if Arc::ptr_eq(&counts, &other) {
            let message = "counts cannot be added to themselves; give the counts of other rows".into();
            return Err(Failure { code: "INVALID_ARGUMENT", message });
        }
        // taken one after the other: two calls that add two counts to each other must not wait for ever
        let other = other.locked().clone();
        counts.change(|counts| counts.merge(&other))?;
        Ok(End::Done(json!({})))
    })
}

/// Says what was counted.
#[napi(catch_unwind)]
pub fn start_report(
    statistics: &Statistics,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let counts = statistics.get()?;
    job::start(on_event, move |context| {
        Ok(match counts.locked().report(|| !context.cancelled()) {
            Some(report) => End::Done(serde_json::to_value(report).expect("plain numbers")),
            None => End::Cancelled(json!({})),
        })
    })
}

/// Gives the ones of each feature.
#[napi(catch_unwind)]
pub fn start_ones(
    statistics: &Statistics,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let counts = statistics.get()?;
    job::start(on_event, move |_| Ok(End::Done(json!(counts.locked().all().counts().ones()))))
}

/// Writes counts to a file.
#[napi(catch_unwind)]
pub fn start_save_statistics(
    statistics: &Statistics,
    path: String,
    overwrite: bool,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    let counts = statistics.get()?;
    job::start(on_event, move |_| {
        save_statistics(Path::new(&path), &mut counts.locked(), overwrite)?;
        Ok(End::Done(json!({ "out": path })))
    })
}

/// Reads counts from a file.
#[napi(catch_unwind)]
pub fn start_load_statistics(
    path: String,
    #[napi(ts_arg_type = "(event: JobEvent) => void")] on_event: Events,
) -> Result<Job, &'static str> {
    job::start(on_event, move |context| {
        let statistics = load_statistics(Path::new(&path))?;
        context.leave(|output| output.statistics = Some(statistics));
        Ok(End::Done(json!({})))
    })
}

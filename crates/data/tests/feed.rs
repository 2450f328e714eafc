//! Reading in batches: every row once, in an order that the seed decides, in the memory that is stated.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use bae_data::{
    BLOCKS, Column, Condition, DataError, Dataset, Feed, HoldOut, MemorySource, Order, RowSet, Source, Split,
};
use ndarray::{Array2, ArrayViewMut2, Axis};
use proptest::prelude::*;

/// Rows that hold their own number, and may be decoded in pieces and bring columns.
struct Numbered {
    rows: usize,
    first: usize,
    d_in: usize,
    pieces: Vec<usize>,
    /// Rows of a sequence, or 0 for no columns.
    sequence: usize,
    reads: AtomicUsize,
    bad: Option<usize>,
}

impl Numbered {
    fn new(first: usize, rows: usize, d_in: usize) -> Self {
        Self { rows, first, d_in, pieces: vec![], sequence: 0, reads: AtomicUsize::new(0), bad: None }
    }
}

impl Source for Numbered {
    fn name(&self) -> String {
        format!("numbers from {}", self.first)
    }
    fn rows(&self) -> usize {
        self.rows
    }
    fn d_in(&self) -> usize {
        self.d_in
    }
    fn read(&self, start: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
        assert!(start + out.nrows() <= self.rows);
        self.reads.fetch_add(out.nrows(), Ordering::Relaxed);
        for (at, mut row) in out.axis_iter_mut(Axis(0)).enumerate() {
            row.fill((self.first + start + at) as f32);
            if self.bad == Some(start + at) {
                row[0] = f32::NAN;
            }
        }
        Ok(())
    }
    fn pieces(&self) -> Vec<usize> {
        self.pieces.clone()
    }
    fn columns(&self) -> Vec<Column> {
        if self.sequence > 0 { vec![Column::Sequence, Column::Position] } else { vec![] }
    }
    fn read_column(&self, column: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
        for (at, out) in out.iter_mut().enumerate() {
            let row = self.first + start + at;
            *out = if column == Column::Sequence { row / self.sequence } else { row % self.sequence } as i64;
        }
        Ok(())
    }
}

fn stacked(sizes: &[usize], d_in: usize) -> Dataset {
    let mut first = 0;
    let sources = sizes.iter().map(|&rows| {
        let source: Box<dyn Source> = Box::new(Numbered::new(first, rows, d_in));
        first += rows;
        source
    });
    Dataset::new(sources.collect()).unwrap()
}

/// The rows of a pass in the order of the batches, and the sizes of those.
fn pass(feed: &Feed, number: u64, batch: usize, skip: usize) -> (Vec<usize>, Vec<usize>) {
    let (mut rows, mut sizes) = (vec![], vec![]);
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, number, batch, skip);
        while let Some(x) = batches.next() {
            let x = x.unwrap();
            assert!(x.rows().into_iter().all(|row| row.iter().all(|&value| value == row[0])));
            rows.extend(x.column(0).iter().map(|&value| value as usize));
            sizes.push(x.nrows());
        }
    });
    (rows, sizes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn every_pass_gives_each_row_once_and_may_begin_anywhere(
        sizes in prop::collection::vec(0usize..80, 1..6), d_in in 1usize..20, memory in 0usize..20_000,
        batch in 1usize..50, keep in 1usize..8, seed: u64, number in 0u64..1000, skip in 0usize..12, shuffled: bool,
        piece in prop::option::of(1usize..30),
    ) {
        let rows: usize = sizes.iter().sum();
        prop_assume!(rows > 0);
        let mut first = 0;
        let data = Dataset::new(sizes.iter().map(|&rows| {
            let mut source = Numbered::new(first, rows, d_in);
            first += rows;
            if let Some(piece) = piece {
                source.pieces = (0..rows).step_by(piece).map(|at| piece.min(rows - at)).collect();
            }
            Box::new(source) as Box<dyn Source>
        }).collect()).unwrap();
        let mut set = RowSet::all(rows);
        (0..rows).filter(|row| row % keep != 0).for_each(|row| set.set(row, false));
        let order = if shuffled { Order::Shuffled { seed } } else { Order::Stored };
        let feed = Feed::new(&data, &set, order, memory);
        prop_assert!(feed.bytes() <= memory.max(2 * (4 * d_in + 4)));
        let (all, batches) = pass(&feed, number, batch, 0);
        prop_assert!(batches[..batches.len() - 1].iter().all(|&size| size == batch));
        let sorted: BTreeSet<usize> = all.iter().copied().collect();
        prop_assert_eq!(all.len(), set.count());
        prop_assert!(sorted.into_iter().eq(set.iter()));
        if !shuffled {
            prop_assert!(all.is_sorted());
        }
        // the same again, and from the middle
        let again = Feed::new(&data, &set, order, memory);
        let (rest, _) = pass(&again, number, batch, skip);
        prop_assert_eq!(&all[(skip * batch).min(all.len())..], &rest[..]);
        let (other, _) = pass(&again, number + 1, batch, 0);
        if shuffled && all.len() > 20 {
            prop_assert!(other != all);
        }
    }
}

/// How much neighbours of the data still stand together: correlation of the numbers of rows that follow each other.
fn correlation(rows: &[usize]) -> f64 {
    let n = rows.len() as f64;
    let mean = (n - 1.0) / 2.0;
    let variance: f64 = rows.iter().map(|&row| (row as f64 - mean).powi(2)).sum();
    rows.windows(2).map(|pair| (pair[0] as f64 - mean) * (pair[1] as f64 - mean)).sum::<f64>() / variance
}

#[test]
fn neighbours_of_a_pass_are_strangers() {
    // 100,000 rows through windows of 6,250: a sixteenth
    let data = stacked(&[40_000, 60_000], 7);
    let set = RowSet::all(100_000);
    let feed = Feed::new(&data, &set, Order::Shuffled { seed: 5 }, 2 * 6250 * 32);
    for number in 0..3 {
        let (rows, _) = pass(&feed, number, 500, 0);
        // windows have means of their own, which is the price of not holding all: 64 blocks each, so 1/64 at most
        let together = correlation(&rows);
        assert!(together.abs() < 1.5 / BLOCKS as f64, "{together}");
        // rows of one block (97) are 1/64 of a window: a row's follower is one of them that often, not more
        let near = rows.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 97).count() as f64 / 1e5;
        assert!(near < 2.0 / BLOCKS as f64, "{near}");
        // every batch has rows from all over
        for batch in rows.chunks(500) {
            let tenths: BTreeSet<usize> = batch.iter().map(|row| row / 10_000).collect();
            assert!(tenths.len() >= 9, "{tenths:?}");
        }
    }
}

#[test]
fn what_fits_is_read_once_and_shuffled_all_over() {
    let source = Numbered::new(0, 1000, 4);
    let counter = std::sync::Arc::new(source);
    struct Shared(std::sync::Arc<Numbered>);
    impl Source for Shared {
        fn name(&self) -> String {
            self.0.name()
        }
        fn rows(&self) -> usize {
            self.0.rows()
        }
        fn d_in(&self) -> usize {
            self.0.d_in()
        }
        fn read(&self, start: usize, out: ArrayViewMut2<f32>) -> Result<(), DataError> {
            self.0.read(start, out)
        }
    }
    let data = Dataset::new(vec![Box::new(Shared(counter.clone()))]).unwrap();
    let set = RowSet::all(1000);
    let feed = Feed::new(&data, &set, Order::Shuffled { seed: 1 }, 20_000);
    let sample = feed.sample(100).unwrap();
    assert_eq!(sample.dim(), (100, 4));
    let orders: Vec<Vec<usize>> = (1..5).map(|number| pass(&feed, number, 64, 0).0).collect();
    assert_eq!(counter.reads.load(Ordering::Relaxed), 1000);
    assert!(orders.iter().all(|order| correlation(order).abs() < 0.1));
    // the order does not depend on the memory as long as all fits
    let roomy = Feed::new(&data, &set, Order::Shuffled { seed: 1 }, 1 << 30);
    assert_eq!(pass(&roomy, 3, 64, 0).0, orders[2]);
    assert_eq!(roomy.sample(100).unwrap(), sample);
}

/// The order that seed 7 has had since the first release: it must not change with a dependency, a machine or a thread.
/// What is decoded from the start of a piece on is decoded once for all its blocks in a window.
#[test]
fn a_window_is_read_in_the_order_in_which_it_is_stored() {
    struct Logged(Numbered, std::sync::Arc<std::sync::Mutex<Vec<usize>>>);
    impl Source for Logged {
        fn name(&self) -> String {
            self.0.name()
        }
        fn rows(&self) -> usize {
            self.0.rows()
        }
        fn d_in(&self) -> usize {
            self.0.d_in()
        }
        fn read(&self, start: usize, out: ArrayViewMut2<f32>) -> Result<(), DataError> {
            self.1.lock().unwrap().push(start);
            self.0.read(start, out)
        }
        fn pieces(&self) -> Vec<usize> {
            self.0.pieces()
        }
    }
    let log = std::sync::Arc::default();
    let source = Numbered { pieces: vec![1000; 8], ..Numbered::new(0, 8000, 1) };
    let data = Dataset::new(vec![Box::new(Logged(source, std::sync::Arc::clone(&log)))]).unwrap();
    let rows = RowSet::all(8000);
    // windows of 2000 rows: half of the memory
    let feed = Feed::new(&data, &rows, Order::Shuffled { seed: 3 }, 2 * 2000 * 8);
    let (mut all, _) = pass(&feed, 0, 100, 0);
    assert!(!all.is_sorted());
    all.sort();
    assert!(all.into_iter().eq(0..8000));
    let starts = log.lock().unwrap();
    let returns = starts.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(starts.len() >= 64 && returns <= 5, "{returns} of {}", starts.len());
}

#[test]
fn the_order_of_a_seed_is_fixed() {
    let data = stacked(&[13, 20, 7], 2);
    let set = RowSet::all(40);
    let windows = Feed::new(&data, &set, Order::Shuffled { seed: 7 }, 240);
    let whole = Feed::new(&data, &set, Order::Shuffled { seed: 7 }, 4000);
    let first = |feed: &Feed| pass(feed, 1, 8, 0).0[..12].to_vec();
    assert_eq!(first(&windows), [16, 32, 15, 36, 31, 3, 17, 30, 19, 22, 29, 28]);
    assert_eq!(first(&whole), [6, 9, 25, 4, 28, 19, 15, 21, 16, 30, 38, 36]);
}

#[test]
fn a_row_that_is_not_finite_is_named_wherever_the_thread_meets_it() {
    let mut sources: Vec<Box<dyn Source>> = vec![];
    for shard in 0..100 {
        let mut source = Numbered::new(50 * shard, 50, 3);
        source.bad = (shard == 37).then_some(21);
        sources.push(Box::new(source));
    }
    let data = Dataset::new(sources).unwrap();
    let set = RowSet::all(5000);
    let failure = |set: &RowSet| {
        let feed = Feed::new(&data, set, Order::Shuffled { seed: 2 }, 8000);
        std::thread::scope(|scope| {
            let mut batches = feed.batches(scope, 1, 64, 0);
            while let Some(x) = batches.next() {
                if let Err(error) = x {
                    return Some(error.to_string());
                }
            }
            None
        })
    };
    let message = failure(&set).unwrap();
    assert!(message.contains("numbers from 1850: row 21, column 0 is NaN"), "{message}");
    let selection = data.select(&[], true, |_| true).unwrap().unwrap();
    assert_eq!((selection.invalid, selection.filtered, selection.rows.count()), (1, 0, 4999));
    assert_eq!(failure(&selection.rows), None);
}

#[test]
fn dropping_a_pass_ends_its_thread() {
    let data = stacked(&[100_000], 8);
    let set = RowSet::all(100_000);
    let feed = Feed::new(&data, &set, Order::Shuffled { seed: 2 }, 40_000);
    // the scope waits for the thread
    std::thread::scope(|scope| {
        let mut batches = feed.batches(scope, 1, 10, 0);
        assert_eq!(batches.next().unwrap().unwrap().nrows(), 10);
    });
}

#[test]
fn a_raised_flag_ends_a_pass_in_the_middle_of_a_window() {
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let data = stacked(&[100_000], 8);
    let set = RowSet::all(100_000);
    // in windows, and with all rows kept
    for memory in [400_000, 1 << 30] {
        cancel.store(false, Ordering::Relaxed);
        let feed = Feed::new(&data, &set, Order::Shuffled { seed: 2 }, memory).until(&cancel);
        if memory == 1 << 30 {
            cancel.store(true, Ordering::Relaxed);
        }
        std::thread::scope(|scope| {
            let mut batches = feed.batches(scope, 1, 1000, 0);
            let mut given = 0;
            let error = loop {
                match batches.next().expect("the flag is raised before the end") {
                    Ok(x) => given += x.nrows(),
                    Err(error) => break error,
                }
                cancel.store(true, Ordering::Relaxed);
            };
            assert_eq!(error.code(), "CANCELLED");
            // no more than what had been read by then
            assert!(given < 30_000, "{given}");
        });
    }
}

fn with_sequences(rows: usize, sequence: usize) -> Dataset {
    let mut source = Numbered::new(0, rows, 3);
    source.sequence = sequence;
    Dataset::new(vec![Box::new(source)]).unwrap()
}

fn condition(text: &str) -> Condition {
    text.parse().unwrap()
}

#[test]
fn conditions_choose_rows_by_columns_and_norms() {
    let data = with_sequences(60, 10);
    let rows = |conditions: &[&str]| {
        let conditions: Vec<Condition> = conditions.iter().map(|text| condition(text)).collect();
        data.select(&conditions, false, |_| true).map(|s| s.unwrap().rows.iter().collect::<Vec<_>>())
    };
    assert_eq!(rows(&["position>7"]).unwrap(), [8, 9, 18, 19, 28, 29, 38, 39, 48, 49, 58, 59]);
    assert_eq!(rows(&["sequence_id = 2", "position <= 1"]).unwrap(), [20, 21]);
    assert_eq!(rows(&["sequence!=0,1,2,3,5", "position>=8"]).unwrap(), [48, 49]);
    assert_eq!(rows(&["position==3", "sequence<2"]).unwrap(), [3, 13]);
    // a row holds its number three times
    assert_eq!(rows(&["norm<5"]).unwrap(), [0, 1, 2]);
    assert_eq!(rows(&["norm>=5", "sequence=0", "position<5"]).unwrap(), [3, 4]);
    let error = rows(&["position>10"]).unwrap_err();
    assert!(error.to_string().contains("none of the 60 rows is left: 60 do not meet position>10"), "{error}");
    let error = rows(&["layer=3"]).unwrap_err().to_string();
    assert!(error.contains("numbers from 0 has no column layer, only sequence, position"), "{error}");
    for (text, why) in [
        ("position", "no =, !="),
        ("place>3", "no 'place'"),
        ("position>x", "'x' is no number"),
        ("position>", "'' is no number"),
        ("position<1,2", "only = and !="),
        ("norm<inf", "finite"),
    ] {
        let error = text.parse::<Condition>().unwrap_err();
        assert!(error.to_string().contains(why) && error.code() == "INVALID_ARGUMENT", "{error}");
    }
    assert!(data.select(&[condition("norm<5")], false, |_| false).unwrap().is_none());
}

proptest! {
    #[test]
    fn whole_sequences_are_held_out(
        rows in 30usize..300, sequence in 1usize..12, fraction in 0.05f64..0.6, seed: u64, last: bool,
    ) {
        let data = with_sequences(rows, sequence);
        let set = RowSet::all(rows);
        let how = if last { HoldOut::Last } else { HoldOut::Random { seed } };
        let split = Split::new(&data, &set, fraction, how).unwrap();
        prop_assert_eq!(split.sequences, Some(rows.div_ceil(sequence)));
        prop_assert_eq!(split.training.count() + split.held_out.count(), rows);
        let of = |set: &RowSet| set.iter().map(|row| row / sequence).collect::<BTreeSet<_>>();
        prop_assert!(of(&split.training).is_disjoint(&of(&split.held_out)));
        let wanted = rows - bae_data::training_rows(rows, fraction);
        prop_assert!(split.held_out.count() > 0 && split.held_out.count() <= wanted.max(sequence));
        prop_assert!(split.held_out.count() + sequence > wanted);
        prop_assert_eq!(&split, &Split::new(&data, &set, fraction, how).unwrap());
        if last {
            prop_assert!(split.held_out.iter().eq(split.training.count()..rows));
        }
    }

    #[test]
    fn without_sequences_exactly_the_fraction_is_held_out(rows in 1usize..500, fraction in 0.0f64..1.0, seed: u64) {
        let data = stacked(&[rows], 2);
        let set = RowSet::all(rows);
        for how in [HoldOut::Random { seed }, HoldOut::Last, HoldOut::LastRows] {
            let split = Split::new(&data, &set, fraction, how).unwrap();
            prop_assert_eq!(split.training.count(), bae_data::training_rows(rows, fraction));
            prop_assert_eq!(split.training.count() + split.held_out.count(), rows);
            prop_assert!(split.training.iter().all(|row| !split.held_out.contains(row)));
        }
    }
}

#[test]
fn of_one_sequence_rows_are_held_out() {
    let data = with_sequences(20, 20);
    for how in [HoldOut::Random { seed: 0 }, HoldOut::Last] {
        let split = Split::new(&data, &RowSet::all(20), 0.2, how).unwrap();
        assert_eq!((split.sequences, split.training.count(), split.held_out.count()), (Some(1), 16, 4));
    }
    assert_eq!(Split::new(&data, &RowSet::all(20), 0.2, HoldOut::LastRows).unwrap().sequences, None);
}

#[test]
fn whole_numbers_are_compared_as_such() {
    struct Large;
    impl Source for Large {
        fn name(&self) -> String {
            "large".into()
        }
        fn rows(&self) -> usize {
            3
        }
        fn d_in(&self) -> usize {
            1
        }
        fn read(&self, _: usize, mut out: ArrayViewMut2<f32>) -> Result<(), DataError> {
            out.fill(0.0);
            Ok(())
        }
        fn columns(&self) -> Vec<Column> {
            vec![Column::Sequence]
        }
        fn read_column(&self, _: Column, start: usize, out: &mut [i64]) -> Result<(), DataError> {
            (start..).zip(out).for_each(|(row, out)| *out = (1 << 62) + row as i64);
            Ok(())
        }
    }
    let data = Dataset::new(vec![Box::new(Large)]).unwrap();
    let rows = |text: &str| data.select(&[condition(text)], false, |_| true).unwrap().unwrap().rows.count();
    assert_eq!((rows("sequence=4611686018427387905"), rows("sequence>4611686018427387904")), (1, 2));
    assert_eq!((rows("sequence>0.5"), rows("sequence!=4611686018427387906,3")), (3, 2));
}

#[test]
fn every_row_is_as_likely_to_be_held_out() {
    let data = Dataset::new(vec![Box::new(MemorySource::new("zeros", vec![0.0; 50], 1).unwrap())]).unwrap();
    let mut counts = Array2::<u32>::zeros((1, 50));
    for seed in 0..2000 {
        let split = Split::new(&data, &RowSet::all(50), 0.2, HoldOut::Random { seed }).unwrap();
        split.held_out.iter().for_each(|row| counts[[0, row]] += 1);
    }
    // 400 expected, standard deviation 18
    assert!(counts.iter().all(|count| (310..490).contains(count)), "{counts}");
}

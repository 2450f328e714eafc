use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::Scope;

use ndarray::{Array2, ArrayView1, Axis, s};
use rand::seq::SliceRandom;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::random::{Purpose, generator};
use crate::row_set::RowSet;

/// The order in which rows come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are stored.
    Stored,
    /// Shuffled, another way in each pass.
    Shuffled {
        /// Decides all orders.
        seed: u64,
    },
}

/// Rows in batches, pass after pass, in bounded memory.
///
/// Shuffling is done in two levels. The rows are cut into blocks of neighbours; each pass goes through the blocks in a random
/// order, fills a window with as many as its memory holds, and gives the rows of the window in a random order, while a
/// thread of its own reads the next window. A window holds [`BLOCKS`] blocks or more, from anywhere in the data. Where all rows fit
/// into the memory at once they are read once and kept, and a pass is a permutation, all of them equally likely.
///
/// The order depends on the seed, the pass, the rows and the memory: not on threads or machine.
pub struct Feed<'a> {
    data: &'a Dataset,
    rows: &'a RowSet,
    order: Order,
    /// Where each block starts, and where the last one ends.
    blocks: Vec<usize>,
    /// Rows of a window, at most.
    window: usize,
    /// All rows, where they fit.
    kept: OnceLock<Array2<f32>>,
    /// Raised by whoever wants no more rows.
    cancel: Option<&'a AtomicBool>,
}

/// Blocks in a full window, at least, unless the data is made of larger pieces (row groups of Parquet).
pub const BLOCKS: usize = 64;

/// Blocks in a full window where the data is made of larger pieces.
const FEWEST_BLOCKS: usize = 4;

/// Bytes of a block, at most: larger reads are no faster.
const BLOCK_BYTES: usize = 1 << 20;

impl<'a> Feed<'a> {
    /// Feeds on `rows` of the data with at most `memory` bytes for rows that wait (and two blocks for reading).
    pub fn new(data: &'a Dataset, rows: &'a RowSet, order: Order, memory: usize) -> Self {
        let row = row_bytes(data.width());
        let all = rows.count().saturating_mul(row) <= memory;
        // one window is used while the next one is read
        let window = if all { rows.count().max(1) } else { (memory / 2 / row).max(1) };
        let density = rows.count() as f64 / rows.of().max(1) as f64;
        let block = (BLOCK_BYTES / row).min((window as f64 / density.max(1e-9)) as usize / BLOCKS).max(1);
        // what is decoded from its start on is cut more coarsely, but still into several blocks a window
        let blocks = data.blocks(block, window.div_ceil(FEWEST_BLOCKS));
        Self { data, rows, order, blocks, window, kept: OnceLock::new(), cancel: None }
    }

    /// Ends with [`DataError::Cancelled`] soon after `cancel` is raised, in the middle of a window too.
    pub fn until(self, cancel: &'a AtomicBool) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// Width of a hidden state.
    pub fn d_in(&self) -> usize {
        self.data.d_in()
    }

    /// Width of what is to be made of a hidden state.
    pub fn d_out(&self) -> usize {
        self.data.d_out()
    }

    /// Values of a row as it is read: `d_in`, and those of its target.
    pub fn width(&self) -> usize {
        self.data.width()
    }

    /// Whether there are targets.
    pub fn has_target(&self) -> bool {
        self.data.has_target()
    }

    /// Takes rows `[n, width]` of the data apart: hidden states `[n, d_in]`, and their targets `[n, d_out]` where there are some.
    pub fn apart(&self, rows: Array2<f32>) -> (Array2<f32>, Option<Array2<f32>>) {
        if !self.data.has_target() {
            return (rows, None);
        }
        let (x, target) = rows.view().split_at(Axis(1), self.data.d_in());
        (x.as_standard_layout().into_owned(), Some(target.as_standard_layout().into_owned()))
    }

    /// Rows of a pass.
    pub fn rows(&self) -> usize {
        self.rows.count()
    }

    /// Whether there are more rows than wait at once.
    pub fn is_windowed(&self) -> bool {
        self.window < self.rows.count()
    }

    /// Rows of a window, at most.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Bytes that waiting rows take at the most.
    pub fn bytes(&self) -> usize {
        let windows = if self.is_windowed() { 2 } else { 1 };
        windows * self.window * row_bytes(self.data.width())
    }

    /// The batches of one pass, from number `skip` on, of `batch` rows each but the last: read ahead on a thread of `scope`, which ends with
    /// the pass or soon after [`Batches`] is dropped.
    pub fn batches<'scope, 'env>(
        &'env self,
        scope: &'scope Scope<'scope, 'env>,
        pass: u64,
        batch: usize,
        skip: usize,
    ) -> Batches<'env> {
        let skipped = skip.saturating_mul(batch).min(self.rows.count());
        let left = self.rows.count() - skipped;
        let windows = self.windows(pass);
        if !self.is_windowed() {
            return Batches { batch, left, skipped, current: None, from: From::Kept(self, windows) };
        }
        // a rendezvous: the thread holds one window and the consumer another, and no third one waits between
        let (send, receive) = sync_channel(0);
        // both are of this thread and used again: what other threads allocate and free, the allocator keeps for each
        let (give_back, empty) = channel();
        for _ in 0..2 {
            let _ = give_back.send(Vec::with_capacity(self.window * self.data.width()));
        }
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut to_skip = skipped;
        let mut first = 0;
        while let Some(window) = windows.get(first).filter(|window| window.rows <= to_skip) {
            to_skip -= window.rows;
            first += 1;
        }
        scope.spawn(move || {
            for window in windows.into_iter().skip(first) {
                let Ok(buffer) = empty.recv() else { break };
                let filled = self.fill(&window, buffer, &stopped);
                let failed = filled.is_err();
                if send.send(filled).is_err() || failed {
                    break;
                }
            }
        });
        Batches { batch, left, skipped: to_skip, current: None, from: From::Thread(receive, give_back, stop) }
    }

    /// The first rows of a shuffled pass that is none of training's, at most `rows` and a window full: a sample of the
    /// whole where all rows fit into a window, and of [`BLOCKS`] blocks or more where they do not.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    pub fn sample(&self, rows: usize) -> Result<Array2<f32>, DataError> {
        let seed = match self.order {
            Order::Shuffled { seed } => seed,
            Order::Stored => 0,
        };
        let shuffled = Feed {
            kept: OnceLock::new(),
            blocks: self.blocks.clone(),
            order: Order::Shuffled { seed },
            ..*self
        };
        let windows = shuffled.windows(0);
        let Some(window) = windows.first() else { return Ok(Array2::zeros((0, self.data.width()))) };
        let (all, order);
        let (values, order) = if !self.is_windowed() {
            order = shuffled.order_of(window);
            (self.kept()?, &order)
        } else {
            all = shuffled.fill(window, vec![], &AtomicBool::new(false))?;
            (&all.rows, &all.order)
        };
        let count = rows.min(order.len());
        let mut sample = Array2::zeros((count, self.data.width()));
        for (mut to, &from) in sample.rows_mut().into_iter().zip(order) {
            to.assign(&values.row(from as usize));
        }
        Ok(sample)
    }

    /// The windows of a pass.
    fn windows(&self, pass: u64) -> Vec<Window> {
        let count = self.blocks.len() - 1;
        let mut order: Vec<u32> = (0..u32::try_from(count).expect("fewer than 2³² blocks")).collect();
        let all = !self.is_windowed();
        if let (Order::Shuffled { seed }, false) = (self.order, all) {
            order.shuffle(&mut generator(seed, Purpose::Blocks, pass));
        }
        // even ones: a short last window would mix its few rows badly
        let largest = self.blocks.windows(2).map(|block| self.rows.count_in(block[0]..block[1])).max();
        let full = (self.window - largest.unwrap_or(0).min(self.window - 1)).max(1);
        let enough = if all {
            self.window
        } else {
            self.rows.count().div_ceil(self.rows.count().div_ceil(full).max(1))
        };
        let mut windows: Vec<Window> = vec![];
        for block in order {
            let rows = self.rows.count_in(self.block(block));
            match windows.last_mut() {
                _ if rows == 0 => {}
                Some(window) if window.rows < enough && window.rows + rows <= self.window => {
                    window.blocks.push(block);
                    window.rows += rows;
                }
                _ => windows.push(Window {
                    number: (pass << 24) + windows.len() as u64,
                    blocks: vec![block],
                    rows,
                }),
            }
        }
        windows
    }

    fn block(&self, block: u32) -> Range<usize> {
        self.blocks[block as usize]..self.blocks[block as usize + 1]
    }

    /// Reads the rows of a window into the memory of `buffer`.
    fn fill(&self, window: &Window, mut buffer: Vec<f32>, stop: &AtomicBool) -> Result<Filled, DataError> {
        let shape = (window.rows, self.data.width());
        buffer.resize(shape.0 * shape.1, 0.0);
        let mut rows = Array2::from_shape_vec(shape, buffer).expect("as many values");
        let (mut at, mut scratch) = (0, vec![]);
        let mut places: Vec<(Range<usize>, Range<usize>)> = vec![];
        for &block in &window.blocks {
            let range = self.block(block);
            let count = self.rows.count_in(range.clone());
            places.push((range, at..at + count));
            at += count;
        }
        // blocks of a piece that is decoded from its start on follow each other
        places.sort_by_key(|(range, _)| range.start);
        for (range, place) in places {
            if stop.load(Ordering::Relaxed)
                || self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
            {
                return Err(DataError::Cancelled);
            }
            self.data.read_selected(range, self.rows, rows.slice_mut(s![place, ..]), &mut scratch)?;
        }
        Ok(Filled { rows, order: self.order_of(window) })
    }

    fn order_of(&self, window: &Window) -> Vec<u32> {
        let mut order: Vec<u32> =
            (0..u32::try_from(window.rows).expect("fewer than 2³² rows in a window")).collect();
        if let Order::Shuffled { seed } = self.order {
            order.shuffle(&mut generator(seed, Purpose::Rows, window.number));
        }
        order
    }

    /// All rows, read the first time.
    fn kept(&self) -> Result<&Array2<f32>, DataError> {
        if let Some(kept) = self.kept.get() {
            return Ok(kept);
        }
        let blocks = (0..self.blocks.len() as u32 - 1).collect();
        let window = Window { number: 0, blocks, rows: self.rows.count() };
        let filled = self.fill(&window, vec![], &AtomicBool::new(false))?;
        Ok(self.kept.get_or_init(|| filled.rows))
    }
}

/// The batches of a pass.
pub struct Batches<'a> {
    batch: usize,
    /// Rows still to come.
    left: usize,
    /// Rows of the next window that were given before.
    skipped: usize,
    /// The window in use, and how many of its rows are given.
    current: Option<(Filled, usize)>,
    from: From<'a>,
}

impl Batches<'_> {
    /// The next batch `[n, width]`; `None` after the last one.
    ///
    /// # Errors
    /// As [`Dataset::read`].
    #[expect(clippy::should_implement_trait, reason = "an iterator that fails goes on after it")]
    pub fn next(&mut self) -> Option<Result<Array2<f32>, DataError>> {
        if self.left == 0 {
            return None;
        }
        Some(self.gather())
    }

    fn gather(&mut self) -> Result<Array2<f32>, DataError> {
        let count = self.batch.min(self.left);
        let kept = match &self.from {
            From::Kept(feed, _) => Some(feed.kept()?),
            From::Thread(..) => None,
        };
        let mut rows: Option<Array2<f32>> = None;
        let mut done = 0;
        while done < count {
            let (filled, given) = match &mut self.current {
                Some((filled, given)) if *given < filled.order.len() => (filled, given),
                _ => {
                    // the window before is given back before the next one is taken
                    let before = self.current.take().map(|(filled, _)| filled.rows);
                    let filled = self.from.next(before)?;
                    let skipped = std::mem::take(&mut self.skipped);
                    let (filled, given) = self.current.insert((filled, skipped));
                    (filled, given)
                }
            };
            let values = kept.unwrap_or(&filled.rows);
            let rows = rows.get_or_insert_with(|| Array2::zeros((count, values.ncols())));
            let take = (count - done).min(filled.order.len() - *given);
            for &from in &filled.order[*given..*given + take] {
                let row: ArrayView1<f32> = values.row(from as usize);
                rows.row_mut(done).assign(&row);
                done += 1;
            }
            *given += take;
        }
        self.left -= count;
        Ok(rows.expect("a batch has rows"))
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        if let From::Thread(_, _, stop) = &self.from {
            stop.store(true, Ordering::Relaxed);
        }
    }
}

/// Blocks that are read and shuffled together.
struct Window {
    /// Of all windows of all passes.
    number: u64,
    blocks: Vec<u32>,
    rows: usize,
}

struct Filled {
    rows: Array2<f32>,
    order: Vec<u32>,
}

enum From<'a> {
    Kept(&'a Feed<'a>, Vec<Window>),
    Thread(Receiver<Result<Filled, DataError>>, Sender<Vec<f32>>, std::sync::Arc<AtomicBool>),
}

impl From<'_> {
    /// The next window; the one before has been used.
    fn next(&mut self, before: Option<Array2<f32>>) -> Result<Filled, DataError> {
        match self {
            // the rows themselves stay where they are kept
            From::Kept(feed, windows) => {
                let window = windows.pop().expect("one window holds all rows");
                Ok(Filled { rows: Array2::zeros((0, 0)), order: feed.order_of(&window) })
            }
            From::Thread(receive, give_back, _) => {
                if let Some(before) = before {
                    // after the last window nobody takes it
                    let _ = give_back.send(before.into_raw_vec_and_offset().0);
                }
                receive.recv().expect("the reader sends all rows or why it cannot")
            }
        }
    }
}

/// Bytes that a row takes in a window.
fn row_bytes(width: usize) -> usize {
    4 * width + 4
}

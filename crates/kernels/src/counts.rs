//! Exact counts over whole data sets of packed codes: in how many rows each feature is on, and each pair of features,
//! of one code or of two.
//!
//! Codes are rows of `columns.div_ceil(64)` words; feature j is bit j % 64 of word j / 64. Both counts add up rows of bits
//! with carry-save adders: all rows for the features, and for the pairs with feature i the rows in which i is on. So pairs
//! cost what the bits that are on cost, not what all bits do; a feature that is mostly on costs what its zeros do.

use crate::Isa;
use crate::lanes::Simd;
use crate::planes::{AT_ONCE, Planes, ROWS};
use crate::slots::{LANES, Lanes, transpose_lanes};
use rayon::prelude::*;
use std::sync::Mutex;

/// Fewer rows in a call of [`pairs`] cost more for each row: the counts of all pairs are read and written in each call.
pub const PAIR_ROWS: usize = 1 << 14;

/// Adds to `counts` for each column the rows of `words` in which its bit is set. Bits beyond the last column are ignored.
/// Up to a MiB of words is counted on the calling thread, more on the current rayon pool.
///
/// # Panics
/// If `words` is not `rows` rows, or `counts` not a number for each column.
pub fn ones(words: &[u64], rows: usize, columns: usize, counts: &mut [u64]) {
    ones_with(Isa::best(), words, rows, columns, counts);
}

/// [`ones`] with the instruction set given.
///
/// # Panics
/// As [`ones`].
pub fn ones_with(isa: Isa, words: &[u64], rows: usize, columns: usize, counts: &mut [u64]) {
    let per_row = columns.div_ceil(64);
    assert_eq!(words.len(), rows * per_row, "words of {rows} rows of {columns} columns");
    assert_eq!(counts.len(), columns, "a count for each column");
    if words.is_empty() {
        return;
    }
    let rows_of_part = (PART / per_row / ROWS * ROWS).clamp(ROWS, Planes::MOST / ROWS * ROWS);
    let none = || vec![0u64; per_row.div_ceil(PANEL_WORDS) * PANEL];
    let add = |mut sums: Vec<u64>, part: &[u64]| {
        add_part(isa, part, per_row, &mut sums);
        sums
    };
    let parts = words.par_chunks(rows_of_part * per_row);
    // a single one needs no other thread
    let sums = if parts.len() == 1 {
        add(none(), words)
    } else {
        parts.fold(none, add).reduce(none, |mut sums, others| {
            sums.iter_mut().zip(others).for_each(|(sum, other)| *sum += other);
            sums
        })
    };
    counts.iter_mut().zip(sums).for_each(|(count, sum)| *count += sum);
}

/// Adds to `counts` for each pair of columns i < j the rows of `words` in which both bits are set: pair (i, j) is number
/// j (j − 1) / 2 + i. Bits beyond the last column are ignored. A count that goes beyond 32 bits wraps: with fewer than 2³²
/// rows in all calls together none does.
///
/// Beside `counts` it takes memory for 32,768 rows at most: twice their words, and for each thread the numbers of the
/// rows in which up to 512 columns are on (16 MiB if that is half of them).
///
/// # Panics
/// If `words` is not `rows` rows, or `counts` not `columns` (`columns` − 1) / 2 numbers.
pub fn pairs(words: &[u64], rows: usize, columns: usize, counts: &mut [u32]) {
    pairs_with(Isa::best(), words, rows, columns, counts);
}

/// [`pairs`] with the instruction set given.
///
/// # Panics
/// As [`pairs`].
pub fn pairs_with(isa: Isa, words: &[u64], rows: usize, columns: usize, counts: &mut [u32]) {
    let per_row = columns.div_ceil(64);
    assert_eq!(words.len(), rows * per_row, "words of {rows} rows of {columns} columns");
    assert_eq!(counts.len(), before(columns), "a count for each pair of {columns} columns");
    if words.is_empty() {
        return;
    }
    let task = columns_of_task(per_row);
    let mut block = Block::default();
    let spare = Mutex::new(vec![]);
    for words in words.chunks(SUBS * SUB * per_row) {
        block.fill(isa, words, per_row);
        let mut tasks = vec![];
        let mut rest = &mut *counts;
        for first in (0..columns).step_by(task) {
            let end = columns.min(first + task);
            let (counts, others) = rest.split_at_mut(before(end) - before(first));
            rest = others;
            tasks.push((first..end, counts));
        }
        // the last ones have the most pairs
        tasks.into_par_iter().rev().with_max_len(1).for_each(|(columns, counts)| {
            let mut lists: Lists = spare.lock().expect("no panic here").pop().unwrap_or_default();
            list_rows(isa, &block, columns, &mut lists);
            add_pairs(isa, &block, &lists, Partners::Before, counts);
            spare.lock().expect("no panic here").push(lists);
        });
    }
}

/// Packed codes of some rows.
#[derive(Clone, Copy)]
pub struct Packed<'a> {
    /// `columns.div_ceil(64)` words a row.
    pub words: &'a [u64],
    /// Features.
    pub columns: usize,
}

/// Adds to `counts` for each column of `first` and each of `second` the rows in which both bits are set, row-major:
/// `second.columns` numbers for each column of `first`. The bits that are rare in `first` are what it costs; what is said of
/// bits, counts and memory at [`pairs`] holds here.
///
/// # Panics
/// If one of the two is not `rows` rows, or `counts` not a number for each pair.
pub fn cross(first: Packed, second: Packed, rows: usize, counts: &mut [u32]) {
    cross_with(Isa::best(), first, second, rows, counts);
}

/// [`cross`] with the instruction set given.
///
/// # Panics
/// As [`cross`].
pub fn cross_with(isa: Isa, first: Packed, second: Packed, rows: usize, counts: &mut [u32]) {
    let per_row = |packed: Packed| {
        let words = packed.columns.div_ceil(64);
        assert_eq!(packed.words.len(), rows * words, "words of {rows} rows of {} columns", packed.columns);
        words
    };
    let (of_first, of_second) = (per_row(first), per_row(second));
    assert_eq!(counts.len(), first.columns * second.columns, "a count for each pair");
    if counts.is_empty() || rows == 0 {
        return;
    }
    let task = columns_of_task(of_first);
    let (mut listed, mut added) = (Block::default(), Block::default());
    let spare = Mutex::new(vec![]);
    let most = SUBS * SUB;
    for (words, others) in first.words.chunks(most * of_first).zip(second.words.chunks(most * of_second)) {
        listed.fill(isa, words, of_first);
        added.fill(isa, others, of_second);
        let tasks = counts.par_chunks_mut(task * second.columns).with_max_len(1).enumerate();
        tasks.for_each(|(at, counts)| {
            let columns = at * task..first.columns.min((at + 1) * task);
            let mut lists: Lists = spare.lock().expect("no panic here").pop().unwrap_or_default();
            list_rows(isa, &listed, columns, &mut lists);
            add_pairs(isa, &added, &lists, Partners::All(second.columns), counts);
            spare.lock().expect("no panic here").push(lists);
        });
    }
}

/// Few enough columns for all threads to have work, and as many as pay for the rows that they fetch.
fn columns_of_task(words_per_row: usize) -> usize {
    64 * (words_per_row / (4 * rayon::current_num_threads())).clamp(1, 8)
}

/// The columns that a listed one is counted with.
#[derive(Clone, Copy)]
enum Partners {
    /// Those before it.
    Before,
    /// So many of another code.
    All(usize),
}

impl Partners {
    #[inline(always)]
    fn of(self, column: usize) -> usize {
        match self {
            Self::Before => column,
            Self::All(columns) => columns,
        }
    }
}

/// Pairs of the columns below `column`: where its own begin.
fn before(column: usize) -> usize {
    column * column.saturating_sub(1) / 2
}

/// Columns that are added at once: the bits of [`Lanes`].
const PANEL: usize = 512;

/// Words of a row in a panel.
const PANEL_WORDS: usize = PANEL / 64;

/// Words of a task that counts ones: a MiB.
const PART: usize = 1 << 17;

/// Rows whose bits are turned at once: the bits of [`Lanes`].
const TURN: usize = 512;

/// Rows of a panel that stay in the second-level cache (256 KiB) while the columns of a task are counted.
const SUB: usize = 4096;

/// So many times [`SUB`] rows make up a block. No sum may exceed [`Planes::MOST`].
const SUBS: usize = 8;

crate::isa::per_isa! {
    /// Adds the ones of each column of the rows `words` to `sums`; those beyond the last word of a row are anything.
    fn add_part[simd: S](words: &[u64], per_row: usize, sums: &mut [u64]) {
        let mut planes = vec![Planes::default(); per_row.div_ceil(PANEL_WORDS)];
        let mut rest = words;
        // the last panel reads beyond its row, into the next one
        while rest.len() >= ROWS * per_row + PANEL_WORDS {
            let (group, next) = rest.split_at(ROWS * per_row);
            for (panel, planes) in planes.iter_mut().enumerate() {
                // panels jump from row to row, so what comes next is asked for in its order
                let line = panel * ROWS * PANEL_WORDS;
                simd.prefetch(&next[line.min(next.len())..(line + ROWS * PANEL_WORDS).min(next.len())]);
                planes.add_rows(simd, &rest[panel * PANEL_WORDS..], per_row);
            }
            rest = next;
        }
        let mut padded = vec![0; ROWS * per_row + PANEL_WORDS];
        for rest in rest.chunks(ROWS * per_row) {
            padded[..rest.len()].copy_from_slice(rest);
            padded[rest.len()..].fill(0);
            add_group(simd, &padded, per_row, &mut planes);
        }
        for (planes, sums) in planes.iter().zip(sums.as_chunks_mut::<PANEL>().0) {
            for (lanes, sums) in planes.sums(simd).iter().zip(sums.as_chunks_mut::<32>().0) {
                for (lane, both) in lanes.iter().enumerate() {
                    sums[lane] += u64::from(both & 0xFFFF);
                    sums[LANES + lane] += u64::from(both >> 16);
                }
            }
        }
    }
}

#[inline(always)]
fn add_group<S: Simd>(simd: S, rows: &[u64], per_row: usize, planes: &mut [Planes]) {
    for (panel, planes) in planes.iter_mut().enumerate() {
        planes.add_rows(simd, &rows[panel * PANEL_WORDS..], per_row);
    }
}

/// Rows, cut into panels of columns and sub-blocks of rows.
#[derive(Default)]
struct Block {
    /// Rows of a sub-block: a multiple of [`TURN`]; those beyond the last are 0.
    rows: usize,
    subs: usize,
    /// `[panel][sub-block][row]`; at the end of each sub-block a row of zeros.
    panels: Vec<Lanes>,
    /// The same turned, `[panel][sub-block][column][row / 512]`.
    turned: Vec<Lanes>,
    /// Ones, `[panel][sub-block][column]`.
    ones: Vec<[u32; PANEL]>,
}

impl Block {
    fn fill(&mut self, isa: Isa, words: &[u64], per_row: usize) {
        let rows = words.len() / per_row;
        self.rows = SUB.min(rows.next_multiple_of(TURN));
        self.subs = rows.div_ceil(self.rows);
        let parts = per_row.div_ceil(PANEL_WORDS) * self.subs;
        self.panels.resize(parts * (self.rows + 1), Lanes::default());
        self.turned.resize(parts * self.rows, Lanes::default());
        self.ones.resize(parts, [0; PANEL]);
        let (rows, subs) = (self.rows, self.subs);
        let panels = self.panels.par_chunks_exact_mut(rows + 1);
        let parts = panels.zip(self.turned.par_chunks_exact_mut(rows)).zip(&mut self.ones);
        parts.enumerate().for_each(|(at, ((panel, turned), ones))| {
            let of_sub = words.chunks(rows * per_row).nth(at % subs).expect("as many sub-blocks");
            copy_panel(isa, of_sub, per_row, at / subs * PANEL_WORDS, panel);
            turn_panel(isa, &panel[..rows], turned, ones);
        });
    }

    /// Rows of a panel.
    fn panel(&self, panel: usize, sub: usize) -> &[Lanes] {
        let rows = self.rows + 1;
        &self.panels[(panel * self.subs + sub) * rows..][..rows]
    }

    /// Bits of a column.
    fn column(&self, column: usize, sub: usize) -> &[Lanes] {
        let words = self.rows / TURN;
        &self.turned[((column / PANEL * self.subs + sub) * PANEL + column % PANEL) * words..][..words]
    }

    /// Ones of the columns of a panel.
    #[inline(always)]
    fn ones(&self, panel: usize) -> [u32; PANEL] {
        let mut sums = [0; PANEL];
        for ones in &self.ones[panel * self.subs..][..self.subs] {
            for (sum, ones) in sums.iter_mut().zip(ones) {
                *sum += ones;
            }
        }
        sums
    }
}

crate::isa::per_isa! {
    /// A panel of rows, from word `first` of each on, and zeros to its end.
    fn copy_panel[simd: S](words: &[u64], per_row: usize, first: usize, to: &mut [Lanes]) {
        let end = per_row.min(first + PANEL_WORDS);
        let rows = words.chunks_exact(per_row);
        let (to, padding) = to.split_at_mut(rows.len());
        for (to, row) in to.iter_mut().zip(rows) {
            let mut padded = [0; PANEL_WORDS];
            padded[..end - first].copy_from_slice(&row[first..end]);
            for at in (0..LANES).step_by(S::LANES) {
                simd.store_words(simd.load_halves(&padded[at / 2..]), &mut to.0[at..]);
            }
        }
        padding.fill(Lanes::default());
    }
}

crate::isa::per_isa! {
    /// Turns a panel of rows, and counts the ones of its columns.
    fn turn_panel[simd: S](rows: &[Lanes], turned: &mut [Lanes], ones: &mut [u32; PANEL]) {
        let turns = rows.len() / TURN;
        *ones = [0; PANEL];
        for (turn, rows) in rows.as_chunks::<TURN>().0.iter().enumerate() {
            let mut blocks = [[Lanes::default(); 32]; LANES];
            for (block, rows) in blocks.iter_mut().zip(rows.as_chunks::<32>().0) {
                *block = *rows;
                transpose_lanes(block);
            }
            for bit in 0..u32::BITS as usize {
                // a word for each lane and 32 rows
                let mut square = [[0; LANES]; LANES];
                for (words, block) in square.iter_mut().zip(&blocks) {
                    *words = block[bit].0;
                }
                simd.transpose_words(&mut square);
                for (lane, words) in square.iter().enumerate() {
                    let column = 32 * lane + bit;
                    turned[column * turns + turn].0 = *words;
                    for word in words {
                        ones[column] += word.count_ones();
                    }
                }
            }
        }
    }
}

/// The rows in which each of a task's columns differs from what it mostly is.
#[derive(Default)]
struct Lists {
    /// The first column.
    first: usize,
    /// For each column, whether it is mostly on.
    flipped: Vec<bool>,
    /// Rows within their sub-block, `[column][sub-block]`, each filled up to a multiple of [`AT_ONCE`] with the row of zeros.
    rows: Vec<u16>,
    /// Where each of these begins, and the end.
    starts: Vec<usize>,
}

crate::isa::per_isa! {
    /// Lists the rows of a task's columns.
    fn list_rows[simd: S](block: &Block, columns: std::ops::Range<usize>, lists: &mut Lists) {
        lists.first = columns.start;
        lists.flipped.clear();
        lists.starts.clear();
        let mut end = 0;
        for column in columns {
            let of_subs = &block.ones[column / PANEL * block.subs..][..block.subs];
            let ones: u32 = of_subs.iter().map(|ones| ones[column % PANEL]).sum();
            let flipped = 2 * ones as usize > block.rows * block.subs;
            lists.flipped.push(flipped);
            for sub in 0..block.subs {
                let start = end;
                end = list(block.column(column, sub), if flipped { u64::MAX } else { 0 }, end, &mut lists.rows);
                let next = start + (end - start).next_multiple_of(AT_ONCE);
                lists.rows[end..next].fill(block.rows as u16);
                lists.starts.push(start);
                end = next;
            }
        }
        lists.starts.push(end);
    }
}

/// Writes the rows whose bits are not `flip`'s from `end` on; gives the new end. There is room for [`AT_ONCE`] more.
#[inline(always)]
fn list(bits: &[Lanes], flip: u64, mut end: usize, rows: &mut Vec<u16>) -> usize {
    // without a branch for each row: four at a time are written, whatever there is
    const AHEAD: usize = 4;
    let most = end + bits.len() * TURN + AHEAD.max(AT_ONCE);
    if rows.len() < most {
        rows.resize(most, 0);
    }
    let mut first = 0;
    for words in bits {
        for at in 0..LANES / 2 {
            let mut rest = (u64::from(words.0[2 * at]) | u64::from(words.0[2 * at + 1]) << 32) ^ flip;
            let next = end + rest.count_ones() as usize;
            loop {
                for row in &mut rows[end..end + AHEAD] {
                    *row = first + rest.trailing_zeros() as u16;
                    rest &= rest.wrapping_sub(1);
                }
                end += AHEAD;
                if end >= next {
                    break;
                }
            }
            end = next;
            first += 64;
        }
    }
    end
}

crate::isa::per_isa! {
    /// Adds the pairs of the listed columns with their partners, which are those of `block`, to `counts`, which begins with the
    /// first column's.
    fn add_pairs[simd: S](block: &Block, lists: &Lists, partners: Partners, counts: &mut [u32]) {
        let columns = lists.flipped.len();
        let mut all = vec![Planes::default(); columns];
        for panel in 0..partners.of(lists.first + columns - 1).div_ceil(PANEL) {
            all.fill(Planes::default());
            for sub in 0..block.subs {
                let rows = block.panel(panel, sub);
                // lists jump over rows
                simd.prefetch(rows);
                for (column, planes) in all.iter_mut().enumerate() {
                    let at = column * block.subs + sub;
                    let list = &lists.rows[lists.starts[at]..lists.starts[at + 1]];
                    if !list.is_empty() && partners.of(lists.first + column) > panel * PANEL {
                        planes.add_listed(simd, rows, list);
                    }
                }
            }
            let ones = block.ones(panel);
            let mut rest = &mut *counts;
            for (column, planes) in all.iter().enumerate() {
                let (of_column, others) = rest.split_at_mut(partners.of(lists.first + column));
                rest = others;
                // each column's counts are elsewhere
                if let Some(next) = rest.get(panel * PANEL..) {
                    simd.prefetch(&next[..next.len().min(PANEL)]);
                }
                let Some(of_panel) = of_column.get_mut(panel * PANEL..) else { continue };
                let starts = &lists.starts[column * block.subs..];
                if lists.flipped[column] {
                    for (count, ones) in of_panel.iter_mut().zip(&ones) {
                        *count = count.wrapping_add(*ones);
                    }
                    add_sums::<S, false>(simd, planes, of_panel);
                } else if starts[0] < starts[block.subs] {
                    add_sums::<S, true>(simd, planes, of_panel);
                }
            }
        }
    }
}

/// Adds the sums of a panel to as many `counts` as there are, or takes them from these.
#[inline(always)]
fn add_sums<S: Simd, const ADD: bool>(simd: S, planes: &Planes, counts: &mut [u32]) {
    let sums = planes.sums(simd);
    let (whole, rest) = counts.as_chunks_mut::<LANES>();
    for (at, counts) in whole.iter_mut().take(PANEL / LANES).enumerate() {
        add_sixteen::<S, ADD>(simd, &sums, at, counts);
    }
    if whole.len() < PANEL / LANES {
        let mut padded = [0; LANES];
        padded[..rest.len()].copy_from_slice(rest);
        add_sixteen::<S, ADD>(simd, &sums, whole.len(), &mut padded);
        rest.copy_from_slice(&padded[..rest.len()]);
    }
}

#[inline(always)]
fn add_sixteen<S: Simd, const ADD: bool>(
    simd: S,
    sums: &[[u32; LANES]; LANES],
    at: usize,
    counts: &mut [u32; LANES],
) {
    for first in (0..LANES).step_by(S::LANES) {
        let both = simd.load_words(&sums[at / 2][first..]);
        let sum = if at % 2 == 1 { simd.high_half(both) } else { simd.and(both, simd.splat_words(0xFFFF)) };
        let count = simd.load_words(&counts[first..]);
        let count = if ADD { simd.add_words(count, sum) } else { simd.sub_words(count, sum) };
        simd.store_words(count, &mut counts[first..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cases, up_to};
    use proptest::prelude::*;

    /// Packed rows whose columns differ in density, some never on and some always, and the same unpacked.
    fn codes(rows: usize, columns: usize, seed: u64) -> (Vec<u64>, Vec<Vec<bool>>) {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
            state >> 32
        };
        let plain: Vec<Vec<bool>> = (0..rows)
            .map(|_| (0..columns).map(|j| next() % 64 < [3, 64, 0, 32, 1, 61, 20][j % 7]).collect())
            .collect();
        let pack = |row: &Vec<bool>| -> Vec<u64> {
            let word = |bits: &[bool]| bits.iter().rev().fold(0, |word, &bit| word << 1 | u64::from(bit));
            row.chunks(64).map(word).collect()
        };
        (plain.iter().flat_map(pack).collect(), plain)
    }

    fn ones_are_plain(rows: usize, columns: usize, seed: u64) {
        let (words, plain) = codes(rows, columns, seed);
        let of_column = |j: usize| plain.iter().filter(|row| row[j]).count() as u64;
        let want: Vec<u64> = (0..columns).map(|j| 7 + of_column(j)).collect();
        for isa in Isa::available() {
            let mut got = vec![7; columns];
            ones_with(isa, &words, rows, columns, &mut got);
            assert_eq!(got, want, "{} {rows} × {columns}", isa.name());
        }
    }

    fn pairs_are_plain(rows: usize, columns: usize, seed: u64) {
        let (words, plain) = codes(rows, columns, seed);
        let both = |i: usize, j: usize| plain.iter().filter(|row| row[i] && row[j]).count() as u32;
        let want: Vec<u32> = (0..columns).flat_map(|j| (0..j).map(move |i| 7 + both(i, j))).collect();
        for isa in Isa::available() {
            let mut got = vec![7; want.len()];
            pairs_with(isa, &words, rows, columns, &mut got);
            assert_eq!(got, want, "{} {rows} × {columns}", isa.name());
        }
    }

    fn cross_is_plain(rows: usize, columns: [usize; 2], seed: u64) {
        let (first, plain) = codes(rows, columns[0], seed);
        let (second, other) = codes(rows, columns[1], !seed);
        let both =
            |i: usize, j: usize| (0..rows).filter(|&row| plain[row][i] && other[row][j]).count() as u32;
        let want: Vec<u32> = (0..columns[0])
            .flat_map(|i| (0..columns[1]).map(move |j| (i, j)))
            .map(|(i, j)| 7 + both(i, j))
            .collect();
        for isa in Isa::available() {
            let mut got = vec![7; want.len()];
            let packed = |words, columns| Packed { words, columns };
            cross_with(isa, packed(&first, columns[0]), packed(&second, columns[1]), rows, &mut got);
            assert_eq!(got, want, "{} {rows} × {columns:?}", isa.name());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn cross_at_every_edge() {
        for rows in [0, 1, 64, 513] {
            for columns in [[0, 3], [3, 0], [1, 1], [64, 65], [65, 511], [130, 513]] {
                cross_is_plain(rows, columns, (rows + columns[0]) as u64);
            }
        }
        for rows in [SUB + 1, SUBS * SUB + 1] {
            cross_is_plain(rows, [8, 9], rows as u64);
        }
    }

    #[test]
    fn ones_at_every_edge() {
        let (all_rows, all_columns): (&[usize], &[usize]) = if cfg!(miri) {
            (&[0, 65], &[1, 65])
        } else {
            (&[0, 1, 63, 64, 65, 130], &[0, 1, 63, 64, 65, 129, 200])
        };
        for &rows in all_rows {
            for &columns in all_columns {
                ones_are_plain(rows, columns, (rows + columns) as u64);
            }
        }
    }

    #[test]
    fn bits_beyond_the_last_column_are_ignored() {
        for isa in Isa::available() {
            let (mut ones, mut pairs) = ([0; 3], [0; 3]);
            let words = [!0 << 3 | 0b101, !0, !0 << 2];
            ones_with(isa, &words, 3, 3, &mut ones);
            pairs_with(isa, &words, 3, 3, &mut pairs);
            assert_eq!((ones, pairs), ([2, 1, 3], [1, 2, 1]), "{}", isa.name());
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn pairs_at_every_edge() {
        for rows in [0, 1, 15, 16, 17, 63, 64, 65, 511, 512, 513] {
            for columns in [0, 1, 2, 63, 64, 65, 129, 200] {
                pairs_are_plain(rows, columns, (rows * columns) as u64);
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn more_columns_than_a_panel_has() {
        for columns in [511, 512, 513, 600, 1025] {
            ones_are_plain(70, columns, columns as u64);
            pairs_are_plain(70, columns, columns as u64);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn more_rows_than_a_part_or_a_block_has() {
        for rows in [SUB, SUB + 1, SUBS * SUB - 1, SUBS * SUB + 1, Planes::MOST + 70] {
            ones_are_plain(rows, 9, rows as u64);
            pairs_are_plain(rows, 9, rows as u64);
        }
    }

    /// All columns on in all rows: the greatest sums there are.
    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn ones_everywhere() {
        let rows = Planes::MOST + 1;
        for isa in Isa::available() {
            let (mut ones, mut pairs) = ([0; 64], [0; 64 * 63 / 2]);
            ones_with(isa, &vec![u64::MAX; rows], rows, 64, &mut ones);
            pairs_with(isa, &vec![u64::MAX; rows], rows, 64, &mut pairs);
            assert!(ones.iter().all(|&ones| ones == rows as u64), "{}", isa.name());
            assert!(pairs.iter().all(|&both| both == rows as u32), "{}", isa.name());
        }
    }

    /// Column j is on in the first j rows, so beyond half of the rows zeros are listed; both of i < j are on in i rows.
    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn every_number_of_ones() {
        let columns = 600usize;
        let per_row = columns.div_ceil(64);
        for rows in [500, 512, 600] {
            let mut words = vec![0u64; rows * per_row];
            for (row, column) in (0..rows).flat_map(|row| (row + 1..columns).map(move |column| (row, column)))
            {
                words[row * per_row + column / 64] |= 1 << (column % 64);
            }
            let want: Vec<u32> = (0..columns).flat_map(|j| (0..j).map(|i| i.min(rows) as u32)).collect();
            for isa in Isa::available() {
                let mut got = vec![0; want.len()];
                pairs_with(isa, &words, rows, columns, &mut got);
                assert_eq!(got, want, "{} {rows}", isa.name());
            }
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too slow")]
    fn threads_do_not_show() {
        let (rows, columns) = (1100, 700);
        let (words, _) = codes(rows, columns, 3);
        for isa in Isa::available() {
            let results: Vec<_> = [1, 2, 3]
                .into_iter()
                .map(|threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| {
                        let (mut ones, mut pairs) = (vec![0; columns], vec![0; before(columns)]);
                        ones_with(isa, &words, rows, columns, &mut ones);
                        pairs_with(isa, &words, rows, columns, &mut pairs);
                        (ones, pairs)
                    })
                })
                .collect();
            assert!(results.windows(2).all(|two| two[0] == two[1]), "{}", isa.name());
        }
    }

    proptest! {
        #![proptest_config(cases(40))]
        #[test]
        fn counts_are_plain(rows in 0..up_to(200), columns in 0..up_to(200), others in 0..up_to(200), seed: u64) {
            ones_are_plain(rows, columns, seed);
            pairs_are_plain(rows, columns, seed);
            cross_is_plain(rows, [columns, others], seed);
        }
    }
}

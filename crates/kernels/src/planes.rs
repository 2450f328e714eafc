//! Sums of bits kept as binary digits, which carry-save adders add up: a row of 512 bits takes about one full adder,
//! whatever it sums to. (Muła, Kurz, Lemire: Faster population counts using AVX2 instructions, 2018, has the tree of
//! adders; Clausecker, Lemire, Schintke: Faster positional-population counts, 2024, sums by column as here.)

use crate::lanes::Simd;
use crate::slots::{LANES, Lanes, transpose_lanes};

/// Binary digits of a sum.
const DIGITS: usize = 16;

/// Digits that [`Planes::add_listed`] keeps in registers; carries into the others come once in [`AT_ONCE`] rows.
const LOW: usize = 4;

/// Rows that are added before their carries are.
pub(crate) const AT_ONCE: usize = 1 << LOW;

/// Rows that [`Planes::add_rows`] adds.
pub(crate) const ROWS: usize = 64;

/// For each bit of sixteen words a sum of at most [`Planes::MOST`]: plane p has the digits worth 2ᵖ.
#[derive(Clone, Copy, Default)]
pub(crate) struct Planes([Lanes; DIGITS]);

impl Planes {
    /// The greatest sum.
    pub(crate) const MOST: usize = (1 << DIGITS) - 1;

    /// Adds the rows that `list` names. Panics if their number is no multiple of [`AT_ONCE`], or above [`Planes::MOST`].
    #[inline(always)]
    pub(crate) fn add_listed<S: Simd>(&mut self, simd: S, rows: &[Lanes], list: &[u16]) {
        assert!(list.len() <= Self::MOST && list.len().is_multiple_of(AT_ONCE), "{} rows", list.len());
        let last = list.iter().fold(0, |last, &row| last.max(row));
        assert!((last as usize) < rows.len(), "row {last} of {}", rows.len());
        for first in (0..LANES).step_by(S::LANES) {
            self.add_lanes(simd, rows, list.as_chunks().0, first);
        }
    }

    #[inline(always)]
    fn add_lanes<S: Simd>(&mut self, simd: S, rows: &[Lanes], list: &[[u16; AT_ONCE]], first: usize) {
        let none = simd.splat_words(0);
        let mut low = [none; LOW];
        for (digits, plane) in low.iter_mut().zip(&self.0) {
            *digits = simd.load_words(&plane.0[first..]);
        }
        // a carry waits until there is another one worth the same: full adders are needed half as often then at each digit
        let mut waiting = [none; DIGITS - LOW];
        for (group, list) in list.iter().enumerate() {
            let mut fours = [none; 4];
            for (four, list) in fours.iter_mut().zip(list.as_chunks::<4>().0) {
                let mut words = [none; 4];
                for (words, &row) in words.iter_mut().zip(list) {
                    // SAFETY: the caller compared the greatest of the list.
                    let row = unsafe { rows.get_unchecked(row as usize) };
                    *words = simd.load_words(&row.0[first..]);
                }
                *four = add_four(simd, &mut low, 0, words);
            }
            let mut carry = add_four(simd, &mut low, 2, fours);
            let mut digit = 0;
            while digit < waiting.len() - 1 && group >> digit & 1 == 1 {
                let plane = &mut self.0[LOW + digit].0[first..];
                let (digits, next) = simd.full_add(simd.load_words(plane), waiting[digit], carry);
                simd.store_words(digits, plane);
                (waiting[digit], carry) = (none, next);
                digit += 1;
            }
            waiting[digit] = carry;
        }
        for (digits, plane) in low.into_iter().zip(&mut self.0) {
            simd.store_words(digits, &mut plane.0[first..]);
        }
        let mut carry = none;
        for (waiting, plane) in waiting.into_iter().zip(&mut self.0[LOW..]) {
            let plane = &mut plane.0[first..];
            let (digits, next) = simd.full_add(simd.load_words(plane), waiting, carry);
            simd.store_words(digits, plane);
            carry = next;
        }
    }

    /// Adds [`ROWS`] rows of 8 words, `stride` words from one to the next. Panics if `rows` is too short.
    #[inline(always)]
    pub(crate) fn add_rows<S: Simd>(&mut self, simd: S, rows: &[u64], stride: usize) {
        for first in (0..LANES).step_by(S::LANES) {
            let none = simd.splat_words(0);
            let mut low = [none; 6];
            for (digits, plane) in low.iter_mut().zip(&self.0) {
                *digits = simd.load_words(&plane.0[first..]);
            }
            let mut sixteens = [none; 4];
            for (at, sixteen) in sixteens.iter_mut().enumerate() {
                let mut fours = [none; 4];
                for (quarter, four) in fours.iter_mut().enumerate() {
                    let mut words = [none; 4];
                    for (row, words) in words.iter_mut().enumerate() {
                        let row = 16 * at + 4 * quarter + row;
                        *words = simd.load_halves(&rows[row * stride + first / 2..]);
                    }
                    *four = add_four(simd, &mut low, 0, words);
                }
                *sixteen = add_four(simd, &mut low, 2, fours);
            }
            let mut carry = add_four(simd, &mut low, 4, sixteens);
            for (digits, plane) in low.into_iter().zip(&mut self.0) {
                simd.store_words(digits, &mut plane.0[first..]);
            }
            for plane in &mut self.0[6..] {
                let plane = &mut plane.0[first..];
                let digits = simd.load_words(plane);
                simd.store_words(simd.xor(digits, carry), plane);
                carry = simd.and(digits, carry);
            }
        }
    }

    /// The sums, sixteen to each of sixteen words: lane l has that of bit l below, and that of bit 16 + l above 16 bits.
    #[inline(always)]
    pub(crate) fn sums<S: Simd>(&self, simd: S) -> [[u32; LANES]; LANES] {
        let mut planes = self.0;
        transpose_lanes(&mut planes);
        let mut sums = [[0; LANES]; LANES];
        for (words, plane) in sums.iter_mut().zip(&planes) {
            *words = plane.0;
        }
        simd.transpose_words(&mut sums);
        sums
    }
}

/// Adds four words to two digits from `digit` on; gives the carry, worth four of the first digit.
#[inline(always)]
fn add_four<S: Simd, const N: usize>(
    simd: S,
    digits: &mut [S::Words; N],
    digit: usize,
    [a, b, c, d]: [S::Words; 4],
) -> S::Words {
    let (sum, first_two) = simd.full_add(digits[digit], a, b);
    let (sum, second_two) = simd.full_add(sum, c, d);
    digits[digit] = sum;
    let (sum, four) = simd.full_add(digits[digit + 1], first_two, second_two);
    digits[digit + 1] = sum;
    four
}

//! What the innermost loop of a product is written with: registers of one instruction set.
#![allow(unsafe_code)]

use crate::kernel::Float;

/// Columns of a panel of the right factor.
pub(super) const COLUMNS: usize = 32;
/// Lines that [`Machine::transpose`] takes at most, and the words that it takes of each.
pub(super) const SQUARE: usize = 16;

/// Registers of an instruction set, and the one arithmetic that a product needs of them.
///
/// A word is what one step along the inner dimension takes from a line of a factor: a number, or a pair of bfloat16.
/// All functions are unsafe for two reasons: pointers have to be valid for as many words as are read or written, and
/// the processor must have the instructions.
pub(super) trait Machine {
    /// What factors and result consist of in memory.
    type Number: Float;
    /// What a packed factor consists of.
    type Word: Copy + Default;
    /// Sums, one a lane.
    type Sums: Copy;
    /// Words, one a lane.
    type Words: Copy;
    /// Lanes of a register.
    const LANES: usize;
    /// Numbers of a line in a word.
    const PER_WORD: usize;
    /// Rows of the largest tile whose sums fit into the registers, two a row: 12 or 6.
    const ROWS: usize;

    /// Sums of nothing.
    unsafe fn zero() -> Self::Sums;
    /// A register of words.
    unsafe fn load(from: *const Self::Word) -> Self::Words;
    /// One word in all lanes.
    unsafe fn splat(from: *const Self::Word) -> Self::Words;
    /// `sums + a · b`, rounded once for each number of a word.
    unsafe fn step(sums: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// `out ← scale · sums`, or `out ← scale · sums + out`, rounded once.
    unsafe fn finish(out: *mut Self::Number, sums: Self::Sums, scale: Self::Number, add: bool);
    /// The word of up to [`Self::PER_WORD`] numbers of a line; zeros stand for those that are missing.
    fn word(first: Self::Number, second: Self::Number) -> Self::Word;

    /// Packs one word of each of `lines` lines whose numbers lie side by side: `first` and `second` are the steps of
    /// the word (the same, where it is one step).
    #[inline(always)]
    unsafe fn interleave(
        first: *const Self::Number,
        second: *const Self::Number,
        lines: usize,
        to: *mut Self::Word,
    ) {
        for l in 0..lines {
            // SAFETY: the caller's promise.
            unsafe { *to.add(l) = Self::word(*first.add(l), *second.add(l)) };
        }
    }

    /// Packs `lines` ≤ [`SQUARE`] lines of `SQUARE` words each, whose numbers lie one after another: word `w` of line `l`
    /// goes to `to[w · width + l]`.
    #[inline(always)]
    unsafe fn transpose(
        from: *const Self::Number,
        line: usize,
        lines: usize,
        to: *mut Self::Word,
        width: usize,
    ) {
        for w in 0..SQUARE {
            for l in 0..lines {
                // SAFETY: the caller's promise: `lines` lines of SQUARE words are there, and room for them.
                unsafe {
                    let at = from.add(l * line + w * Self::PER_WORD);
                    let second = if Self::PER_WORD > 1 { *at.add(1) } else { Self::Number::default() };
                    *to.add(w * width + l) = Self::word(*at, second);
                }
            }
        }
    }
}

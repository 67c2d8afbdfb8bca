//! The register operations of the innermost loop, per instruction set.
#![allow(unsafe_code)]

use crate::kernel::Float;

/// Columns per panel of the right factor.
pub(super) const COLUMNS: usize = 32;
/// Maximum number of lines of [`Machine::transpose`], and the words it takes of each.
pub(super) const SQUARE: usize = 16;

/// The registers of an instruction set, and the arithmetic of a product on them.
///
/// A word is what one step along the inner dimension reads from a line of a factor: an element, or a pair of bfloat16.
/// All functions are unsafe for two reasons: pointers must be valid for all words that are read or written, and the
/// processor must have the instructions.
pub(super) trait Machine: Sized {
    /// The element type of factors and result.
    type Number: Float;
    /// The element type of a packed factor.
    type Word: Copy + Default;
    /// Sums, one per lane.
    type Sums: Copy;
    /// Words, one per lane.
    type Words: Copy;
    /// Lanes per register.
    const LANES: usize;
    /// Elements of a line per word.
    const PER_WORD: usize;
    /// Rows of the largest tile whose sums fit into the registers, two per row: 12 or 6.
    const ROWS: usize;

    /// Sums of zero.
    unsafe fn zero() -> Self::Sums;
    /// Loads a register of words.
    unsafe fn load(from: *const Self::Word) -> Self::Words;
    /// Broadcasts one word to all lanes.
    unsafe fn splat(from: *const Self::Word) -> Self::Words;
    /// `sums + a · b`, rounded once per element of a word.
    unsafe fn step(sums: Self::Sums, a: Self::Words, b: Self::Words) -> Self::Sums;
    /// The sums of a tile of `R` rows and `V` registers of columns, over `steps` steps of two panels; with `ASK` the
    /// right one is prefetched.
    #[inline(always)]
    unsafe fn sums<const R: usize, const V: usize, const ASK: bool>(
        steps: usize,
        a: Panel<Self::Word>,
        b: Panel<Self::Word>,
    ) -> [[Self::Sums; V]; R] {
        // SAFETY: the caller's promise.
        unsafe { sums::<Self, R, V, ASK>(steps, a, b) }
    }
    /// `out ← scale · sums`, or `out ← scale · sums + out`, rounded once.
    unsafe fn finish(out: *mut Self::Number, sums: Self::Sums, scale: Self::Number, add: bool);
    /// The word of up to [`Self::PER_WORD`] elements of a line, padded with zeros.
    fn word(first: Self::Number, second: Self::Number) -> Self::Word;

    /// [`Machine::word`] of bfloat16 elements.
    fn of_halves(first: u16, second: u16) -> Self::Word;

    /// [`Machine::interleave`] of bfloat16 elements.
    #[inline(always)]
    unsafe fn interleave_halves(first: *const u16, second: *const u16, lines: usize, to: *mut Self::Word) {
        // SAFETY: the caller's promise.
        unsafe { interleave(first, second, lines, to, Self::of_halves) }
    }

    /// [`Machine::transpose`] of bfloat16 elements.
    #[inline(always)]
    unsafe fn transpose_halves(
        from: *const u16,
        line: usize,
        lines: usize,
        to: *mut Self::Word,
        width: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { transpose(from, (line, Self::PER_WORD), lines, to, width, Self::of_halves) }
    }

    /// Packs one word of each of `lines` lines that are adjacent in memory: `first` and `second` are the steps of the
    /// word (the same if it has one step).
    #[inline(always)]
    unsafe fn interleave(
        first: *const Self::Number,
        second: *const Self::Number,
        lines: usize,
        to: *mut Self::Word,
    ) {
        // SAFETY: the caller's promise.
        unsafe { interleave(first, second, lines, to, Self::word) }
    }

    /// Packs `lines` ≤ [`SQUARE`] lines of `SQUARE` words each, whose elements are contiguous: word `w` of line `l`
    /// goes to `to[w · width + l]`.
    #[inline(always)]
    unsafe fn transpose(
        from: *const Self::Number,
        line: usize,
        lines: usize,
        to: *mut Self::Word,
        width: usize,
    ) {
        // SAFETY: the caller's promise.
        unsafe { transpose(from, (line, Self::PER_WORD), lines, to, width, Self::word) }
    }
}

/// A panel of a factor, packed or in the factor itself, and the words from one step to the next.
#[derive(Clone, Copy)]
pub(super) struct Panel<W> {
    pub(super) start: *const W,
    pub(super) step: usize,
}

impl<W> Panel<W> {
    /// # Safety
    /// The line exists.
    #[inline(always)]
    pub(super) unsafe fn of_line(self, line: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { start: unsafe { self.start.add(line) }, step: self.step }
    }
}

/// The sums of a tile of `R` rows and `V` registers of columns, step by step; `ASK` prefetches the right panel.
///
/// # Safety
/// As for [`Machine::sums`].
#[inline(always)]
pub(super) unsafe fn sums<M: Machine, const R: usize, const V: usize, const ASK: bool>(
    steps: usize,
    a: Panel<M::Word>,
    b: Panel<M::Word>,
) -> [[M::Sums; V]; R] {
    // SAFETY: the caller's promise; a prefetch may point anywhere.
    unsafe {
        let (mut at_a, mut at_b) = (a.start, b.start);
        let mut sums = [[M::zero(); V]; R];
        for _ in 0..steps {
            #[cfg(target_arch = "x86_64")]
            if ASK {
                use crate::kernel::tiles::AHEAD;
                use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
                _mm_prefetch::<_MM_HINT_T1>(at_b.wrapping_byte_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(at_b.wrapping_byte_add(AHEAD + 64).cast());
            }
            let mut columns = [M::load(at_b); V];
            for (v, columns) in columns.iter_mut().enumerate().skip(1) {
                *columns = M::load(at_b.add(v * M::LANES));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let row = M::splat(at_a.add(r));
                for (sums, &column) in sums.iter_mut().zip(&columns) {
                    *sums = M::step(*sums, row, column);
                }
            }
            at_a = at_a.add(a.step);
            at_b = at_b.add(b.step);
        }
        sums
    }
}

/// [`Machine::interleave`] of any element type, with `word` to make words.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn interleave<N: Copy, W>(
    first: *const N,
    second: *const N,
    lines: usize,
    to: *mut W,
    word: impl Fn(N, N) -> W,
) {
    for l in 0..lines {
        // SAFETY: the caller's promise.
        unsafe { *to.add(l) = word(*first.add(l), *second.add(l)) };
    }
}

/// [`Machine::transpose`] of any element type, with `per_word` elements per word and `word` to make words.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn transpose<N: Copy + Default, W>(
    from: *const N,
    (line, per_word): (usize, usize),
    lines: usize,
    to: *mut W,
    width: usize,
    word: impl Fn(N, N) -> W,
) {
    for w in 0..SQUARE {
        for l in 0..lines {
            // SAFETY: the caller's promise: there are `lines` lines of SQUARE words, and room for them.
            unsafe {
                let at = from.add(l * line + w * per_word);
                let second = if per_word > 1 { *at.add(1) } else { N::default() };
                *to.add(w * width + l) = word(*at, second);
            }
        }
    }
}

//! Packing: interleaves the lines of a factor in the order in which the innermost loop reads them.
#![allow(unsafe_code)]

use super::machine::{Machine, SQUARE};

/// Lines of a factor: element `s` of line `l` is at `l · line + s · step`.
pub(super) struct Lines<N> {
    pub(super) start: *const N,
    pub(super) line: usize,
    pub(super) step: usize,
}

// Not derived: a pointer can be copied whatever its target type.
impl<N> Clone for Lines<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Lines<N> {}

/// Elements that a machine packs: those of the product's type, or bfloat16.
pub(super) trait Packs<M: Machine> {
    type Number: Copy + Default;
    fn word(first: Self::Number, second: Self::Number) -> M::Word;
    /// As [`Machine::interleave`].
    unsafe fn interleave(
        first: *const Self::Number,
        second: *const Self::Number,
        lines: usize,
        to: *mut M::Word,
    );
    /// As [`Machine::transpose`].
    unsafe fn transpose(from: *const Self::Number, line: usize, lines: usize, to: *mut M::Word, width: usize);
}

/// Elements of the product's type.
pub(super) struct Numbers;

impl<M: Machine> Packs<M> for Numbers {
    type Number = M::Number;
    #[inline(always)]
    fn word(first: M::Number, second: M::Number) -> M::Word {
        M::word(first, second)
    }
    #[inline(always)]
    unsafe fn interleave(first: *const M::Number, second: *const M::Number, lines: usize, to: *mut M::Word) {
        unsafe { M::interleave(first, second, lines, to) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const M::Number, line: usize, lines: usize, to: *mut M::Word, width: usize) {
        unsafe { M::transpose(from, line, lines, to, width) }
    }
}

/// Elements in bfloat16.
pub(super) struct Halves;

impl<M: Machine> Packs<M> for Halves {
    type Number = u16;
    #[inline(always)]
    fn word(first: u16, second: u16) -> M::Word {
        M::of_halves(first, second)
    }
    #[inline(always)]
    unsafe fn interleave(first: *const u16, second: *const u16, lines: usize, to: *mut M::Word) {
        unsafe { M::interleave_halves(first, second, lines, to) }
    }
    #[inline(always)]
    unsafe fn transpose(from: *const u16, line: usize, lines: usize, to: *mut M::Word, width: usize) {
        unsafe { M::transpose_halves(from, line, lines, to, width) }
    }
}

/// Packs `lines` lines of `numbers` elements into a panel `width` lines wide: word `w` of line `l` at `w · width + l`;
/// missing lines and the missing end of the last word become zero.
///
/// # Safety
/// The lines must be readable, `to` writable for `width` words per step, and the processor must have `M`'s
/// instructions.
#[inline(always)]
pub(super) unsafe fn pack<M: Machine, P: Packs<M>>(
    from: Lines<P::Number>,
    lines: usize,
    numbers: usize,
    to: *mut M::Word,
    width: usize,
) {
    let words = numbers.div_ceil(M::PER_WORD);
    // SAFETY: the caller's promise; every index below is of an existing element, or of a word inside the panel.
    unsafe {
        if lines < width {
            for w in 0..words {
                for l in lines..width {
                    *to.add(w * width + l) = M::Word::default();
                }
            }
        }
        let number = |l: usize, s: usize| {
            if s < numbers { *from.start.add(l * from.line + s * from.step) } else { P::Number::default() }
        };
        let word = |l: usize, w: usize| {
            let s = w * M::PER_WORD;
            P::word(number(l, s), if M::PER_WORD > 1 { number(l, s + 1) } else { P::Number::default() })
        };
        let mut done = 0;
        if from.line == 1 {
            // Full words first, a step at a time.
            done = numbers / M::PER_WORD;
            for w in 0..done {
                let first = from.start.add(w * M::PER_WORD * from.step);
                let second = if M::PER_WORD > 1 { first.add(from.step) } else { first };
                P::interleave(first, second, lines, to.add(w * width));
            }
        } else if from.step == 1 {
            done = numbers / (M::PER_WORD * SQUARE) * SQUARE;
            for l in (0..lines).step_by(SQUARE) {
                let start = from.start.add(l * from.line);
                for w in (0..done).step_by(SQUARE) {
                    let to = to.add(w * width + l);
                    P::transpose(start.add(w * M::PER_WORD), from.line, (lines - l).min(SQUARE), to, width);
                }
            }
        }
        for w in done..words {
            for l in 0..lines {
                *to.add(w * width + l) = word(l, w);
            }
        }
    }
}

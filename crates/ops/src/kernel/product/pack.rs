//! Packing: the lines of a factor side by side, step by step, as the innermost loop reads them.
#![allow(unsafe_code)]

use super::machine::{Machine, SQUARE};

/// Lines of a factor: number `s` of line `l` stands at `l · line + s · step`.
pub(super) struct Lines<N> {
    pub(super) start: *const N,
    pub(super) line: usize,
    pub(super) step: usize,
}

// Written by hand: a pointer can be copied whatever it points to.
impl<N> Clone for Lines<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Lines<N> {}

/// Packs `lines` lines of `numbers` numbers into a panel `width` lines wide: word `w` of line `l` at `w · width + l`, and
/// zeros where a line or the end of the last word is missing.
///
/// # Safety
/// The lines must be readable, `to` writable for `width` words a step, and the processor must have `M`'s instructions.
#[inline(always)]
pub(super) unsafe fn pack<M: Machine>(
    from: Lines<M::Number>,
    lines: usize,
    numbers: usize,
    to: *mut M::Word,
    width: usize,
) {
    let words = numbers.div_ceil(M::PER_WORD);
    // SAFETY: the caller's promise; every index below is of a number that exists, or of a word inside the panel.
    unsafe {
        if lines < width {
            for w in 0..words {
                for l in lines..width {
                    *to.add(w * width + l) = M::Word::default();
                }
            }
        }
        let number = |l: usize, s: usize| {
            if s < numbers { *from.start.add(l * from.line + s * from.step) } else { M::Number::default() }
        };
        let word = |l: usize, w: usize| {
            let s = w * M::PER_WORD;
            M::word(number(l, s), if M::PER_WORD > 1 { number(l, s + 1) } else { M::Number::default() })
        };
        let mut done = 0;
        if from.line == 1 {
            // Whole words first, a step at a time.
            done = numbers / M::PER_WORD;
            for w in 0..done {
                let first = from.start.add(w * M::PER_WORD * from.step);
                let second = if M::PER_WORD > 1 { first.add(from.step) } else { first };
                M::interleave(first, second, lines, to.add(w * width));
            }
        } else if from.step == 1 {
            done = numbers / (M::PER_WORD * SQUARE) * SQUARE;
            for l in (0..lines).step_by(SQUARE) {
                let start = from.start.add(l * from.line);
                for w in (0..done).step_by(SQUARE) {
                    let to = to.add(w * width + l);
                    M::transpose(start.add(w * M::PER_WORD), from.line, (lines - l).min(SQUARE), to, width);
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

//! bfloat16 factors, packed once and multiplied many times.
//!
//! Each element is bit-identical to that of a product in [`crate::threads::Precision::Bfloat16`].
#![allow(unsafe_code)]

use super::blocked::{DEPTH, Right, padded, panels};
use super::machine::{COLUMNS, Machine, Panel};
use super::pack::{Halves, Lines, Numbers, pack};
use super::tile::{Target, panel};
use super::{View, Write, plain};
use crate::kernel::Float;
use crate::kernel::scratch::{Scratch, scratch};
use crate::kernel::simd::{Level, PORTABLE_FMA, level};
use candle_core::DType;
use half::bf16;
use std::ops::Range;

/// A right factor can be split at multiples of this many lines.
pub(crate) const PANEL: usize = COLUMNS;

/// The side of a product that a factor is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// The lines of a factor in panels: the first pair of each line, then the next pair of each.
pub(crate) struct Factor {
    side: Side,
    /// Pairs of bfloat16, regardless of the type.
    room: Scratch<f32>,
    /// The index in it where a cache line starts.
    first: usize,
    lines: usize,
    numbers: usize,
}

/// Some lines of a factor, and some elements of each.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    side: Side,
    pairs: &'a [f32],
    lines: usize,
    words: usize,
    /// Words of a complete line.
    each: usize,
}

/// Words per cache line.
const LINE: usize = 16;

impl Factor {
    /// An empty factor.
    pub(crate) fn new(side: Side) -> Self {
        Self { side, room: scratch(0), first: 0, lines: 0, numbers: 0 }
    }

    /// Packs the rows of a view, rounded to bfloat16.
    pub(crate) fn fill<T: Float>(&mut self, rows: View<'_, T>) {
        assert!(T::DTYPE == DType::F32, "bfloat16 factors need float32 inputs, got {:?}", T::DTYPE);
        // SAFETY: `T` is float32.
        let data = unsafe { std::slice::from_raw_parts(rows.data.as_ptr().cast::<f32>(), rows.data.len()) };
        let View { rows, columns, row, column, .. } = rows;
        self.pack(View { data, rows, columns, row, column }.t().numbers());
    }

    /// Packs the rows of a bfloat16 view.
    pub(crate) fn fill_halves(&mut self, rows: View<'_, bf16>) {
        self.pack(rows.t().halves());
    }

    fn pack(&mut self, (from, numbers, lines): (Right<f32>, usize, usize)) {
        let words = numbers.div_ceil(2);
        let padded = if self.side == Side::Left { padded(lines) } else { lines.next_multiple_of(COLUMNS) };
        self.room.resize(padded * words + LINE);
        self.first = self.room.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE);
        (self.lines, self.numbers) = (lines, numbers);
        let to = self.room[self.first..].as_mut_ptr().cast();
        // SAFETY: the views were checked against their slices, and there is room for full panels.
        unsafe { (form().pack)(from, self.side, lines, numbers, to) }
    }

    /// The entire factor.
    pub(crate) fn all(&self) -> Part<'_> {
        self.part(0..self.lines, 0..self.numbers)
    }

    /// Some lines; they must start at a panel.
    pub(crate) fn lines(&self, lines: Range<usize>) -> Part<'_> {
        self.part(lines, 0..self.numbers)
    }

    /// Some elements of all lines; the range must start at an even index, and end at an even index or the last element.
    pub(crate) fn numbers(&self, numbers: Range<usize>) -> Part<'_> {
        self.part(0..self.lines, numbers)
    }

    fn part(&self, lines: Range<usize>, numbers: Range<usize>) -> Part<'_> {
        let each = self.numbers.div_ceil(2);
        assert!(
            lines.start.is_multiple_of(COLUMNS) && lines.end <= self.lines,
            "lines {lines:?} of {}",
            self.lines
        );
        let ends = numbers.end.is_multiple_of(2) || numbers.end == self.numbers;
        assert!(
            numbers.start.is_multiple_of(2) && ends && numbers.end <= self.numbers,
            "elements {numbers:?} of {}",
            self.numbers
        );
        // Left panels differ in height: they are not split.
        let whole = lines.start == 0 && numbers.start == 0;
        assert!(self.side == Side::Right || whole, "a part of a left factor must start at its first element");
        let first = self.first + lines.start * each + numbers.start / 2 * COLUMNS;
        let (lines, words) = (lines.len(), numbers.len().div_ceil(2));
        Part { side: self.side, pairs: &self.room[first..], lines, words, each }
    }
}

/// `out ← scale · a bᵀ`, or `out ← out + scale · a bᵀ`, of the lines of both; the rows of `out` start `stride` elements
/// apart.
pub(crate) fn multiply<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: Part<'_>,
    b: Part<'_>,
) {
    assert!(a.lines > 0 && (a.lines - 1) * stride + b.lines <= out.len(), "multiply: result out of bounds");
    // SAFETY: the elements written are inside `out`, by the assertion.
    unsafe { multiply_at(out.as_mut_ptr(), stride, write, scale, a, b) }
}

/// [`multiply`] into memory of which other threads may access other elements.
///
/// # Safety
/// As many elements as `b` has lines, from each of `out`, `out + stride`, …, must be valid, and not accessed by others
/// while this runs.
pub(crate) unsafe fn multiply_at<T: Float>(
    out: *mut T,
    stride: usize,
    write: Write,
    scale: T,
    a: Part<'_>,
    b: Part<'_>,
) {
    let sides = (a.side, b.side) == (Side::Left, Side::Right);
    assert!(
        T::DTYPE == DType::F32 && sides && a.words == b.words && a.words > 0,
        "multiply: factors don't match"
    );
    let target = Target {
        out: out.cast::<f32>(),
        stride,
        rows: a.lines,
        columns: b.lines,
        scale: scale.to_f64() as f32,
        add: write == Write::Add,
    };
    // SAFETY: parts are inside their factors; the caller guarantees `out`.
    unsafe { (form().multiply)(a, b, &target) }
}

/// Packing and multiplication, compiled for an instruction set.
#[derive(Clone, Copy)]
struct Form {
    #[cfg_attr(not(test), allow(dead_code))]
    name: &'static str,
    pack: unsafe fn(Right<f32>, Side, usize, usize, *mut u32),
    multiply: unsafe fn(Part<'_>, Part<'_>, &Target<f32>),
}

/// `NAME = Machine with "features" by PACK and MULTIPLY`: a [`Form`] compiled for these features.
macro_rules! compiled {
    ($($name:ident = $machine:ty, $features:literal, $pack:ident, $multiply:ident;)*) => { $(
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $pack(from: Right<f32>, side: Side, lines: usize, numbers: usize, to: *mut u32) {
            // SAFETY: the caller's promise; the features are named above.
            unsafe { pack_with::<$machine>(from, side, lines, numbers, to) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        unsafe fn $multiply(a: Part<'_>, b: Part<'_>, target: &Target<f32>) {
            // SAFETY: as above.
            unsafe { multiply_with::<$machine>(a, b, target) }
        }
        #[cfg(target_arch = "x86_64")]
        const $name: Form = Form { name: stringify!($name), pack: $pack, multiply: $multiply };
    )* };
}

compiled! {
    PAIRS = super::avx512::Pairs, "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma", pack_pairs, multiply_pairs;
    SPLIT = super::avx512::SplitPairs, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", pack_split, multiply_split;
    AVX2 = super::avx2::Pairs, "avx2,fma", pack_avx2, multiply_avx2;
}

const PLAIN: Form = Form {
    name: "PLAIN",
    pack: pack_with::<plain::Pairs<PORTABLE_FMA>>,
    multiply: multiply_with::<plain::Pairs<PORTABLE_FMA>>,
};

/// The variant for this processor.
fn form() -> Form {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 if is_x86_feature_detected!("avx512bf16") => PAIRS,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => SPLIT,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => AVX2,
        Level::Portable => PLAIN,
    }
}

/// # Safety
/// The lines must be readable, `to` must have room for full panels of them, and the processor must have `M`'s
/// instructions.
#[inline(always)]
unsafe fn pack_with<M: Machine<Number = f32, Word = u32>>(
    from: Right<f32>,
    side: Side,
    lines: usize,
    numbers: usize,
    to: *mut u32,
) {
    // Loops, no closures: everything called must be inlined into one function compiled for the instructions.
    // SAFETY: the caller's promise.
    unsafe {
        match side {
            Side::Left => {
                for (first, height) in panels(lines) {
                    pack_panel::<M>(from, (first, height.min(lines - first)), numbers, to, height);
                }
            }
            Side::Right => {
                for first in (0..lines).step_by(COLUMNS) {
                    pack_panel::<M>(from, (first, COLUMNS.min(lines - first)), numbers, to, COLUMNS);
                }
            }
        }
    }
}

/// # Safety
/// As for [`pack_with`], of some lines from `first` on.
#[inline(always)]
unsafe fn pack_panel<M: Machine<Number = f32, Word = u32>>(
    from: Right<f32>,
    (first, some): (usize, usize),
    numbers: usize,
    to: *mut u32,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = to.add(first * numbers.div_ceil(2));
        match from {
            Right::Numbers(from) => {
                let from = Lines { start: from.start.add(first * from.line), ..from };
                pack::<M, Numbers>(from, some, numbers, to, width);
            }
            Right::Halves(from) => {
                let from = Lines { start: from.start.add(first * from.line), ..from };
                pack::<M, Halves>(from, some, numbers, to, width);
            }
        }
    }
}

/// # Safety
/// The parts must be complete, the target writable and not accessed by others, and the processor must have `M`'s
/// instructions.
#[inline(always)]
unsafe fn multiply_with<M: Machine<Number = f32, Word = u32>>(
    a: Part<'_>,
    b: Part<'_>,
    target: &Target<f32>,
) {
    let (left, right) = (a.pairs.as_ptr().cast::<u32>(), b.pairs.as_ptr().cast::<u32>());
    for word in (0..a.words).step_by(DEPTH) {
        let steps = DEPTH.min(a.words - word);
        for c in (0..b.lines).step_by(COLUMNS) {
            for (r, height) in panels(a.lines) {
                // SAFETY: the caller's promise: each line has `words` words.
                unsafe {
                    let of_left = Panel { start: left.add(r * a.each + word * height), step: height };
                    let of_right = Panel { start: right.add(c * b.each + word * COLUMNS), step: COLUMNS };
                    let part = Target {
                        out: target.out.add(r * target.stride + c),
                        rows: height.min(a.lines - r),
                        columns: COLUMNS.min(b.lines - c),
                        add: target.add || word > 0,
                        ..*target
                    };
                    panel::<M>(steps, height, (of_left, of_right), part);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

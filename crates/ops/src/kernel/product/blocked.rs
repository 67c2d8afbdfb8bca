//! A product in blocks that the caches hold. No length here but [`DEPTH`] touches a bit of the result.
#![allow(unsafe_code)]

use super::machine::{COLUMNS, Machine};
use super::pack::{Lines, pack};
use super::tile::{Panel, Target, panel};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Words of the inner dimension that are summed up before they join the result: the length that the bits depend on.
pub(super) const DEPTH: usize = 384;
/// Columns of a packed block of the right factor, which stays in a level-two cache beside the rows.
const WIDTH: usize = 8 * COLUMNS;
/// Words of the left factor that are packed at a time, more or less.
const HELD: usize = 1 << 21;
/// Lines of one factor up to which the other is not worth packing.
const BARE: usize = 64;
/// Lines of a panel of the left factor.
const HEIGHT: usize = 12;
/// Rows whose panels stay in the level-two cache while the columns go by.
const ROWS: usize = 20 * HEIGHT;

/// A product `out ← [out +] scale · a b` of `m × k` and `k × n` numbers.
pub(super) struct Product<N> {
    pub(super) sizes: (usize, usize, usize),
    /// Rows of the left factor.
    pub(super) a: Lines<N>,
    /// Columns of the right factor.
    pub(super) b: Lines<N>,
    pub(super) out: *mut N,
    pub(super) stride: usize,
    pub(super) scale: N,
    pub(super) add: bool,
}

impl<N: Copy> Product<N> {
    /// A rectangle of it.
    ///
    /// # Safety
    /// Both ranges lie inside the result.
    pub(super) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                sizes: (rows.len(), self.sizes.1, columns.len()),
                a: Lines { start: self.a.start.add(rows.start * self.a.line), ..self.a },
                b: Lines { start: self.b.start.add(columns.start * self.b.line), ..self.b },
                out: self.out.add(rows.start * self.stride + columns.start),
                ..*self
            }
        }
    }
}

/// The height of the next panel of `rows` rows: 12, and at the end 8 or 4, so that little is padded.
fn height(rows: usize) -> usize {
    match rows {
        0..=4 => 4,
        5..=8 => 8,
        _ => HEIGHT,
    }
}

/// Runs a product on this thread.
///
/// # Safety
/// Factors readable, result writable and nobody else's, the processor has `M`'s instructions.
#[inline(always)]
pub(super) unsafe fn product<M: Machine>(product: &Product<M::Number>) {
    let &Product { sizes: (m, k, n), a, b, out, stride, scale, add } = product;
    let words = k.div_ceil(M::PER_WORD);
    // Where lines lie side by side, a small factor is as well read where it lies.
    let bare_left = M::PER_WORD == 1 && a.line == 1 && m.is_multiple_of(4) && n <= BARE;
    let bare_right = M::PER_WORD == 1 && b.line == 1 && n.is_multiple_of(16) && m <= BARE;
    let chunk = (HELD / words.max(1)).clamp(ROWS, m.max(ROWS)).next_multiple_of(HEIGHT);
    // SAFETY: the offsets below stay inside factors, result and the packed buffers, whose lengths are rounded up to
    // whole panels here.
    unsafe {
        let mut left = Packed::<M>::new(0, if bare_left { 0 } else { padded(chunk.min(m)) * words });
        let width = WIDTH.min(n.next_multiple_of(COLUMNS));
        let mut right = Packed::<M>::new(1, if bare_right { 0 } else { width * words.min(DEPTH) });
        for row in (0..m).step_by(chunk) {
            let rows = chunk.min(m - row);
            if !bare_left {
                pack_left::<M>(a, row..row + rows, k, left.start());
            }
            for column in (0..n).step_by(WIDTH) {
                let columns = WIDTH.min(n - column);
                for word in (0..words.max(1)).step_by(DEPTH) {
                    let steps = DEPTH.min(words - word);
                    if !bare_right {
                        pack_right::<M>(b, column..column + columns, k, word, right.start());
                    }
                    for first in (0..rows).step_by(ROWS) {
                        let some = ROWS.min(rows - first);
                        for c in (0..columns).step_by(COLUMNS) {
                            let of_right = if bare_right {
                                // A word is a number here.
                                let start = b.start.add(word * b.step + (column + c) * b.line);
                                Panel { start: start.cast(), step: b.step }
                            } else {
                                Panel { start: right.start().add(c * steps), step: COLUMNS }
                            };
                            for (r, height) in panels(some) {
                                let of_left = if bare_left {
                                    let start = a.start.add(word * a.step + (row + first + r) * a.line);
                                    Panel { start: start.cast(), step: a.step }
                                } else {
                                    let at = word * padded(rows) + (first + r) * steps;
                                    Panel { start: left.start().add(at), step: height }
                                };
                                let target = Target {
                                    out: out.add((row + first + r) * stride + column + c),
                                    stride,
                                    rows: height.min(some - r),
                                    columns: COLUMNS.min(columns - c),
                                    scale,
                                    add: add || word > 0,
                                };
                                panel::<M>(steps, height, (of_left, of_right), &target);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Packs rows of the left factor for all of the inner dimension: block by block, in each panel by panel.
///
/// # Safety
/// As for [`product`]; there is room for whole panels.
#[inline(always)]
unsafe fn pack_left<M: Machine>(a: Lines<M::Number>, rows: Range<usize>, k: usize, to: *mut M::Word) {
    let words = k.div_ceil(M::PER_WORD);
    // SAFETY: the caller's promise.
    unsafe {
        let mut to = to;
        for word in (0..words).step_by(DEPTH) {
            let (from, numbers) = depth::<M>(a, k, word);
            for (r, height) in panels(rows.len()) {
                let lines = Lines { start: from.start.add((rows.start + r) * a.line), ..from };
                pack::<M>(lines, height.min(rows.len() - r), numbers, to, height);
                to = to.add(height * DEPTH.min(words - word));
            }
        }
    }
}

/// Packs columns of the right factor for the block of the inner dimension that begins at `word`.
///
/// # Safety
/// As for [`pack_left`].
#[inline(always)]
unsafe fn pack_right<M: Machine>(
    b: Lines<M::Number>,
    columns: Range<usize>,
    k: usize,
    word: usize,
    to: *mut M::Word,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (from, numbers) = depth::<M>(b, k, word);
        for c in (0..columns.len()).step_by(COLUMNS) {
            let lines = Lines { start: from.start.add((columns.start + c) * b.line), ..from };
            let to = to.add(c * numbers.div_ceil(M::PER_WORD));
            pack::<M>(lines, COLUMNS.min(columns.len() - c), numbers, to, COLUMNS);
        }
    }
}

/// First row and height of each panel of `rows` rows.
#[inline(always)]
fn panels(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let row = next;
        (row < rows).then(|| {
            let height = height(rows - row);
            next += height;
            (row, height)
        })
    })
}

/// The rows of all panels of `rows` rows, with those that pad the last: a panel is 4, 8 or 12 high.
fn padded(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// A factor from word `word` of its inner dimension on, and how many numbers the block has.
#[inline(always)]
unsafe fn depth<M: Machine>(of: Lines<M::Number>, k: usize, word: usize) -> (Lines<M::Number>, usize) {
    let first = word * M::PER_WORD;
    // SAFETY: `first` is at most `k`.
    let start = unsafe { of.start.add(first * of.step) };
    (Lines { start, ..of }, (k - first).min(DEPTH * M::PER_WORD))
}

thread_local! {
    /// What the last products of this thread were packed in, left and right: a thread packs for one product at a time.
    static ROOM: RefCell<[Vec<u64>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// Room for packed words that begins where a cache line does; what they hold is anything.
struct Packed<M: Machine> {
    room: Vec<u64>,
    side: usize,
    words: PhantomData<M::Word>,
}

impl<M: Machine> Packed<M> {
    const LINE: usize = 64;

    fn new(side: usize, words: usize) -> Self {
        let mut room = ROOM.with_borrow_mut(|room| std::mem::take(&mut room[side]));
        let wanted = (words * size_of::<M::Word>() + Self::LINE).div_ceil(size_of::<u64>());
        if room.len() < wanted {
            // The old one goes first, so that the two are never held together.
            drop(std::mem::take(&mut room));
            room = vec![0; wanted];
        }
        Self { room, side, words: PhantomData }
    }

    fn start(&mut self) -> *mut M::Word {
        let start = self.room.as_mut_ptr().cast::<u8>();
        let to_line = start.align_offset(Self::LINE);
        // SAFETY: `new` left room for a whole line more.
        unsafe { start.add(if to_line < Self::LINE { to_line } else { 0 }).cast() }
    }
}

impl<M: Machine> Drop for Packed<M> {
    fn drop(&mut self) {
        ROOM.with_borrow_mut(|room| room[self.side] = std::mem::take(&mut self.room));
    }
}

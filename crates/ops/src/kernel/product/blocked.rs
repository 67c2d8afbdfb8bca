//! Cache-blocked products. Of the block sizes here, only [`DEPTH`] affects the bits of the result.
#![allow(unsafe_code)]

use super::machine::{COLUMNS, Machine, Panel};
use super::pack::{Halves, Lines, Numbers, Packs, pack};
use super::tile::{Target, panel};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::ops::Range;

/// Words of the inner dimension summed before being added to the result; the bits depend on it.
pub(super) const DEPTH: usize = 384;
/// Columns per packed block of the right factor, which stays in the level-two cache along with the rows.
const WIDTH: usize = 8 * COLUMNS;
/// Approximate number of elements of the left factor packed at a time.
const HELD: usize = 1 << 21;
/// If one factor has at most this many lines, the other is not worth packing.
const BARE: usize = 64;
/// Lines per panel of the left factor.
const HEIGHT: usize = 12;
/// Rows whose panels stay in the level-two cache during the loop over columns.
const ROWS: usize = 20 * HEIGHT;

/// A product `out ← [out +] scale · a b` of `m × k` and `k × n` elements.
pub(super) struct Product<N> {
    pub(super) sizes: (usize, usize, usize),
    /// Rows of the left factor.
    pub(super) a: Lines<N>,
    /// Columns of the right factor.
    pub(super) b: Right<N>,
    pub(super) out: *mut N,
    pub(super) stride: usize,
    pub(super) scale: N,
    pub(super) add: bool,
}

/// The lines of a right factor, in the product's type or in bfloat16.
pub(super) enum Right<N> {
    Numbers(Lines<N>),
    Halves(Lines<u16>),
}

// Not derived: pointers can be copied whatever their target type.
impl<N> Clone for Right<N> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<N> Copy for Right<N> {}

impl<N> Right<N> {
    /// The lines from `first` on.
    ///
    /// # Safety
    /// `first` is at most the number of lines.
    unsafe fn starting_at_column(self, first: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Numbers(lines) => {
                    Self::Numbers(Lines { start: lines.start.add(first * lines.line), ..lines })
                }
                Self::Halves(lines) => {
                    Self::Halves(Lines { start: lines.start.add(first * lines.line), ..lines })
                }
            }
        }
    }
}

impl<N: Copy> Product<N> {
    /// A rectangle of the product.
    ///
    /// # Safety
    /// Both ranges are inside the result.
    pub(super) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                sizes: (rows.len(), self.sizes.1, columns.len()),
                a: Lines { start: self.a.start.add(rows.start * self.a.line), ..self.a },
                b: self.b.starting_at_column(columns.start),
                out: self.out.add(rows.start * self.stride + columns.start),
                ..*self
            }
        }
    }
}

/// The height of the next panel of `rows` remaining rows: 12, or 8 or 4 at the end to limit padding.
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
/// The factors must be readable, the result writable and not accessed by others, and the processor must have `M`'s
/// instructions.
#[inline(always)]
pub(super) unsafe fn product<M: Machine>(product: &Product<M::Number>) {
    let &Product { sizes: (m, k, n), a, b, out, stride, scale, add } = product;
    let words = k.div_ceil(M::PER_WORD);
    // If its lines are adjacent in memory, a small factor is read without packing.
    let bare_left = M::PER_WORD == 1 && a.line == 1 && m.is_multiple_of(4) && n <= BARE;
    let bare_right = match b {
        Right::Numbers(b) if M::PER_WORD == 1 && b.line == 1 && n.is_multiple_of(16) && m <= BARE => Some(b),
        _ => None,
    };
    let held = HELD / M::PER_WORD;
    let chunk = (held / words.max(1)).clamp(ROWS, m.max(ROWS)).next_multiple_of(HEIGHT);
    // A stretch of the inner dimension that is packed at a time: all of it, unless it is as long as a vocabulary.
    let stretch = (held / ROWS / DEPTH * DEPTH).min(words.max(1));
    // SAFETY: the offsets below stay inside factors, result and the packed buffers, whose lengths are rounded up to
    // full panels here.
    unsafe {
        let mut left =
            Packed::<M>::new(0, if bare_left { 0 } else { padded(chunk.min(m)) * words.min(stretch) });
        let width = WIDTH.min(n.next_multiple_of(COLUMNS));
        let mut right = Packed::<M>::new(1, if bare_right.is_some() { 0 } else { width * words.min(DEPTH) });
        let chunks = (0..m)
            .step_by(chunk)
            .flat_map(|row| (0..words.max(1)).step_by(stretch).map(move |word| (row, word)));
        for (row, begin) in chunks {
            let rows = chunk.min(m - row);
            let end = words.max(1).min(begin + stretch);
            if !bare_left {
                pack_left::<M>(a, row..row + rows, k, begin..words.min(end), left.start());
            }
            for column in (0..n).step_by(WIDTH) {
                let columns = WIDTH.min(n - column);
                for word in (begin..end).step_by(DEPTH) {
                    let steps = DEPTH.min(words - word);
                    if bare_right.is_none() {
                        pack_right::<M>(b, column..column + columns, k, word, right.start());
                    }
                    for first in (0..rows).step_by(ROWS) {
                        let some = ROWS.min(rows - first);
                        for c in (0..columns).step_by(COLUMNS) {
                            let of_right = if let Some(b) = bare_right {
                                // A word is one element here.
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
                                    let at = (word - begin) * padded(rows) + (first + r) * steps;
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
                                panel::<M>(steps, height, (of_left, of_right), target);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Packs rows of the left factor for a stretch of the inner dimension: block by block, each panel by panel.
///
/// # Safety
/// As for [`product`]; there is room for full panels.
#[inline(always)]
unsafe fn pack_left<M: Machine>(
    a: Lines<M::Number>,
    rows: Range<usize>,
    k: usize,
    words: Range<usize>,
    to: *mut M::Word,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut to = to;
        for word in words.clone().step_by(DEPTH) {
            let (from, numbers) = depth::<M, _>(a, k, word);
            for (r, height) in panels(rows.len()) {
                let lines = Lines { start: from.start.add((rows.start + r) * a.line), ..from };
                pack::<M, Numbers>(lines, height.min(rows.len() - r), numbers, to, height);
                to = to.add(height * DEPTH.min(words.end - word));
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
    b: Right<M::Number>,
    columns: Range<usize>,
    k: usize,
    word: usize,
    to: *mut M::Word,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match b {
            Right::Numbers(b) => pack_columns::<M, Numbers>(b, columns, k, word, to),
            Right::Halves(b) => pack_columns::<M, Halves>(b, columns, k, word, to),
        }
    }
}

/// [`pack_right`] for lines of one element type.
///
/// # Safety
/// As there.
#[inline(always)]
unsafe fn pack_columns<M: Machine, P: Packs<M>>(
    b: Lines<P::Number>,
    columns: Range<usize>,
    k: usize,
    word: usize,
    to: *mut M::Word,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for c in (0..columns.len()).step_by(COLUMNS) {
            let some = COLUMNS.min(columns.len() - c);
            let (from, numbers) = depth::<M, _>(b, k, word);
            let lines = Lines { start: from.start.add((columns.start + c) * b.line), ..from };
            pack::<M, P>(lines, some, numbers, to.add(c * numbers.div_ceil(M::PER_WORD)), COLUMNS);
        }
    }
}

/// First row and height of each panel of `rows` rows.
#[inline(always)]
pub(super) fn panels(rows: usize) -> impl Iterator<Item = (usize, usize)> {
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

/// The rows of all panels of `rows` rows, including the padding of the last; a panel is 4, 8 or 12 high.
pub(super) fn padded(rows: usize) -> usize {
    rows.next_multiple_of(4)
}

/// A factor from word `word` of its inner dimension on, and the number of elements of the block.
#[inline(always)]
unsafe fn depth<M: Machine, N>(of: Lines<N>, k: usize, word: usize) -> (Lines<N>, usize) {
    let first = word * M::PER_WORD;
    // SAFETY: `first` is at most `k`.
    let start = unsafe { of.start.add(first * of.step) };
    (Lines { start, ..of }, (k - first).min(DEPTH * M::PER_WORD))
}

thread_local! {
    /// This thread's packing buffers, left and right, kept for the next product: a thread packs for one product at a
    /// time.
    static ROOM: RefCell<[Vec<u64>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A buffer for packed words, aligned to a cache line; its contents are arbitrary.
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
            // Frees the old buffer first, so that both are never allocated together.
            drop(std::mem::take(&mut room));
            room = vec![0; wanted];
        }
        Self { room, side, words: PhantomData }
    }

    fn start(&mut self) -> *mut M::Word {
        let start = self.room.as_mut_ptr().cast::<u8>();
        let to_line = start.align_offset(Self::LINE);
        // SAFETY: `new` left room for one more cache line.
        unsafe { start.add(if to_line < Self::LINE { to_line } else { 0 }).cast() }
    }
}

impl<M: Machine> Drop for Packed<M> {
    fn drop(&mut self) {
        ROOM.with_borrow_mut(|room| room[self.side] = std::mem::take(&mut self.room));
    }
}

//! The innermost loop: computes a tile of the result in registers.
#![allow(unsafe_code)]

use super::machine::{COLUMNS, Machine, Panel};

/// The target of a tile of the result.
#[derive(Clone, Copy)]
pub(super) struct Target<N> {
    /// Its first element.
    pub(super) out: *mut N,
    /// Elements between the starts of two rows.
    pub(super) stride: usize,
    /// Rows and columns that exist; a panel may be padded beyond them.
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) scale: N,
    /// Whether to add to the target instead of overwriting it.
    pub(super) add: bool,
}

impl<N> Target<N> {
    /// The part that begins at an element; empty beyond the end.
    #[inline(always)]
    pub(super) fn at(self, row: usize, column: usize) -> Self {
        Self {
            out: self.out.wrapping_add(row * self.stride + column),
            rows: self.rows.saturating_sub(row),
            columns: self.columns.saturating_sub(column),
            ..self
        }
    }
}

/// The product of a panel of `height` lines of the left factor and one of [`COLUMNS`] of the right.
///
/// # Safety
/// Both panels must hold `steps` steps of full tiles, the processor must have `M`'s instructions, and the target must
/// be writable and not accessed by others.
#[inline(always)]
pub(super) unsafe fn panel<M: Machine>(
    steps: usize,
    height: usize,
    (a, b): (Panel<M::Word>, Panel<M::Word>),
    target: Target<M::Number>,
) {
    // A panel is 4, 8 or 12 high; one too high for the registers is split into equal tiles.
    let tall = match height {
        _ if height <= M::ROWS => height,
        12 => M::ROWS,
        _ => 4,
    };
    for row in (0..target.rows).step_by(tall) {
        for column in (0..target.columns).step_by(2 * M::LANES) {
            let wide = target.columns - column > M::LANES;
            // SAFETY: the caller's promise, for a part of the panels.
            unsafe {
                let panels = (a.of_line(row), b.of_line(column));
                let part = target.at(row, column);
                match (tall, wide) {
                    (12, true) if M::ROWS == 12 => tile::<M, 12, 2>(steps, panels, part),
                    (12, false) if M::ROWS == 12 => tile::<M, 12, 1>(steps, panels, part),
                    (8, true) if M::ROWS == 12 => tile::<M, 8, 2>(steps, panels, part),
                    (8, false) if M::ROWS == 12 => tile::<M, 8, 1>(steps, panels, part),
                    (6, true) if M::ROWS == 6 => tile::<M, 6, 2>(steps, panels, part),
                    (6, false) if M::ROWS == 6 => tile::<M, 6, 1>(steps, panels, part),
                    (_, true) => tile::<M, 4, 2>(steps, panels, part),
                    (_, false) => tile::<M, 4, 1>(steps, panels, part),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<M: Machine, const R: usize, const V: usize>(
    steps: usize,
    (a, b): (Panel<M::Word>, Panel<M::Word>),
    target: Target<M::Number>,
) {
    // SAFETY: as for `panel`.
    unsafe { write::<M, R, V>(&M::sums::<R, V, false>(steps, a, b), target) }
}

/// Writes a tile's sums to those of its rows and columns that exist.
///
/// # Safety
/// The processor must have `M`'s instructions, and the target must be writable and not accessed by others.
#[inline(always)]
pub(super) unsafe fn write<M: Machine, const R: usize, const V: usize>(
    sums: &[[M::Sums; V]; R],
    target: Target<M::Number>,
) {
    let Target { out, stride, rows, columns, scale, add } = target;
    // SAFETY: the caller's promise.
    unsafe {
        if rows >= R && columns >= V * M::LANES {
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sums) in sums.iter().enumerate() {
                    M::finish(out.add(r * stride + v * M::LANES), sums, scale, add);
                }
            }
            return;
        }
        // At an edge: via a full-width row, from a copy of the sums, so that they stay in registers.
        let columns = columns.min(V * M::LANES);
        let at_edge = *sums;
        for (r, sums) in at_edge.iter().enumerate().take(rows) {
            let mut whole = [M::Number::default(); COLUMNS];
            let out = out.wrapping_add(r * stride);
            std::ptr::copy_nonoverlapping(out, whole.as_mut_ptr(), columns);
            for (v, &sums) in sums.iter().enumerate() {
                M::finish(whole.as_mut_ptr().add(v * M::LANES), sums, scale, add);
            }
            std::ptr::copy_nonoverlapping(whole.as_ptr(), out, columns);
        }
    }
}

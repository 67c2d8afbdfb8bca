//! The innermost loop: computes a tile of the result in registers.
#![allow(unsafe_code)]

use super::machine::{COLUMNS, Machine, Panel};

/// The target of a tile of the result.
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
    target: &Target<M::Number>,
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
                let part = Target {
                    out: target.out.add(row * target.stride + column),
                    rows: target.rows - row,
                    columns: target.columns - column,
                    ..*target
                };
                match (tall, wide) {
                    (12, true) if M::ROWS == 12 => tile::<M, 12, 2>(steps, panels, &part),
                    (12, false) if M::ROWS == 12 => tile::<M, 12, 1>(steps, panels, &part),
                    (8, true) if M::ROWS == 12 => tile::<M, 8, 2>(steps, panels, &part),
                    (8, false) if M::ROWS == 12 => tile::<M, 8, 1>(steps, panels, &part),
                    (6, true) if M::ROWS == 6 => tile::<M, 6, 2>(steps, panels, &part),
                    (6, false) if M::ROWS == 6 => tile::<M, 6, 1>(steps, panels, &part),
                    (_, true) => tile::<M, 4, 2>(steps, panels, &part),
                    (_, false) => tile::<M, 4, 1>(steps, panels, &part),
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn tile<M: Machine, const R: usize, const V: usize>(
    steps: usize,
    (a, b): (Panel<M::Word>, Panel<M::Word>),
    target: &Target<M::Number>,
) {
    // SAFETY: as for `panel`.
    unsafe {
        let &Target { out, stride, scale, add, .. } = target;
        let sums = M::sums::<R, V, false>(steps, a, b);
        if target.rows >= R && target.columns >= V * M::LANES {
            for (r, sums) in sums.iter().enumerate() {
                for (v, &sums) in sums.iter().enumerate() {
                    M::finish(out.add(r * stride + v * M::LANES), sums, scale, add);
                }
            }
            return;
        }
        // At an edge: via a full-width row.
        let columns = target.columns.min(V * M::LANES);
        // A copy, so that the sums need no address and stay in registers.
        let at_edge = sums;
        for (r, sums) in at_edge.iter().enumerate().take(target.rows) {
            let mut whole = [M::Number::default(); COLUMNS];
            let row = std::slice::from_raw_parts_mut(out.add(r * stride), columns);
            whole[..columns].copy_from_slice(row);
            for (v, &sums) in sums.iter().enumerate() {
                M::finish(whole.as_mut_ptr().add(v * M::LANES), sums, scale, add);
            }
            row.copy_from_slice(&whole[..columns]);
        }
    }
}

//! One of our parameters in a stored tensor, read a few rows at a time.

use super::tensors::{Entry, Store};
use crate::families::Stored;
use crate::mapped::Mapped;

/// One of our parameters in a stored tensor.
pub(super) struct Source<'a> {
    pub(super) store: &'a Store,
    pub(super) entry: &'a Entry,
    pub(super) stored: &'a Stored,
    pub(super) part: usize,
}

impl Source<'_> {
    /// The parameter's values where the file is mapped; `None` if they are not float32, or not in our order.
    pub(super) fn mapped(&self) -> Option<Mapped> {
        let Self { store, entry, stored, part } = *self;
        let in_order = !stored.transposed && (stored.n_piece == 1 || stored.parts.len() == 1);
        let n = |part: &(String, Vec<usize>)| part.1.iter().product::<usize>();
        let before = stored.parts[..part].iter().map(n).sum();
        store.mapped(entry, before, n(&stored.parts[part])).filter(|_| in_order)
    }

    /// Rows of the parameter, wherever they are in the tensor ([`super::numbers::cut`] splits an entire tensor in the
    /// same way).
    pub(super) fn rows(&self, rows: std::ops::Range<usize>, out: &mut [f32]) {
        let Self { store, entry, stored, part } = *self;
        let n_rows = |part: usize| stored.parts[part].1[0];
        let before: usize = (0..part).map(n_rows).sum();
        if stored.transposed {
            let (n_in, n_out) = (stored.shape[0], stored.shape[1]);
            let mut column = vec![0.0; rows.len()];
            for i in 0..n_in {
                store.read(entry, i * n_out + before + rows.start, &mut column);
                for (row, number) in column.iter().enumerate() {
                    out[row * n_in + i] = *number;
                }
            }
            return;
        }
        let width = out.len() / rows.len().max(1);
        let of_piece = |part: usize| n_rows(part) / stored.n_piece;
        let all: usize = (0..stored.parts.len()).map(of_piece).sum();
        let first = before / stored.n_piece;
        let mut row = rows.start;
        let mut rest = out;
        while row < rows.end {
            let (piece, within) = (row / of_piece(part), row % of_piece(part));
            let n = (of_piece(part) - within).min(rows.end - row);
            let (here, after) = rest.split_at_mut(n * width);
            store.read(entry, (piece * all + first + within) * width, here);
            rest = after;
            row += n;
        }
    }
}

//! The norms of queries and keys inside the fused sublayer: per head, or over all heads of a token.
//!
//! Queries, keys and values share one buffer; a norm copies its part out and back.

use candle_core::{Result, Tensor};

use crate::kernel::Float;
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::scratch::{Scratch, cleared, scratch};
use crate::parts::Norm;
use crate::sublayer::KeptNorm;
use crate::tape::InputGradients;

/// Minimum number of rows per thread when copying.
const GRAIN: usize = 64;

/// A part of the rows of a buffer: rows have `wide` elements, the part is `width` of them from `at` on.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) wide: usize,
    pub(super) at: usize,
    pub(super) width: usize,
}

impl Place {
    fn take<T: Float>(self, rows: &[T]) -> Scratch<T> {
        let n = rows.len() / self.wide.max(1);
        let mut part = scratch::<T>(n * self.width);
        for_rows(n, GRAIN, Rows::new(&mut part, self.width), |range, part| {
            for (row, part) in range.zip(part.values.chunks_exact_mut(self.width)) {
                part.copy_from_slice(&rows[row * self.wide + self.at..][..self.width]);
            }
        });
        part
    }

    fn put<T: Float>(self, part: &[T], rows: &mut [T]) {
        let n = rows.len() / self.wide.max(1);
        for_rows(n, GRAIN, Rows::new(rows, self.wide), |range, rows| {
            for (row, out) in range.zip(rows.values.chunks_exact_mut(self.wide)) {
                out[self.at..][..self.width].copy_from_slice(&part[row * self.width..][..self.width]);
            }
        });
    }
}

/// A norm of queries or keys, with the state for its backward pass.
pub(super) struct NormedHeads<T: Float> {
    place: Place,
    before: Scratch<T>,
    norm: KeptNorm<T>,
}

impl<T: Float> NormedHeads<T> {
    /// Normalizes the part of `rows` at `place`.
    pub(super) fn forward(norm: &Norm<&Tensor>, place: Place, rows: &mut [T]) -> Result<Self> {
        let before = place.take(rows);
        let (after, norm) = KeptNorm::forward(norm, &before)?;
        place.put(&after, rows);
        Ok(Self { place, before, norm })
    }

    /// Replaces the gradients of the normalized part of `drows` by those of its input; returns those of the norm's
    /// parameters.
    pub(super) fn backward(&self, drows: &mut [T]) -> Result<InputGradients> {
        let after = self.place.take(drows);
        let mut before = cleared::<T>(after.len());
        let found = self.norm.backward(&self.before, &after, &mut before)?;
        self.place.put(&before, drows);
        Ok(found)
    }
}

//! One attention on the CPU: sizes, mask, dropout, memory layout, and the steps on a tile.
#![allow(unsafe_code)]

use super::reference::Sizes;
use super::tile::{self, Tile};
use crate::kernel::Float;
use crate::kernel::narrow::Matrix;
use crate::kernel::parallel::Shared;
use crate::kernel::product::View;
use crate::threads::Precision;
use crate::{Dropout, Mask};
use std::ops::Range;

/// One attention: its sizes and options, and the stride between positions in each slice.
///
/// Element (b, t, h, k) of the queries is at `(b · T + t) · q_stride + h · K + k`; likewise for the others.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) sizes: Sizes,
    pub(crate) q_stride: usize,
    pub(crate) kv_stride: usize,
    pub(crate) out_stride: usize,
    pub(crate) scale: f64,
    pub(crate) mask: Mask,
    pub(crate) dropout: Option<Dropout>,
    /// Precision of the products, forward and backward; ignored for float64.
    pub(crate) precision: Precision,
}

/// One query head of one batch row.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) b: usize,
    pub(super) head: usize,
}

impl Problem {
    /// Queries, keys and values for products without rounding; `None` if the products round them.
    pub(super) fn whole<'a, T: Float>(&self, factors: [Matrix<'a, T>; 3]) -> Option<[&'a [T]; 3]> {
        match (self.precision, factors) {
            (Precision::Float32, [Matrix::Numbers(q), Matrix::Numbers(k), Matrix::Numbers(v)]) => {
                Some([q, k, v])
            }
            _ => None,
        }
    }

    pub(super) fn queries<'a, T>(
        &self,
        x: &'a [T],
        stride: usize,
        place: Place,
        tile: &Range<usize>,
    ) -> View<'a, T> {
        let Sizes { t, k, .. } = self.sizes;
        View::strided(&x[(place.b * t + tile.start) * stride + place.head * k..], tile.len(), k, stride)
    }

    pub(super) fn keys<'a, T>(&self, x: &'a [T], place: Place, block: &Range<usize>) -> View<'a, T> {
        let Sizes { s, h, g, k, .. } = self.sizes;
        let at = (place.b * s + block.start) * self.kv_stride + place.head / (h / g) * k;
        View::strided(&x[at..], block.len(), k, self.kv_stride)
    }

    pub(super) fn tile(&self, place: Place, queries: &Range<usize>, block: &Range<usize>) -> Tile<'_> {
        Tile::new(&self.mask, place.b, queries.clone(), block, self.sizes.s)
    }

    /// Applies dropout to a tile and block; what is dropped is determined by position, the same in both passes.
    pub(super) fn drop<T: Float>(
        &self,
        place: Place,
        queries: &Range<usize>,
        block: &Range<usize>,
        x: &mut [T],
    ) {
        let Some(dropout) = self.dropout.as_ref().filter(|dropout| dropout.p > 0.0) else { return };
        let (mut stream, mut words) = (dropout.row(place.b), vec![0; block.len()]);
        for (query, row) in queries.clone().zip(x.chunks_exact_mut(block.len())) {
            let position = self.mask.first_position() + query;
            Dropout::seek_weights(&mut stream, place.head, position, block.start);
            stream.fill_u32(&mut words);
            tile::drop(row, &words, dropout.threshold(), T::of(dropout.scale()));
        }
    }

    /// Writes the results of a tile: its contexts, divided by the sums, and the log sums.
    ///
    /// # Safety
    /// These queries of this head belong to the calling thread alone.
    pub(super) unsafe fn finish<T: Float>(
        &self,
        place: Place,
        tile: &Range<usize>,
        context: &[T],
        (max, sum): (&[T], &[T]),
        (out, log_sums): (&Shared<'_, T>, &Shared<'_, T>),
    ) {
        let Sizes { t, h, k: width, .. } = self.sizes;
        let first = (place.b * h + place.head) * t + tile.start;
        // SAFETY: the caller's promise.
        let log_sums = unsafe { log_sums.part(first..first + tile.len()) };
        for (i, context) in context.chunks_exact(width).enumerate() {
            let at = (place.b * t + tile.start + i) * self.out_stride + place.head * width;
            // SAFETY: as above.
            let out = unsafe { out.part(at..at + width) };
            let seen = sum[i] > T::default() || sum[i].is_nan();
            let inverse = if seen { T::of(1.0) / sum[i] } else { T::default() };
            tile::scaled(out, context, inverse);
            log_sums[i] = if seen { max[i] + Float::ln(sum[i]) } else { T::INFINITY };
        }
    }
}

/// The outputs of the backward pass: zero at its start, laid out like the inputs.
pub(crate) struct Gradients<'a, T> {
    pub(crate) dq: Shared<'a, T>,
    pub(crate) dk: Shared<'a, T>,
    pub(crate) dv: Shared<'a, T>,
}

/// Inputs and outputs saved by the forward pass.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a, T> {
    pub(crate) q: Matrix<'a, T>,
    pub(crate) k: Matrix<'a, T>,
    pub(crate) v: Matrix<'a, T>,
    pub(crate) out: &'a [T],
    pub(crate) log_sums: &'a [T],
}

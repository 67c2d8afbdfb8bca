//! Softmax and its gradient on a tile of scores: one row per query, all in one call.
#![allow(unsafe_code)]

use crate::Mask;
use crate::kernel::Float;
use crate::kernel::bfloat16::rounded;
use crate::kernel::simd::{LANES, greatest, map, multiversion, reduce, reduce2};
use std::ops::Range;

/// Queries per tile.
pub(super) const QUERIES: usize = 64;

/// A tile of queries with one block of keys.
pub(super) struct Tile<'a> {
    mask: &'a Mask,
    b: usize,
    queries: Range<usize>,
    first_key: usize,
    /// The keys of the block that causality and the window allow each query.
    seen: Seen,
}

/// For each query of a tile, a range of the block's keys.
pub(crate) struct Seen {
    starts: [usize; QUERIES],
    ends: [usize; QUERIES],
}

impl<'a> Tile<'a> {
    /// At most [`QUERIES`] `queries` of batch row `b` with the keys of `block`, out of `n_keys`.
    pub(super) fn new(
        mask: &'a Mask,
        b: usize,
        queries: Range<usize>,
        block: &Range<usize>,
        n_keys: usize,
    ) -> Self {
        let mut seen = Seen { starts: [0; QUERIES], ends: [0; QUERIES] };
        for (i, query) in queries.clone().enumerate() {
            let range = mask.range(query, n_keys);
            let start = range.start.clamp(block.start, block.end);
            seen.starts[i] = start - block.start;
            seen.ends[i] = range.end.clamp(start, block.end) - block.start;
        }
        Self { mask, b, queries, first_key: block.start, seen }
    }

    /// Replaces each row of scores by `exp(score − max)`, updates the rows' running maxima and sums, and rescales
    /// `context` if a maximum has grown.
    pub(super) fn softmax_step<T: Float>(
        &self,
        scores: &mut [T],
        max: &mut [T],
        sum: &mut [T],
        context: &mut [T],
    ) {
        self.forbid(scores, T::NEG_INFINITY);
        softmax_rows(scores, &self.seen, &mut max[..self.queries.len()], sum, context);
    }

    /// Replaces scores by weights: `exp(score − log_sum)`.
    pub(super) fn weights<T: Float>(&self, scores: &mut [T], log_sums: &[T]) {
        weight_rows(scores, &self.seen, log_sums);
        self.forbid(scores, T::default());
    }

    /// Replaces the gradients of weights `p` by those of scores before scaling: `scale · p (dp − mean)`.
    pub(super) fn dscores<T: Float>(&self, p: &[T], dp: &mut [T], means: &[T], scale: T) {
        slope_rows(p, dp, &self.seen, means, scale);
    }

    fn forbid<T: Float>(&self, scores: &mut [T], value: T) {
        if !self.mask.is_per_key() {
            return;
        }
        let n = scores.len() / self.queries.len();
        for (i, (query, row)) in self.queries.clone().zip(scores.chunks_exact_mut(n)).enumerate() {
            let (start, end) = (self.seen.starts[i], self.seen.ends[i]);
            for (x, key) in row[start..end].iter_mut().zip(self.first_key + start..) {
                if !self.mask.allows_in_range(self.b, query, key) {
                    *x = value;
                }
            }
        }
    }
}

multiversion! {
    fn softmax_rows = softmax_rows_body(
        scores: &mut [T], seen: &Seen, max: &mut [T], sum: &mut [T], context: &mut [T],
    );
    fn weight_rows = weight_rows_body(scores: &mut [T], seen: &Seen, log_sums: &[T]);
    fn slope_rows = slope_rows_body(p: &[T], dp: &mut [T], seen: &Seen, means: &[T], scale: T);
    /// `out = a · x`.
    fn scaled = scaled_body(out: &mut [T], x: &[T], a: T);
    /// `out[i] = Σ a b` over rows `i` of `width`, which start `stride` elements apart.
    fn row_dots = row_dots_body(out: &mut [T], a: &[T], b: &[T], width: usize, stride: usize);
    /// [`row_dots`] with `a` rounded to bfloat16.
    fn rounded_row_dots = rounded_row_dots_body(out: &mut [T], a: &[T], b: &[T], width: usize, stride: usize);
    /// Zero if the random word is below the threshold, else `x · keep`.
    fn drop = drop_body(x: &mut [T], words: &[u32], threshold: u32, keep: T);
}

/// The visible part of row `i`; the rest of the row is set to zero.
#[inline(always)]
fn seen_part<'r, T: Float>(row: &'r mut [T], seen: &Seen, i: usize) -> &'r mut [T] {
    let (start, end) = (seen.starts[i], seen.ends[i]);
    row[..start].fill(T::default());
    row[end..].fill(T::default());
    &mut row[start..end]
}

#[inline(always)]
fn softmax_rows_body<T: Float, const FMA: bool>(
    scores: &mut [T],
    seen: &Seen,
    max: &mut [T],
    sum: &mut [T],
    context: &mut [T],
) {
    let (n, width) = (scores.len() / max.len(), context.len() / max.len());
    let rows = scores.chunks_exact_mut(n).zip(context.chunks_exact_mut(width)).zip(max).zip(sum);
    for (i, (((row, context), max), sum)) in rows.enumerate() {
        let (start, end) = (seen.starts[i], seen.ends[i]);
        // Up to a full register: e^−∞ is 0, the weight of a masked key.
        let padded = n.min(start + (end - start).next_multiple_of(LANES));
        row[..start].fill(T::default());
        row[end..padded].fill(T::NEG_INFINITY);
        row[padded..].fill(T::default());
        if let Some(shrink) = exp_step::<T, FMA>(&mut row[start..padded], max, sum) {
            for x in context.iter_mut() {
                *x *= shrink;
            }
        }
    }
}

#[inline(always)]
fn weight_rows_body<T: Float, const FMA: bool>(scores: &mut [T], seen: &Seen, log_sums: &[T]) {
    let n = scores.len() / log_sums.len();
    for (i, (row, &log_sum)) in scores.chunks_exact_mut(n).zip(log_sums).enumerate() {
        map(seen_part(row, seen, i), |x| Float::exp::<FMA>(x - log_sum));
    }
}

#[inline(always)]
fn slope_rows_body<T: Float, const FMA: bool>(p: &[T], dp: &mut [T], seen: &Seen, means: &[T], scale: T) {
    let n = p.len() / means.len();
    for (i, ((p, dp), &mean)) in p.chunks_exact(n).zip(dp.chunks_exact_mut(n)).zip(means).enumerate() {
        for (dp, &p) in seen_part(dp, seen, i).iter_mut().zip(&p[seen.starts[i]..]) {
            *dp = p * (*dp - mean) * scale;
        }
    }
}

#[inline(always)]
fn row_dots_body<T: Float, const FMA: bool>(out: &mut [T], a: &[T], b: &[T], width: usize, stride: usize) {
    for (i, out) in out.iter_mut().enumerate() {
        let at = i * stride..i * stride + width;
        *out = reduce2(&a[at.clone()], &b[at], |sum, a, b| a.fma::<FMA>(b, sum));
    }
}

#[inline(always)]
fn rounded_row_dots_body<T: Float, const FMA: bool>(
    out: &mut [T],
    a: &[T],
    b: &[T],
    width: usize,
    stride: usize,
) {
    for (i, out) in out.iter_mut().enumerate() {
        let at = i * stride..i * stride + width;
        *out = reduce2(&a[at.clone()], &b[at], |sum, a, b| rounded(a).fma::<FMA>(b, sum));
    }
}

/// Replaces scores by `exp(score − max)` and updates the running maximum and sum; returns the factor for rescaling
/// earlier sums if they need it.
#[inline(always)]
fn exp_step<T: Float, const FMA: bool>(x: &mut [T], max: &mut T, sum: &mut T) -> Option<T> {
    let block = greatest(x);
    let before = *max;
    if block > before {
        *max = block;
    }
    if *max == T::NEG_INFINITY {
        // No key is allowed yet. A NaN score compares above nothing and must still propagate.
        let poison = reduce(x, |sum, x| sum + x);
        x.fill(T::default());
        if poison.is_nan() {
            *sum = poison;
            *max = T::default();
        }
        return None;
    }
    let shift = *max;
    map(x, |x| Float::exp::<FMA>(x - shift));
    let shrink = Float::exp::<FMA>(before - shift);
    *sum = sum.fma::<FMA>(shrink, reduce(x, |sum, x| sum + x));
    (before != T::NEG_INFINITY && before != shift).then_some(shrink)
}

#[inline(always)]
fn scaled_body<T: Float, const FMA: bool>(out: &mut [T], x: &[T], a: T) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = a * x;
    }
}

#[inline(always)]
fn drop_body<T: Float, const FMA: bool>(x: &mut [T], words: &[u32], threshold: u32, keep: T) {
    for (x, &word) in x.iter_mut().zip(words) {
        *x = if word < threshold { T::default() } else { *x * keep };
    }
}

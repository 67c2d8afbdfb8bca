//! Attention on the CPU, a tile of queries against blocks of keys at a time
//! ([Dao and others 2022](https://arxiv.org/abs/2205.14135)): the scores of a tile are all that is ever held.
#![allow(unsafe_code)]

use super::reference::Sizes;
use super::tile::{self, QUERIES, Tile};
use crate::kernel::Float;
use crate::kernel::parallel::{Shared, for_ranges};
use crate::kernel::product::{View, Write, matmul, matmul_at};
use crate::kernel::scratch::scratch;
use crate::{Dropout, Mask};
use std::ops::Range;

/// Keys of a block.
const KEYS: usize = 256;

/// One attention: its sizes and rules, and how far apart positions stand in each of the slices.
///
/// Element (b, t, h, k) of the queries stands at `(b · T + t) · q_stride + h · K + k`; likewise the others.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) sizes: Sizes,
    pub(crate) q_stride: usize,
    pub(crate) kv_stride: usize,
    pub(crate) out_stride: usize,
    pub(crate) scale: f64,
    pub(crate) mask: Mask,
    pub(crate) dropout: Option<Dropout>,
}

/// One query head of one batch row.
#[derive(Clone, Copy)]
struct Place {
    b: usize,
    head: usize,
}

impl Problem {
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let t = self.sizes.t;
        (0..t).step_by(QUERIES).map(move |start| start..t.min(start + QUERIES))
    }

    /// The blocks of keys that any query of a tile may look at; ranges move on from query to query.
    fn blocks(&self, tile: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let start = self.mask.range(tile.start, self.sizes.s).start;
        let end = self.mask.range(tile.end - 1, self.sizes.s).end;
        (start..end.max(start)).step_by(KEYS).map(move |from| from..end.min(from + KEYS))
    }

    fn queries<'a, T>(&self, x: &'a [T], stride: usize, place: Place, tile: &Range<usize>) -> View<'a, T> {
        let Sizes { t, k, .. } = self.sizes;
        View::strided(&x[(place.b * t + tile.start) * stride + place.head * k..], tile.len(), k, stride)
    }

    fn keys<'a, T>(&self, x: &'a [T], place: Place, block: &Range<usize>) -> View<'a, T> {
        let Sizes { s, h, g, k, .. } = self.sizes;
        let at = (place.b * s + block.start) * self.kv_stride + place.head / (h / g) * k;
        View::strided(&x[at..], block.len(), k, self.kv_stride)
    }

    fn tile(&self, place: Place, queries: &Range<usize>, block: &Range<usize>) -> Tile<'_> {
        Tile::new(&self.mask, place.b, queries.clone(), block, self.sizes.s)
    }

    /// Drops values of a tile on a block, drawn by position: the same ones each time.
    fn drop<T: Float>(&self, place: Place, queries: &Range<usize>, block: &Range<usize>, x: &mut [T]) {
        let Some(dropout) = self.dropout.as_ref().filter(|dropout| dropout.p > 0.0) else { return };
        let (mut stream, mut words) = (dropout.row(place.b), vec![0; block.len()]);
        for (query, row) in queries.clone().zip(x.chunks_exact_mut(block.len())) {
            let position = self.mask.first_position() + query;
            Dropout::seek_weights(&mut stream, place.head, position, block.start);
            stream.fill_u32(&mut words);
            tile::drop(row, &words, dropout.threshold(), T::of(dropout.scale()));
        }
    }
}

/// Writes the contexts to `out`, and to `log_sums` [b, h, t] each query's log of the sum of exponentials (+∞ where it
/// sees nothing, so that every weight made from it is zero).
pub(crate) fn forward<T: Float>(
    problem: &Problem,
    q: &[T],
    k: &[T],
    v: &[T],
    out: &mut [T],
    log_sums: &mut [T],
) {
    let Sizes { b, t, h, k: width, .. } = problem.sizes;
    if t == 0 || width == 0 {
        log_sums.fill(T::INFINITY);
        return;
    }
    let (out, log_sums) = (Shared::new(out), Shared::new(log_sums));
    for_ranges(b * h, 1, |places| {
        let mut scores = scratch::<T>(QUERIES * KEYS.min(problem.sizes.s.max(1)));
        let mut context = scratch::<T>(QUERIES * width);
        for place in places.map(|at| Place { b: at / h, head: at % h }) {
            for tile in problem.tiles() {
                let mut max = [T::NEG_INFINITY; QUERIES];
                let mut sum = [T::default(); QUERIES];
                let context = &mut context[..tile.len() * width];
                context.fill(T::default());
                for block in problem.blocks(&tile) {
                    let scores = &mut scores[..tile.len() * block.len()];
                    let queries = problem.queries(q, problem.q_stride, place, &tile);
                    let scale = T::of(problem.scale);
                    let keys = problem.keys(k, place, &block);
                    matmul(scores, block.len(), Write::Store, scale, queries, keys.t());
                    problem.tile(place, &tile, &block).softmax_step(scores, &mut max, &mut sum, context);
                    problem.drop(place, &tile, &block, scores);
                    let weights = View::new(scores, tile.len(), block.len());
                    let values = problem.keys(v, place, &block);
                    matmul(context, width, Write::Add, T::of(1.0), weights, values);
                }
                let first = (place.b * h + place.head) * t + tile.start;
                // SAFETY: these queries of this head belong to this thread alone.
                let log_sums = unsafe { log_sums.part(first..first + tile.len()) };
                for (i, context) in context.chunks_exact(width).enumerate() {
                    let at = (place.b * t + tile.start + i) * problem.out_stride + place.head * width;
                    // SAFETY: as above.
                    let out = unsafe { out.part(at..at + width) };
                    let seen = sum[i] > T::default() || sum[i].is_nan();
                    let inverse = if seen { T::of(1.0) / sum[i] } else { T::default() };
                    tile::scaled(out, context, inverse);
                    log_sums[i] = if seen { max[i] + Float::ln(sum[i]) } else { T::INFINITY };
                }
            }
        }
    });
}

/// The slices that the backward pass writes to: all zeros when it starts, laid out as the inputs are.
pub(crate) struct Gradients<'a, T> {
    pub(crate) dq: Shared<'a, T>,
    pub(crate) dk: Shared<'a, T>,
    pub(crate) dv: Shared<'a, T>,
}

/// What the forward pass had and gave.
#[derive(Clone, Copy)]
pub(crate) struct Saved<'a, T> {
    pub(crate) q: &'a [T],
    pub(crate) k: &'a [T],
    pub(crate) v: &'a [T],
    pub(crate) out: &'a [T],
    pub(crate) log_sums: &'a [T],
}

/// Adds the gradients of queries, keys and values. With P the weights, made again from the log sums:
/// `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP − rowsum(dO · O))`, `dQ = dS K`, `dK = dSᵀ Q`.
///
/// # Safety
/// The three slices of `gradients` may overlap each other as slices, but not in the elements of the three layouts.
pub(crate) unsafe fn backward<T: Float>(
    problem: &Problem,
    saved: Saved<'_, T>,
    dout: &[T],
    gradients: &Gradients<'_, T>,
) {
    let Sizes { b, t, s, h, g, k: width } = problem.sizes;
    if t == 0 || width == 0 {
        return;
    }
    // Keys and values of a group get sums over its query heads, so a group is what a thread takes.
    for_ranges(b * g, 1, |groups| {
        let size = QUERIES * KEYS.min(s.max(1));
        let (mut weights, mut dscores) = (scratch::<T>(size), scratch::<T>(size));
        let heads =
            groups.flat_map(|at| (0..h / g).map(move |i| Place { b: at / g, head: at % g * (h / g) + i }));
        for place in heads {
            for tile in problem.tiles() {
                let queries = problem.queries(saved.q, problem.q_stride, place, &tile);
                let douts = problem.queries(dout, problem.out_stride, place, &tile);
                let at = (place.b * t + tile.start) * problem.out_stride + place.head * width;
                let mut means = [T::default(); QUERIES];
                let out = &saved.out[at..];
                tile::row_dots(&mut means[..tile.len()], &dout[at..], out, width, problem.out_stride);
                let first = (place.b * h + place.head) * t + tile.start;
                let log_sums = &saved.log_sums[first..first + tile.len()];
                for block in problem.blocks(&tile) {
                    let (n, one) = (block.len(), T::of(1.0));
                    let (keys, values) =
                        (problem.keys(saved.k, place, &block), problem.keys(saved.v, place, &block));
                    let weights = &mut weights[..tile.len() * n];
                    let dscores = &mut dscores[..tile.len() * n];
                    matmul(weights, n, Write::Store, T::of(problem.scale), queries, keys.t());
                    matmul(dscores, n, Write::Store, one, douts, values.t());
                    let rows = problem.tile(place, &tile, &block);
                    rows.weights(weights, log_sums);
                    problem.drop(place, &tile, &block, dscores);
                    rows.dscores(weights, dscores, &means[..tile.len()], T::of(problem.scale));
                    problem.drop(place, &tile, &block, weights);
                    let (p, ds) = (View::new(weights, tile.len(), n), View::new(dscores, tile.len(), n));
                    let at_query = (place.b * t + tile.start) * problem.q_stride + place.head * width;
                    let at_key =
                        (place.b * s + block.start) * problem.kv_stride + place.head / (h / g) * width;
                    let (dq, dk, dv) =
                        (gradients.dq.at(at_query), gradients.dk.at(at_key), gradients.dv.at(at_key));
                    // SAFETY: this head's queries, and this group's keys and values, belong to this thread alone;
                    // the views above have checked that the layouts lie inside slices of these sizes.
                    unsafe {
                        matmul_at(dv, problem.kv_stride, Write::Add, one, p.t(), douts);
                        matmul_at(dq, problem.q_stride, Write::Add, one, ds, keys);
                        matmul_at(dk, problem.kv_stride, Write::Add, one, ds.t(), queries);
                    }
                }
            }
        }
    });
}

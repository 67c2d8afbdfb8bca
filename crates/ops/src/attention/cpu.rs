//! Attention on the CPU, tiled as in FlashAttention: a tile of queries against one block of keys at a time
//! ([Dao and others 2022](https://arxiv.org/abs/2205.14135)); only the scores of one tile are in memory.
#![allow(unsafe_code)]

use super::pairs;
use super::problem::{Gradients, Place, Problem, Saved};
use super::reference::Sizes;
use super::tile::{self, QUERIES};
use crate::kernel::Float;
use crate::kernel::narrow::Matrix;
use crate::kernel::parallel::{Shared, for_ranges};
use crate::kernel::product::{View, Write, matmul, matmul_at};
use crate::kernel::scratch::scratch;
use std::ops::Range;

/// Keys per block.
const KEYS: usize = 256;

impl Problem {
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let t = self.sizes.t;
        (0..t).step_by(QUERIES).map(move |start| start..t.min(start + QUERIES))
    }

    /// The blocks of keys visible to a tile; visible ranges advance from query to query.
    fn blocks(&self, tile: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let start = self.mask.range(tile.start, self.sizes.s).start;
        let end = self.mask.range(tile.end - 1, self.sizes.s).end;
        (start..end.max(start)).step_by(KEYS).map(move |from| from..end.min(from + KEYS))
    }
}

/// Writes the contexts to `out`, and each query's log of the sum of exponentials to `log_sums` [b, h, t] (+∞ if it has
/// no allowed key, which makes its weights zero).
pub(crate) fn forward<T: Float>(
    problem: &Problem,
    factors: [Matrix<'_, T>; 3],
    out: &mut [T],
    log_sums: &mut [T],
) {
    let Sizes { b, t, s, h, k: width, .. } = problem.sizes;
    if t == 0 || s == 0 || width == 0 {
        out.fill(T::default());
        log_sums.fill(T::INFINITY);
        return;
    }
    let Some([q, k, v]) = problem.whole(factors) else {
        return pairs::forward(problem, factors, out, log_sums);
    };
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
                // SAFETY: these queries of this head belong to this thread alone.
                unsafe { problem.finish(place, &tile, context, (&max, &sum), (&out, &log_sums)) }
            }
        }
    });
}

/// Adds the gradients of queries, keys and values. With P the weights, recomputed from the log sums:
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
    if t == 0 || s == 0 || width == 0 {
        return;
    }
    let Some([q, k, v]) = problem.whole([saved.q, saved.k, saved.v]) else {
        // SAFETY: the caller's promise.
        return unsafe { pairs::backward(problem, saved, dout, gradients) };
    };
    // The gradients of keys and values are summed over the query heads of a group, so each thread takes complete
    // groups.
    for_ranges(b * g, 1, |groups| {
        let size = QUERIES * KEYS.min(s.max(1));
        let (mut weights, mut dscores) = (scratch::<T>(size), scratch::<T>(size));
        let heads =
            groups.flat_map(|at| (0..h / g).map(move |i| Place { b: at / g, head: at % g * (h / g) + i }));
        for place in heads {
            for tile in problem.tiles() {
                let queries = problem.queries(q, problem.q_stride, place, &tile);
                let douts = problem.queries(dout, problem.out_stride, place, &tile);
                let at = (place.b * t + tile.start) * problem.out_stride + place.head * width;
                let mut means = [T::default(); QUERIES];
                let out = &saved.out[at..];
                tile::row_dots(&mut means[..tile.len()], &dout[at..], out, width, problem.out_stride);
                let first = (place.b * h + place.head) * t + tile.start;
                let log_sums = &saved.log_sums[first..first + tile.len()];
                for block in problem.blocks(&tile) {
                    let (n, one) = (block.len(), T::of(1.0));
                    let (keys, values) = (problem.keys(k, place, &block), problem.keys(v, place, &block));
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
                    // the views above have checked that the layouts are inside slices of these sizes.
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

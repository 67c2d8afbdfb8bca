//! Attention with products in bfloat16.
//!
//! Queries, keys, values, weights and incoming gradients are rounded when packed, keys and values once for all queries
//! of their group; sums and everything between the products are float32.
#![allow(unsafe_code)]

use super::problem::{Gradients, Place, Problem, Saved};
use super::reference::Sizes;
use super::tile::{self, QUERIES};
use crate::kernel::Float;
use crate::kernel::narrow::Matrix;
use crate::kernel::parallel::{Rows, Shared, for_jobs, for_ranges, for_rows};
use crate::kernel::product::factor::{Factor, PANEL, Side, multiply, multiply_at};
use crate::kernel::product::{View, Write};
use crate::kernel::scratch::{Scratch, cleared, scratch};
use std::ops::Range;

/// Keys per block; blocks start at multiples of it.
const KEYS: usize = 256;
/// Maximum number of stripes that a group's keys are split into for the backward pass, each with its own sum of the
/// queries' gradients: a few, since the threads rarely divide the groups evenly. The count depends only on the number
/// of keys.
const STRIPES: usize = 4;
/// Minimum number of rows per thread when gradients are summed.
const GRAIN: usize = 16;

/// What a factor is packed from: the rows of a view, or its columns.
#[derive(Clone, Copy)]
enum Lines {
    Rows,
    Columns,
}

impl Lines {
    fn of<T>(self, view: View<'_, T>) -> View<'_, T> {
        match self {
            Self::Rows => view,
            Self::Columns => view.t(),
        }
    }
}

impl Problem {
    /// For each block of keys visible to a query of the tile, the visible part, starting at a panel.
    fn blocks_of_panels(&self, tile: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let s = self.sizes.s;
        let start = self.mask.range(tile.start, s).start / PANEL * PANEL;
        let end = self.mask.range(tile.end - 1, s).end;
        let first = start / KEYS;
        (first..end.div_ceil(KEYS).max(first))
            .map(move |block| start.max(block * KEYS)..end.min((block + 1) * KEYS))
            .filter(|block| !block.is_empty())
    }

    fn fill_queries<T: Float>(
        &self,
        factor: &mut Factor,
        (x, stride): (Matrix<'_, T>, usize),
        lines: Lines,
        (place, tile): (Place, &Range<usize>),
    ) {
        match x {
            Matrix::Numbers(x) => factor.fill(lines.of(self.queries(x, stride, place, tile))),
            Matrix::Halves(x) => factor.fill_halves(lines.of(self.queries(x, stride, place, tile))),
        }
    }

    /// Packs right factors per group of heads: those of `of` in order, then those of the next group.
    fn packed<T: Float>(&self, of: &[(Matrix<'_, T>, Lines)]) -> Vec<Factor> {
        let Sizes { b, s, h, g, .. } = self.sizes;
        let mut factors: Vec<Factor> = (0..b * g * of.len()).map(|_| Factor::new(Side::Right)).collect();
        for_rows(factors.len(), 1, Rows::single(&mut factors), |range, part| {
            for (at, factor) in range.zip(part.values) {
                let (group, (x, lines)) = (at / of.len(), of[at % of.len()]);
                let place = Place { b: group / g, head: group % g * (h / g) };
                match x {
                    Matrix::Numbers(x) => factor.fill(lines.of(self.keys(x, place, &(0..s)))),
                    Matrix::Halves(x) => factor.fill_halves(lines.of(self.keys(x, place, &(0..s)))),
                }
            }
        });
        factors
    }

    /// The queries of tile `number`.
    fn numbered(&self, number: usize) -> Range<usize> {
        number * QUERIES..self.sizes.t.min((number + 1) * QUERIES)
    }
}

/// A thread's buffers for the forward pass.
struct Room<T: Float> {
    queries: Factor,
    weights: Factor,
    scores: Scratch<T>,
    context: Scratch<T>,
}

/// [`super::cpu::forward`] in bfloat16; no size may be zero.
pub(super) fn forward<T: Float>(
    problem: &Problem,
    [q, k, v]: [Matrix<'_, T>; 3],
    out: &mut [T],
    log_sums: &mut [T],
) {
    let Sizes { b, t, s, h, g, k: width } = problem.sizes;
    let packed = problem.packed(&[(k, Lines::Rows), (v, Lines::Columns)]);
    let (out, log_sums) = (Shared::new(out), Shared::new(log_sums));
    let n_tiles = t.div_ceil(QUERIES);
    let room = || Room {
        queries: Factor::new(Side::Left),
        weights: Factor::new(Side::Left),
        scores: scratch::<T>(QUERIES * KEYS.min(s)),
        context: scratch::<T>(QUERIES * width),
    };
    for_jobs(b * h * n_tiles, room, |Room { queries, weights, scores, context }, job| {
        let (at, tile) = (job / n_tiles, problem.numbered(job % n_tiles));
        let place = Place { b: at / h, head: at % h };
        let group = 2 * (place.b * g + place.head / (h / g));
        let (keys, values) = (&packed[group], &packed[group + 1]);
        problem.fill_queries(queries, (q, problem.q_stride), Lines::Rows, (place, &tile));
        let mut max = [T::NEG_INFINITY; QUERIES];
        let mut sum = [T::default(); QUERIES];
        let context = &mut context[..tile.len() * width];
        context.fill(T::default());
        for block in problem.blocks_of_panels(&tile) {
            let n = block.len();
            let scores = &mut scores[..tile.len() * n];
            let scale = T::of(problem.scale);
            multiply(scores, n, Write::Store, scale, queries.all(), keys.lines(block.clone()));
            problem.tile(place, &tile, &block).softmax_step(scores, &mut max, &mut sum, context);
            problem.drop(place, &tile, &block, scores);
            weights.fill(View::new(scores, tile.len(), n));
            multiply(context, width, Write::Add, T::of(1.0), weights.all(), values.numbers(block));
        }
        // SAFETY: these queries of this head belong to this job alone.
        unsafe { problem.finish(place, &tile, context, (&max, &sum), (&out, &log_sums)) }
    });
}

/// A thread's buffers for the backward pass.
struct BackwardRoom<T: Float> {
    /// Queries and incoming gradients of a tile: by rows as left factors, by columns as right factors.
    queries: [Factor; 2],
    douts: [Factor; 2],
    /// For a tile and a block: weights by columns, gradients of scores by rows and by columns.
    weights: Factor,
    dscores: [Factor; 2],
    scores: [Scratch<T>; 2],
}

impl<T: Float> BackwardRoom<T> {
    fn new(problem: &Problem) -> Self {
        let both = || [Side::Left, Side::Right].map(Factor::new);
        let size = QUERIES * KEYS.min(problem.sizes.s);
        Self {
            queries: both(),
            douts: both(),
            weights: Factor::new(Side::Left),
            dscores: [Side::Left, Side::Left].map(Factor::new),
            scores: [(); 2].map(|()| scratch::<T>(size)),
        }
    }
}

/// The inputs and outputs of a backward pass.
struct Pass<'a, T> {
    problem: &'a Problem,
    saved: Saved<'a, T>,
    dout: &'a [T],
    gradients: &'a Gradients<'a, T>,
}

/// [`super::cpu::backward`] in bfloat16; no size may be zero.
///
/// # Safety
/// As there.
pub(super) unsafe fn backward<T: Float>(
    problem: &Problem,
    saved: Saved<'_, T>,
    dout: &[T],
    gradients: &Gradients<'_, T>,
) {
    let Sizes { b, t, s, h, g, k: width } = problem.sizes;
    let packed = problem.packed(&[(saved.k, Lines::Rows), (saved.v, Lines::Rows), (saved.k, Lines::Columns)]);
    let n_blocks = s.div_ceil(KEYS);
    let stripes = n_blocks.min(STRIPES);
    // The first stripe adds to the gradients of the queries themselves.
    let mut others = cleared::<T>((stripes - 1) * b * t * h * width);
    let shared = Shared::new(&mut others);
    let pass = Pass { problem, saved, dout, gradients };
    // With a causal mask the first stripes are the most work.
    for_jobs(
        stripes * b * g,
        || BackwardRoom::new(problem),
        |room, job| {
            let (stripe, group) = (job / (b * g), job % (b * g));
            let in_stripe = |block: &Range<usize>| block.start / KEYS * stripes / n_blocks == stripe;
            for (i, number) in
                (0..h / g).flat_map(|i| (0..t.div_ceil(QUERIES)).map(move |number| (i, number)))
            {
                let place = Place { b: group / g, head: group % g * (h / g) + i };
                let tile = problem.numbered(number);
                let mut blocks = problem.blocks_of_panels(&tile).filter(in_stripe).peekable();
                if blocks.peek().is_none() {
                    continue;
                }
                let at = place.b * t + tile.start;
                let dq = match stripe.checked_sub(1) {
                    None => (gradients.dq.at(at * problem.q_stride + place.head * width), problem.q_stride),
                    Some(other) => {
                        (shared.at((other * b * t + at) * h * width + place.head * width), h * width)
                    }
                };
                // SAFETY: the keys of this stripe of this group, and their part of the queries' gradients, belong to
                // this job alone.
                unsafe { pass.tile(room, &packed[3 * group..], (place, tile), blocks, dq) }
            }
        },
    );
    for_ranges(b * t, GRAIN, |rows| {
        for (row, other) in rows.flat_map(|row| (1..stripes).map(move |other| (row, other - 1))) {
            let at = row * problem.q_stride;
            // SAFETY: this row belongs to this thread alone.
            let dq = unsafe { gradients.dq.part(at..at + h * width) };
            let part = &others[(other * b * t + row) * h * width..][..h * width];
            dq.iter_mut().zip(part).for_each(|(dq, &part)| *dq += part);
        }
    });
}

impl<T: Float> Pass<'_, T> {
    /// Adds the contributions of a tile of queries and some blocks of keys to the gradients of both; the queries' start
    /// at `dq`, with the given stride between rows.
    ///
    /// # Safety
    /// No other thread may access these gradients.
    unsafe fn tile(
        &self,
        room: &mut BackwardRoom<T>,
        packed: &[Factor],
        (place, tile): (Place, Range<usize>),
        blocks: impl Iterator<Item = Range<usize>>,
        (dq, dq_stride): (*mut T, usize),
    ) {
        let (problem, saved) = (self.problem, &self.saved);
        let Sizes { t, s, h, g, k: width, .. } = problem.sizes;
        let BackwardRoom { queries, douts, weights, dscores, scores: [p, ds] } = room;
        let douts_at = (Matrix::Numbers(self.dout), problem.out_stride);
        for (factor, lines) in queries.iter_mut().zip([Lines::Rows, Lines::Columns]) {
            problem.fill_queries(factor, (saved.q, problem.q_stride), lines, (place, &tile));
        }
        for (factor, lines) in douts.iter_mut().zip([Lines::Rows, Lines::Columns]) {
            problem.fill_queries(factor, douts_at, lines, (place, &tile));
        }
        let at = (place.b * t + tile.start) * problem.out_stride + place.head * width;
        let mut means = [T::default(); QUERIES];
        // From the rounded incoming gradients, as in the products: then the gradients of a row of scores sum to zero.
        let (dout, out) = (&self.dout[at..], &saved.out[at..]);
        tile::rounded_row_dots(&mut means[..tile.len()], dout, out, width, problem.out_stride);
        let first = (place.b * h + place.head) * t + tile.start;
        let log_sums = &saved.log_sums[first..first + tile.len()];
        let [keys, values, keys_by_columns] = [0, 1, 2].map(|at| &packed[at]);
        let (one, scale) = (T::of(1.0), T::of(problem.scale));
        for block in blocks {
            let (n, rows) = (block.len(), problem.tile(place, &tile, &block));
            let (p, ds) = (&mut p[..tile.len() * n], &mut ds[..tile.len() * n]);
            multiply(p, n, Write::Store, scale, queries[0].all(), keys.lines(block.clone()));
            multiply(ds, n, Write::Store, one, douts[0].all(), values.lines(block.clone()));
            rows.weights(p, log_sums);
            problem.drop(place, &tile, &block, ds);
            rows.dscores(p, ds, &means[..tile.len()], scale);
            problem.drop(place, &tile, &block, p);
            let (p, ds) = (View::new(p, tile.len(), n), View::new(ds, tile.len(), n));
            weights.fill(p.t());
            dscores[0].fill(ds);
            dscores[1].fill(ds.t());
            let (stride, at) = (problem.kv_stride, (place.b * s + block.start) * problem.kv_stride);
            let at = at + place.head / (h / g) * width;
            let (dk, dv) = (self.gradients.dk.at(at), self.gradients.dv.at(at));
            // SAFETY: the caller's promise; the layouts are inside slices of these sizes, like the packed ones.
            unsafe {
                multiply_at(dv, stride, Write::Add, one, weights.all(), douts[1].all());
                multiply_at(dq, dq_stride, Write::Add, one, dscores[0].all(), keys_by_columns.numbers(block));
                multiply_at(dk, stride, Write::Add, one, dscores[1].all(), queries[1].all());
            }
        }
    }
}

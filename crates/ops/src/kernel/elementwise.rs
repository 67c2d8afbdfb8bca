//! Elementwise kernels: one pass over memory.

use super::Float;
use super::parallel::{Rows, for_blocks, for_rows, n_blocks};
use super::scratch::scratch;
use super::simd::{LANES, join, multiversion};
use crate::tree;
use std::ops::Range;

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;

/// `out += x`, on the kernel's threads.
pub(crate) fn add_to<T: Float>(out: &mut [T], x: &[T]) {
    for_rows(x.len(), GRAIN, Rows::single(out), |range, out| add_to_part(out.values, &x[range]));
}

/// `Σ x²` in float64: blocks of a fixed size are summed in order, whatever the number of threads.
pub(crate) fn sum_of_squares<T: Float>(x: &[T]) -> f64 {
    block_squares(x).iter().sum()
}

/// `Σ x²` in float64 of each block.
pub(crate) fn block_squares<T: Float>(x: &[T]) -> Vec<f64> {
    block_sums(x.len(), |range| squares_part(&x[range]))
}

/// `f` of each block of `len` elements.
pub(super) fn block_sums(len: usize, f: impl Fn(Range<usize>) -> f64 + Sync) -> Vec<f64> {
    for_blocks(&[len], [()], |block, ()| f(block.range))
}

/// The addends of a sum along the fixed tree of [`crate::tree`].
#[derive(Clone, Copy)]
pub(crate) struct Terms<'s, T> {
    /// The leaf that the sum already contains, the first present one, followed by those of the values.
    pub(crate) leaves: &'s [usize],
    pub(crate) values: &'s [&'s [T]],
    /// The number of leaves of the tree, including those without a value.
    pub(crate) n_leaves: usize,
}

/// Adds its terms to each of `sums`, and returns the sum of squares of each, its blocks in order.
pub(crate) fn sum_up<'s, T: Float>(
    sums: &mut [&mut [T]],
    terms: impl Fn(usize) -> Terms<'s, T> + Sync,
) -> Vec<f64> {
    let lens: Vec<usize> = sums.iter().map(|sum| sum.len()).collect();
    let buffers = sums.iter_mut().map(|sum| Rows::single(sum));
    let squares = for_blocks(&lens, buffers, |block, sum| {
        let Terms { leaves, values, n_leaves } = terms(block.slice);
        if let Some((&own, others)) = leaves.split_first() {
            add_tree(sum.values, own, (others, values), &block.range, 0..n_leaves);
        }
        squares_part(sum.values)
    });
    let mut rest = squares.as_slice();
    let of_each = lens.iter().map(|&len| {
        let (own, others) = rest.split_at(n_blocks(len));
        rest = others;
        own.iter().sum::<f64>()
    });
    of_each.collect()
}

/// Adds the values of the leaves in `range` to `sum`, which is the value of leaf `own`, the first present one.
fn add_tree<T: Float>(
    sum: &mut [T],
    own: usize,
    (leaves, values): (&[usize], &[&[T]]),
    block: &Range<usize>,
    range: Range<usize>,
) {
    if leaves.is_empty() {
        return;
    }
    let middle = range.start + tree::left(range.len());
    let n_left = leaves.partition_point(|&leaf| leaf < middle);
    let (left, right) = (range.start..middle, middle..range.end);
    if own >= middle {
        return add_tree(sum, own, (leaves, values), block, right);
    }
    add_tree(sum, own, (&leaves[..n_left], &values[..n_left]), block, left);
    match (&leaves[n_left..], &values[n_left..]) {
        (_, []) => {}
        (_, [one]) => add_to_part(sum, &one[block.clone()]),
        ([first, leaves @ ..], [value, values @ ..]) => {
            let mut other = scratch::<T>(sum.len());
            other.copy_from_slice(&value[block.clone()]);
            add_tree(&mut other, *first, (leaves, values), block, right);
            add_to_part(sum, &other);
        }
        ([], _) => {}
    }
}

multiversion! {
    /// `out += x`.
    fn add_to_part = add_to_body(out: &mut [T], x: &[T]);
    /// `Σ x²` in float64.
    fn squares_part = squares_body(x: &[T]) -> f64;
    /// `out[r] += bias` for each row.
    fn add_bias = add_bias_body(out: &mut [T], bias: &[T]);
    /// `out = Σ_r x[r]`, or added to it: each column's rows in order.
    fn column_sums = column_sums_body(out: &mut [T], x: &[T], width: usize, stride: usize, add: bool);
}

#[inline(always)]
fn add_to_body<T: Float, const FMA: bool>(out: &mut [T], x: &[T]) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out += x;
    }
}

#[inline(always)]
fn squares_body<T: Float, const FMA: bool>(x: &[T]) -> f64 {
    let mut lanes = [0f64; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for x in chunks {
        for lane in 0..LANES {
            let x = x[lane].to_f64();
            lanes[lane] = Float::fma::<FMA>(x, x, lanes[lane]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = Float::fma::<FMA>(x.to_f64(), x.to_f64(), *lane);
    }
    join(lanes)
}

#[inline(always)]
fn add_bias_body<T: Float, const FMA: bool>(out: &mut [T], bias: &[T]) {
    for row in out.chunks_exact_mut(bias.len().max(1)) {
        for (out, &bias) in row.iter_mut().zip(bias) {
            *out += bias;
        }
    }
}

#[inline(always)]
fn column_sums_body<T: Float, const FMA: bool>(
    out: &mut [T],
    x: &[T],
    width: usize,
    stride: usize,
    add: bool,
) {
    let out = &mut out[..width];
    if !add {
        out.fill(T::default());
    }
    for row in x.chunks(stride.max(1)) {
        for (out, &x) in out.iter_mut().zip(row) {
            *out += x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_kernel_threads;

    #[test]
    fn sums_do_not_depend_on_threads() {
        let x: Vec<f32> = (0..100_003).map(|i| ((i * 7919) % 1013) as f32 - 500.0).collect();
        let one = sum_of_squares(&x);
        assert_eq!(one, x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>());
        for threads in [2, 3, 7] {
            assert_eq!(one.to_bits(), with_kernel_threads(threads, || sum_of_squares(&x)).to_bits());
        }
    }
}

//! What attention does to one row of scores.
#![allow(unsafe_code)]

use crate::Mask;
use crate::kernel::Float;
use crate::kernel::simd::{greatest, multiversion, reduce, reduce2};
use std::ops::Range;

/// One query on one block of keys.
pub(super) struct Row<'a> {
    pub(super) mask: &'a Mask,
    pub(super) b: usize,
    pub(super) query: usize,
    pub(super) first_key: usize,
    /// The keys of the block that causality and the window leave.
    pub(super) seen: Range<usize>,
}

impl Row<'_> {
    /// Turns scores into `exp(score − max)`, with the running maximum and sum carried on; gives the factor by which
    /// what was summed before has to shrink, where it has to.
    pub(super) fn softmax_step<T: Float>(&self, scores: &mut [T], max: &mut T, sum: &mut T) -> Option<T> {
        let (before, rest) = scores.split_at_mut(self.seen.start);
        let (seen, after) = rest.split_at_mut(self.seen.len());
        before.fill(T::default());
        after.fill(T::default());
        self.forbid(seen, T::NEG_INFINITY);
        exp_step(seen, max, sum)
    }

    /// Turns scores into weights: `exp(score − log_sum)`.
    pub(super) fn weights<T: Float>(&self, scores: &mut [T], log_sum: T) {
        let (before, rest) = scores.split_at_mut(self.seen.start);
        let (seen, after) = rest.split_at_mut(self.seen.len());
        before.fill(T::default());
        after.fill(T::default());
        exp_shifted(seen, log_sum);
        self.forbid(seen, T::default());
    }

    /// Turns the gradients of weights `p` into those of scores before scaling: `scale · p (dp − mean)`.
    pub(super) fn dscores<T: Float>(&self, p: &[T], dp: &mut [T], mean: T, scale: T) {
        let (before, rest) = dp.split_at_mut(self.seen.start);
        let (seen, after) = rest.split_at_mut(self.seen.len());
        before.fill(T::default());
        after.fill(T::default());
        softmax_slope(&p[self.seen.clone()], seen, mean, scale);
    }

    fn forbid<T: Float>(&self, seen: &mut [T], value: T) {
        if self.mask.is_per_key() {
            let first = self.first_key + self.seen.start;
            for (i, x) in seen.iter_mut().enumerate() {
                if !self.mask.allows_in_range(self.b, self.query, first + i) {
                    *x = value;
                }
            }
        }
    }
}

multiversion! {
    fn exp_step = exp_step_body(x: &mut [T], max: &mut T, sum: &mut T) -> Option<T>;
    fn exp_shifted = exp_shifted_body(x: &mut [T], shift: T);
    fn softmax_slope = softmax_slope_body(p: &[T], dp: &mut [T], mean: T, scale: T);
    /// `x *= a`.
    fn scale = scale_body(x: &mut [T], a: T);
    /// `out = a · x`.
    fn scaled = scaled_body(out: &mut [T], x: &[T], a: T);
    /// `Σ a b`.
    fn dot = dot_body(a: &[T], b: &[T]) -> T;
    /// Zero where a word is below the threshold, `x · keep` elsewhere.
    fn drop = drop_body(x: &mut [T], words: &[u32], threshold: u32, keep: T);
}

#[inline(always)]
fn exp_step_body<T: Float, const FMA: bool>(x: &mut [T], max: &mut T, sum: &mut T) -> Option<T> {
    let block = greatest(x);
    let before = *max;
    if block > before {
        *max = block;
    }
    if *max == T::NEG_INFINITY {
        // Nothing is allowed yet. A NaN among the scores is above nothing, and must still be met.
        let poison = reduce(x, |sum, x| sum + x);
        x.fill(T::default());
        if poison.is_nan() {
            *sum = poison;
            *max = T::default();
        }
        return None;
    }
    let shift = *max;
    for x in x.iter_mut() {
        *x = Float::exp::<FMA>(*x - shift);
    }
    let shrink = Float::exp::<FMA>(before - shift);
    *sum = sum.fma::<FMA>(shrink, reduce(x, |sum, x| sum + x));
    (before != T::NEG_INFINITY && before != shift).then_some(shrink)
}

#[inline(always)]
fn exp_shifted_body<T: Float, const FMA: bool>(x: &mut [T], shift: T) {
    for x in x.iter_mut() {
        *x = Float::exp::<FMA>(*x - shift);
    }
}

#[inline(always)]
fn softmax_slope_body<T: Float, const FMA: bool>(p: &[T], dp: &mut [T], mean: T, scale: T) {
    for (dp, &p) in dp.iter_mut().zip(p) {
        *dp = p * (*dp - mean) * scale;
    }
}

#[inline(always)]
fn scale_body<T: Float, const FMA: bool>(x: &mut [T], a: T) {
    for x in x.iter_mut() {
        *x *= a;
    }
}

#[inline(always)]
fn scaled_body<T: Float, const FMA: bool>(out: &mut [T], x: &[T], a: T) {
    for (out, &x) in out.iter_mut().zip(x) {
        *out = a * x;
    }
}

#[inline(always)]
fn dot_body<T: Float, const FMA: bool>(a: &[T], b: &[T]) -> T {
    reduce2(a, b, |sum, a, b| a.fma::<FMA>(b, sum))
}

#[inline(always)]
fn drop_body<T: Float, const FMA: bool>(x: &mut [T], words: &[u32], threshold: u32, keep: T) {
    for (x, &word) in x.iter_mut().zip(words) {
        *x = if word < threshold { T::default() } else { *x * keep };
    }
}

//! Kernels that go over memory once, element by element.
#![allow(unsafe_code)]

use super::Float;
use super::parallel::{Shared, for_blocks, for_ranges, n_blocks};
use super::simd::{LANES, join, multiversion};
use crate::optimizer::{AdamwStep, SgdStep};

/// Elements a thread takes at least.
const GRAIN: usize = 16 * 1024;

/// `out += x`, with the kernel's threads.
pub(crate) fn add_to<T: Float>(out: &mut [T], x: &[T]) {
    let shared = Shared::new(&mut out[..x.len()]);
    for_ranges(x.len(), GRAIN, |range| {
        // SAFETY: the ranges are disjoint.
        add_to_part(unsafe { shared.part(range.clone()) }, &x[range]);
    });
}

/// `Σ x²` in float64: blocks of a fixed size are summed in their order, whatever the threads.
pub(crate) fn sum_of_squares<T: Float>(x: &[T]) -> f64 {
    let mut parts = vec![0.0; n_blocks(x.len())];
    let shared = Shared::new(&mut parts);
    for_blocks(&[x.len()], |block| {
        // SAFETY: the blocks are disjoint.
        let part = unsafe { shared.part(block.number..block.number + 1) };
        part[0] = squares_part(&x[block.range]);
    });
    parts.iter().sum()
}

/// Adds to each of `sums` its `sources`, in their order, and gives the sum of all squares: of each tensor's blocks in
/// their order, then of the tensors.
pub(crate) fn sum_up<'s, T: Float>(
    sums: &mut [&mut [T]],
    sources: impl Fn(usize) -> &'s [&'s [T]] + Sync,
) -> f64 {
    let lens: Vec<usize> = sums.iter().map(|sum| sum.len()).collect();
    let mut squares = vec![0.0; lens.iter().map(|&len| n_blocks(len)).sum()];
    let (sums, shared): (Vec<Shared<T>>, _) =
        (sums.iter_mut().map(|sum| Shared::new(sum)).collect(), Shared::new(&mut squares));
    for_blocks(&lens, |block| {
        // SAFETY: the blocks are disjoint.
        let (sum, square) = unsafe {
            (sums[block.slice].part(block.range.clone()), shared.part(block.number..block.number + 1))
        };
        for source in sources(block.slice) {
            add_to_part(sum, &source[block.range.clone()]);
        }
        square[0] = squares_part(sum);
    });
    let mut rest = squares.as_slice();
    let of_each = lens.iter().map(|&len| {
        let (own, others) = rest.split_at(n_blocks(len));
        rest = others;
        own.iter().sum::<f64>()
    });
    of_each.sum()
}

/// One AdamW step of each parameter, with its moments and its gradient.
pub(crate) fn adamw<T: Float>(
    params: &mut [&mut [T]],
    moments: &mut [&mut [T]],
    grads: &[&[T]],
    steps: &[AdamwStep],
) {
    let lens: Vec<usize> = grads.iter().map(|grad| grad.len()).collect();
    let params: Vec<Shared<T>> = params.iter_mut().map(|param| Shared::new(param)).collect();
    let (m, v) = moments.split_at_mut(grads.len());
    let m: Vec<Shared<T>> = m.iter_mut().map(|m| Shared::new(m)).collect();
    let v: Vec<Shared<T>> = v.iter_mut().map(|v| Shared::new(v)).collect();
    for_blocks(&lens, |block| {
        let (at, range) = (block.slice, block.range);
        // SAFETY: the blocks are disjoint, and the slices are those of different tensors.
        let (param, m, v) =
            unsafe { (params[at].part(range.clone()), m[at].part(range.clone()), v[at].part(range.clone())) };
        adamw_part(param, m, v, &grads[at][range], &steps[at]);
    });
}

/// One SGD step over all elements.
pub(crate) fn sgd<T: Float>(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep) {
    let (param, velocity) = (Shared::new(param), Shared::new(velocity));
    for_ranges(grad.len(), GRAIN, |range| {
        // SAFETY: the ranges are disjoint, and the three slices are different tensors.
        let (param, velocity) = unsafe { (param.part(range.clone()), velocity.part(range.clone())) };
        sgd_part(param, velocity, &grad[range], step);
    });
}

multiversion! {
    /// `out += x`.
    fn add_to_part = add_to_body(out: &mut [T], x: &[T]);
    /// `Σ x²` in float64.
    fn squares_part = squares_body(x: &[T]) -> f64;
    /// One AdamW step over all elements.
    fn adamw_part = adamw_body(param: &mut [T], m: &mut [T], v: &mut [T], grad: &[T], step: &AdamwStep);
    fn sgd_part = sgd_body(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep);
    /// `out[r] += bias` for each row.
    fn add_bias = add_bias_body(out: &mut [T], bias: &[T]);
    /// `out = Σ_r x[r]`, or added to it: each column's rows in their order.
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

#[inline(always)]
fn adamw_body<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [T],
    v: &mut [T],
    grad: &[T],
    step: &AdamwStep,
) {
    let correction1 = 1.0 - step.beta1.powf(step.step as f64);
    let correction2 = 1.0 - step.beta2.powf(step.step as f64);
    let keep = T::of(1.0 - step.lr * step.weight_decay);
    let (beta1, rest1) = (T::of(step.beta1), T::of(1.0 - step.beta1));
    let (beta2, rest2) = (T::of(step.beta2), T::of(1.0 - step.beta2));
    let (size, root, eps) = (T::of(step.lr / correction1), T::of(1.0 / correction2.sqrt()), T::of(step.eps));
    let scale = T::of(step.grad_scale);
    for (((p, m), v), &g) in param.iter_mut().zip(m).zip(v).zip(grad) {
        let g = g * scale;
        *m = beta1 * *m + rest1 * g;
        *v = beta2 * *v + rest2 * (g * g);
        *p = *p * keep - size * *m / (Float::sqrt(*v) * root + eps);
    }
}

#[inline(always)]
fn sgd_body<T: Float, const FMA: bool>(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep) {
    let (lr, momentum) = (T::of(step.lr), T::of(step.momentum));
    let (decay, scale) = (T::of(step.weight_decay), T::of(step.grad_scale));
    for ((p, u), &g) in param.iter_mut().zip(velocity).zip(grad) {
        let g = g * scale + *p * decay;
        *u = *u * momentum + g;
        let along = if step.nesterov { g + *u * momentum } else { *u };
        *p -= lr * along;
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

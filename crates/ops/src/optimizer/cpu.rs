//! Optimizer steps on the CPU: one pass over parameter, moment estimates and gradient.

use half::bf16;

use super::kept::{self, Kept};
use super::{AdamwItem, AdamwStep, Noise, Rounded, SgdStep};
use crate::kernel::float::Float;
use crate::kernel::parallel::{Rows, for_blocks, for_rows};
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut, with_mut};
use crate::kernel::simd::multiversion;
use candle_core::{Result, Tensor, Var, WithDType};

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;

/// Moment estimates and gradients in the parameters' dtype, or either of them in bfloat16.
pub(super) fn adamw<T: Float>(items: &[AdamwItem], rounded: Rounded) -> Result<()> {
    match rounded {
        Rounded { moments: false, gradients: false } => all_blocks::<T, T, T>(items, adamw_part),
        Rounded { moments: true, gradients: false } => all_blocks::<T, bf16, T>(items, adamw_half_moments),
        Rounded { moments: false, gradients: true } => all_blocks::<T, T, bf16>(items, adamw_half_gradients),
        Rounded { moments: true, gradients: true } => all_blocks::<T, bf16, bf16>(items, adamw_half_both),
    }
}

/// A kernel on a part of a parameter, its moment estimates and its gradient.
type Part<T, M, G> = fn(&mut [T], &mut [M], &mut [M], &[G], &Constants);

/// What is the same for all elements of a part.
pub(super) struct Constants<'a> {
    step: &'a AdamwStep,
    /// `1 − β₁ᵗ` and `1 − β₂ᵗ`.
    corrections: [f64; 2],
    noise: Noise,
}

/// The corrections of each item; powers take longer than a small parameter, and almost all items share theirs.
fn corrections(items: &[AdamwItem]) -> Vec<[f64; 2]> {
    let mut last: Option<(&AdamwStep, [f64; 2])> = None;
    let each = items.iter().map(|AdamwItem { step, .. }| {
        let of = |step: &AdamwStep| ([step.beta1, step.beta2], step.step);
        let found = match last {
            Some((known, found)) if of(known) == of(step) => found,
            _ => [step.beta1, step.beta2].map(|beta| 1.0 - libm::pow(beta, step.step as f64)),
        };
        last = Some((step, found));
        found
    });
    each.collect()
}

/// Runs `f` over the blocks of all parameters, on the kernel's threads.
fn all_blocks<T: Float, M: WithDType, G: WithDType>(items: &[AdamwItem], f: Part<T, M, G>) -> Result<()> {
    // Each parameter has three tensors to write to.
    for items in items.chunks(MOST_AT_ONCE / 3) {
        let params: Vec<&Tensor> = items.iter().map(|item| item.param).collect();
        let m = items.iter().map(|item| item.m.as_tensor());
        let moments: Vec<&Tensor> = m.chain(items.iter().map(|item| item.v.as_tensor())).collect();
        let grads: Vec<&Tensor> = items.iter().map(|item| item.grad).collect();
        let corrections = corrections(items);
        with_all(&grads, |grads: &[&[G]]| {
            with_all_mut(&params, |params: &mut [&mut [T]]| {
                with_all_mut(&moments, |moments: &mut [&mut [M]]| {
                    let lens: Vec<usize> = grads.iter().map(|grad| grad.len()).collect();
                    let (m, v) = moments.split_at_mut(grads.len());
                    let buffers = params.iter_mut().zip(m.iter_mut().zip(v));
                    let buffers = buffers
                        .map(|(param, (m, v))| (Rows::single(param), Rows::single(m), Rows::single(v)));
                    for_blocks(&lens, buffers, |block, (param, m, v)| {
                        let AdamwItem { step, noise: Noise { key, first }, .. } = &items[block.slice];
                        let noise = Noise { key: *key, first: first + block.range.start as u64 };
                        let grad = &grads[block.slice][block.range];
                        let corrections = corrections[block.slice];
                        f(param.values, m.values, v.values, grad, &Constants { step, corrections, noise });
                    });
                    Ok(())
                })
            })
        })?;
    }
    Ok(())
}

pub(super) fn sgd<T: Float>(param: &Tensor, velocity: &Var, grad: &Tensor, step: &SgdStep) -> Result<()> {
    with(grad, |grad: &[T]| {
        with_mut(param, |param: &mut [T]| {
            with_mut(velocity, |velocity: &mut [T]| {
                sgd_ranges(param, velocity, grad, step);
                Ok(())
            })
        })
    })
}

/// One SGD step over all elements.
fn sgd_ranges<T: Float>(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep) {
    let buffers = (Rows::single(param), Rows::single(velocity));
    for_rows(grad.len(), GRAIN, buffers, |range, (param, velocity)| {
        sgd_part(param.values, velocity.values, &grad[range], step);
    });
}

multiversion! {
    /// One AdamW step over all elements.
    fn adamw_part = adamw_plain(
        param: &mut [T], m: &mut [T], v: &mut [T], grad: &[T], constants: &Constants,
    );
    /// The same with moment estimates in bfloat16.
    fn adamw_half_moments = adamw_half_moments_body(
        param: &mut [T], m: &mut [bf16], v: &mut [bf16], grad: &[T], constants: &Constants,
    );
    /// The same with gradients in bfloat16.
    fn adamw_half_gradients = adamw_half_gradients_body(
        param: &mut [T], m: &mut [T], v: &mut [T], grad: &[bf16], constants: &Constants,
    );
    /// The same with both in bfloat16.
    fn adamw_half_both = adamw_half_both_body(
        param: &mut [T], m: &mut [bf16], v: &mut [bf16], grad: &[bf16], constants: &Constants,
    );
    /// One SGD step over all elements.
    fn sgd_part = sgd_body(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep);
}

#[inline(always)]
fn adamw_plain<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [T],
    v: &mut [T],
    grad: &[T],
    constants: &Constants,
) {
    adamw_body(param, (m, v), grad, constants);
}

#[inline(always)]
fn adamw_half_moments_body<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [bf16],
    v: &mut [bf16],
    grad: &[T],
    constants: &Constants,
) {
    adamw_body(param, (m, v), grad, constants);
}

#[inline(always)]
fn adamw_half_gradients_body<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [T],
    v: &mut [T],
    grad: &[bf16],
    constants: &Constants,
) {
    adamw_body(param, (m, v), grad, constants);
}

#[inline(always)]
fn adamw_half_both_body<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [bf16],
    v: &mut [bf16],
    grad: &[bf16],
    constants: &Constants,
) {
    adamw_body(param, (m, v), grad, constants);
}

#[inline(always)]
fn adamw_body<T: Float, M: Kept<T>, G: Kept<T>>(
    param: &mut [T],
    (m, v): (&mut [M], &mut [M]),
    grad: &[G],
    constants: &Constants,
) {
    let &Constants { step, corrections: [correction1, correction2], noise } = constants;
    let keep = T::of(1.0 - step.lr * step.weight_decay);
    let (beta1, rest1) = (T::of(step.beta1), T::of(1.0 - step.beta1));
    let (beta2, rest2) = (T::of(step.beta2), T::of(1.0 - step.beta2));
    let (size, root, eps) = (T::of(step.lr / correction1), T::of(1.0 / correction2.sqrt()), T::of(step.eps));
    let scale = T::of(step.grad_scale);
    let moments = m.iter_mut().zip(v);
    for ((index, p), ((m, v), &g)) in param.iter_mut().enumerate().zip(moments.zip(grad)) {
        let g = g.value() * scale;
        let first = beta1 * m.value() + rest1 * g;
        let second = beta2 * v.value() + rest2 * (g * g);
        *p = *p * keep - size * first / (Float::sqrt(second) * root + eps);
        let bits = if M::ROUNDED { kept::noise(noise.key, noise.first + index as u64) } else { 0 };
        (*m, *v) = (M::kept(first, bits), M::kept(second, bits >> 16));
    }
}

#[inline(always)]
fn sgd_body<T: Float, const FMA: bool>(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep) {
    let (lr, momentum) = (T::of(step.lr), T::of(step.momentum));
    let (decay, scale) = (T::of(step.weight_decay), T::of(step.grad_scale));
    for ((p, u), &g) in param.iter_mut().zip(velocity).zip(grad) {
        let g = g * scale + *p * decay;
        *u = *u * momentum + g;
        *p -= lr * *u;
    }
}

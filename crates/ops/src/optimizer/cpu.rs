//! Optimizer steps on the CPU: one pass over parameter, moments and gradient.

use super::{AdamwItem, AdamwStep, SgdStep};
use crate::kernel::float::Float;
use crate::kernel::parallel::{Rows, for_blocks, for_rows};
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut, with_mut};
use crate::kernel::simd::multiversion;
use candle_core::{Result, Tensor, Var};

/// Elements a thread takes at least.
const GRAIN: usize = 16 * 1024;

pub(super) fn adamw<T: Float>(items: &[AdamwItem]) -> Result<()> {
    // Each has three tensors to write to.
    for items in items.chunks(MOST_AT_ONCE / 3) {
        let params: Vec<&Tensor> = items.iter().map(|item| item.param).collect();
        let m = items.iter().map(|item| item.m.as_tensor());
        let moments: Vec<&Tensor> = m.chain(items.iter().map(|item| item.v.as_tensor())).collect();
        let grads: Vec<&Tensor> = items.iter().map(|item| item.grad).collect();
        let steps: Vec<AdamwStep> = items.iter().map(|item| item.step).collect();
        with_all(&grads, |grads: &[&[T]]| {
            with_all_mut(&params, |params: &mut [&mut [T]]| {
                with_all_mut(&moments, |moments: &mut [&mut [T]]| {
                    adamw_blocks(params, moments, grads, &steps);
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

/// One AdamW step of each parameter, with its moments and its gradient.
fn adamw_blocks<T: Float>(
    params: &mut [&mut [T]],
    moments: &mut [&mut [T]],
    grads: &[&[T]],
    steps: &[AdamwStep],
) {
    let lens: Vec<usize> = grads.iter().map(|grad| grad.len()).collect();
    let (m, v) = moments.split_at_mut(grads.len());
    let buffers = params.iter_mut().zip(m.iter_mut().zip(v));
    let buffers = buffers.map(|(param, (m, v))| (Rows::single(param), Rows::single(m), Rows::single(v)));
    for_blocks(&lens, buffers, |block, (param, m, v)| {
        adamw_part(param.values, m.values, v.values, &grads[block.slice][block.range], &steps[block.slice]);
    });
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
    fn adamw_part = adamw_body(param: &mut [T], m: &mut [T], v: &mut [T], grad: &[T], step: &AdamwStep);
    /// One SGD step over all elements.
    fn sgd_part = sgd_body(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep);
}

#[inline(always)]
fn adamw_body<T: Float, const FMA: bool>(
    param: &mut [T],
    m: &mut [T],
    v: &mut [T],
    grad: &[T],
    step: &AdamwStep,
) {
    let correction1 = 1.0 - libm::pow(step.beta1, step.step as f64);
    let correction2 = 1.0 - libm::pow(step.beta2, step.step as f64);
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
        *p -= lr * *u;
    }
}

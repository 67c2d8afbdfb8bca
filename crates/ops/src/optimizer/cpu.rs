//! Optimizer steps on the CPU: one pass over parameter, moments and gradient.
#![allow(unsafe_code)]

use super::{AdamwItem, AdamwStep, SgdStep};
use crate::kernel::float::Float;
use crate::kernel::parallel::{Shared, for_blocks, for_ranges};
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut, with_mut};
use crate::kernel::simd::multiversion;
use candle_core::{Result, Tensor, Var};

/// Elements a thread takes at least.
const GRAIN: usize = 16 * 1024;

pub(super) fn adamw<T: Float>(items: &[AdamwItem]) -> Result<()> {
    // Each has three tensors to write to.
    for items in items.chunks(MOST_AT_ONCE / 3) {
        let params: Vec<&Tensor> = items.iter().map(|item| item.param.as_tensor()).collect();
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

pub(super) fn sgd<T: Float>(param: &Var, velocity: &Var, grad: &Tensor, step: &SgdStep) -> Result<()> {
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
fn sgd_ranges<T: Float>(param: &mut [T], velocity: &mut [T], grad: &[T], step: &SgdStep) {
    let (param, velocity) = (Shared::new(param), Shared::new(velocity));
    for_ranges(grad.len(), GRAIN, |range| {
        // SAFETY: the ranges are disjoint, and the three slices are different tensors.
        let (param, velocity) = unsafe { (param.part(range.clone()), velocity.part(range.clone())) };
        sgd_part(param, velocity, &grad[range], step);
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
        *p -= lr * *u;
    }
}

//! Optimizer steps on the CPU: one pass over parameter, moments and gradient.

use super::{AdamwItem, AdamwStep, SgdStep};
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut, with_mut};
use crate::kernel::{Float, elementwise};
use candle_core::{Result, Tensor, Var};

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
                    elementwise::adamw(params, moments, grads, &steps);
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
                elementwise::sgd(param, velocity, grad, step);
                Ok(())
            })
        })
    })
}

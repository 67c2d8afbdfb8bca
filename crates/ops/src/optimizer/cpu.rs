//! Optimizer steps on the CPU: one pass over parameter, moments and gradient.

use super::{AdamwStep, SgdStep};
use crate::kernel::read::{with, with_mut};
use crate::kernel::{Float, elementwise};
use candle_core::{Result, Tensor, Var};

pub(super) fn adamw<T: Float>(param: &Var, m: &Var, v: &Var, grad: &Tensor, step: &AdamwStep) -> Result<()> {
    with(grad, |grad: &[T]| {
        with_mut(param, |param: &mut [T]| {
            with_mut(m, |m: &mut [T]| {
                with_mut(v, |v: &mut [T]| {
                    elementwise::adamw(param, m, v, grad, step);
                    Ok(())
                })
            })
        })
    })
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

//! Optimizer steps in plain candle operations.

use super::{AdamwStep, SgdStep};
use candle_core::{Result, Tensor, Var};

/// [`crate::adamw`].
pub fn adamw(param: &Tensor, m: &Var, v: &Var, grad: &Tensor, step: &AdamwStep) -> Result<()> {
    let grad = grad.detach().affine(step.grad_scale, 0.0)?;
    let decayed = param.detach().affine(1.0 - step.lr * step.weight_decay, 0.0)?;
    let first = (m.as_detached_tensor() * step.beta1)? + (&grad * (1.0 - step.beta1))?;
    let second = (v.as_detached_tensor() * step.beta2)? + (grad.sqr()? * (1.0 - step.beta2))?;
    let (first, second) = (first?, second?);
    let correction1 = 1.0 - step.beta1.powf(step.step as f64);
    let correction2 = 1.0 - step.beta2.powf(step.step as f64);
    let denominator = second.sqrt()?.affine(1.0 / correction2.sqrt(), step.eps)?;
    let update = (&first / denominator)?.affine(step.lr / correction1, 0.0)?;
    m.set(&first)?;
    v.set(&second)?;
    write(param, &(decayed - update)?)
}

/// [`crate::sgd`].
pub fn sgd(param: &Tensor, velocity: &Var, grad: &Tensor, step: &SgdStep) -> Result<()> {
    let value = param.detach();
    let grad = (grad.detach().affine(step.grad_scale, 0.0)? + value.affine(step.weight_decay, 0.0)?)?;
    let moved = (velocity.as_detached_tensor().affine(step.momentum, 0.0)? + &grad)?;
    velocity.set(&moved)?;
    write(param, &(value - moved.affine(step.lr, 0.0)?)?)
}

/// [`crate::average`].
pub fn average(mean: &Tensor, x: &Tensor, share: f64) -> Result<()> {
    let before = mean.detach();
    write(mean, &(&before + (x.detach() - &before)?.affine(share, 0.0)?)?)
}

/// Writes a parameter, or a part of one, in place.
fn write(param: &Tensor, value: &Tensor) -> Result<()> {
    param.flatten_all()?.slice_set(&value.flatten_all()?.contiguous()?, 0, 0)
}

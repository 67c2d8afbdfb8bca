//! Optimizer steps of one parameter, in place.

mod average;
mod cpu;
mod kept;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use average::average;

use crate::kernel::{by_dtype, fits};
use candle_core::{DType, Result, Tensor, Var, bail};

/// The hyperparameters of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// The learning rate of this step.
    pub lr: f64,
    /// The decay rate of the first moment estimate, β₁.
    pub beta1: f64,
    /// The decay rate of the second moment estimate, β₂.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// The weight decay coefficient, multiplied by the learning rate; 0 = no decay.
    pub weight_decay: f64,
    /// The step number, from 1.
    pub step: u64,
    /// The factor on the gradient: 1, or less if its norm is clipped.
    pub grad_scale: f64,
}

/// The hyperparameters of one SGD step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate of this step.
    pub lr: f64,
    /// The momentum coefficient; 0 for plain SGD.
    pub momentum: f64,
    /// The weight decay coefficient, coupled with the gradient; 0 = no decay.
    pub weight_decay: f64,
    /// The factor on the gradient: 1, or less if its norm is clipped.
    pub grad_scale: f64,
}

/// What is kept in bfloat16 while parameters have another dtype.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Rounded {
    moments: bool,
    gradients: bool,
}

/// The randomness of rounding moment estimates to bfloat16, which depends on nothing else: any split of a parameter
/// yields the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// The key, different for each parameter and each step.
    pub key: u64,
    /// The index of the first element, if the tensors are a part of a parameter.
    pub first: u64,
}

/// One AdamW step ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1711.05101), algorithm 2), in PyTorch's form:
/// `p ← p (1 − lr·wd)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.
///
/// # Gradient
/// None: parameter and moment estimates are overwritten, so never call it between a forward pass and its backward pass.
///
/// # Errors
/// Returns an error if the four tensors differ in shape or dtype.
pub fn adamw(param: &Var, m: &Var, v: &Var, grad: &Tensor, step: &AdamwStep) -> Result<()> {
    adamw_all(&[AdamwItem { param, m, v, grad, step: *step, noise: Noise::default() }])
}

/// One parameter of [`adamw_all`], with the arguments of [`adamw`].
#[derive(Clone, Copy, Debug)]
pub struct AdamwItem<'a> {
    /// The parameter, or a part of it that shares its memory.
    pub param: &'a Tensor,
    /// Its first moment estimate.
    pub m: &'a Var,
    /// Its second moment estimate.
    pub v: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The hyperparameters of the step.
    pub step: AdamwStep,
    /// The rounding of its moment estimates, if they are bfloat16.
    pub noise: Noise,
}

/// [`adamw`] for many distinct parameters: on the CPU the threads start once for all of them.
///
/// # Dtype
/// On the CPU the moment estimates, all of them, may be bfloat16 with parameters of another dtype, and so may the
/// gradients, all of them. The step is computed in the parameters' dtype from the stored moment estimates, and the new
/// ones are rounded stochastically by the item's [`Noise`].
///
/// # Errors
/// As [`adamw`]; also returns an error for bfloat16 moment estimates or gradients off the CPU.
pub fn adamw_all(items: &[AdamwItem]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let is_rounded = |x: &Tensor| x.dtype() == DType::BF16 && first.param.dtype() != DType::BF16;
    let rounded = Rounded { moments: is_rounded(first.m), gradients: is_rounded(first.grad) };
    let (of_moments, of_gradients) =
        (rounded.moments.then_some(DType::BF16), rounded.gradients.then_some(DType::BF16));
    let mut all = Vec::with_capacity(4 * items.len());
    for AdamwItem { param, m, v, grad, .. } in items {
        let (m, v) = (m.as_tensor(), v.as_tensor());
        check("adamw", param, &[("grad", grad)], of_gradients)?;
        check("adamw", param, &[("m", m), ("v", v)], of_moments)?;
        all.push(*param);
        all.extend((!rounded.gradients).then_some(*grad));
        all.extend([m, v].into_iter().filter(|_| !rounded.moments));
    }
    let are_whole = items.iter().all(|item| [item.param, item.m, item.v].iter().all(|x| x.is_contiguous()));
    if fits(&all) && are_whole {
        use cpu::adamw;
        return by_dtype!(first.param, adamw(items, rounded));
    }
    if rounded != Rounded::default() {
        bail!("adamw: bfloat16 moments and gradients need parameters in float32 or float64 on the CPU");
    }
    for AdamwItem { param, m, v, grad, step, .. } in items {
        if param.elem_count() > 0 {
            reference::adamw(param, m, v, grad, step)?;
        }
    }
    Ok(())
}

/// One SGD step, in PyTorch's form: `g ← g + wd·p`, `u ← μ u + g`, `p ← p − lr·u`.
///
/// # Gradient
/// None: parameter and velocity are overwritten, so never call it between a forward pass and its backward pass.
///
/// # Errors
/// Returns an error if the three tensors differ in shape or dtype.
pub fn sgd(param: &Tensor, velocity: &Var, grad: &Tensor, step: &SgdStep) -> Result<()> {
    check("sgd", param, &[("velocity", velocity), ("grad", grad)], None)?;
    if param.elem_count() == 0 {
        return Ok(());
    }
    if fits(&[param, velocity, grad]) && param.is_contiguous() && velocity.is_contiguous() {
        use cpu::sgd;
        by_dtype!(param, sgd(param, velocity, grad, step))
    } else {
        reference::sgd(param, velocity, grad, step)
    }
}

/// Checks that tensors have the parameter's shape, and its dtype or the one that is expected.
fn check(op: &str, param: &Tensor, others: &[(&str, &Tensor)], wanted: Option<DType>) -> Result<()> {
    let wanted = wanted.unwrap_or(param.dtype());
    for (name, other) in others {
        if other.dims() != param.dims() || other.dtype() != wanted {
            bail!(
                "{op}: {name} is {:?} {:?}, but the parameter is {:?} {:?}",
                other.dtype(),
                other.dims(),
                param.dtype(),
                param.dims()
            );
        }
    }
    Ok(())
}

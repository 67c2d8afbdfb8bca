//! Optimizer steps of one parameter, in place.

mod cpu;
mod moment;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use crate::kernel::{by_dtype, fits};
use candle_core::{DType, Result, Tensor, Var, bail};

/// The numbers of one AdamW step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamwStep {
    /// The learning rate of this step.
    pub lr: f64,
    /// How much of the first moment is kept.
    pub beta1: f64,
    /// How much of the second moment is kept.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// How much of the parameter is taken away, times the learning rate: 0 where there is no decay.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u64,
    /// The gradient is multiplied by this first: 1, or less where its norm is clipped.
    pub grad_scale: f64,
}

/// The numbers of one SGD step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The learning rate of this step.
    pub lr: f64,
    /// How much of the velocity is kept: 0 for plain SGD.
    pub momentum: f64,
    /// How much of the parameter joins its gradient: 0 where there is no decay.
    pub weight_decay: f64,
    /// The gradient is multiplied by this first: 1, or less where its norm is clipped.
    pub grad_scale: f64,
}

/// What decides how moments in bfloat16 are rounded: this alone, so the same bits come out of any cut of a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// The key, another for each parameter and each step.
    pub key: u64,
    /// The number of the first element, where the tensors are a part of a parameter.
    pub first: u64,
}

/// One AdamW step ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1711.05101), algorithm 2), in PyTorch's form:
/// `p ← p (1 − lr·wd)`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `p ← p − lr/(1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)`.
///
/// # Gradient
/// None: parameter and moments are overwritten, so never between a forward and its backward.
///
/// # Errors
/// Where the four tensors differ in shape or dtype.
pub fn adamw(param: &Var, m: &Var, v: &Var, grad: &Tensor, step: &AdamwStep) -> Result<()> {
    adamw_all(&[AdamwItem { param, m, v, grad, step: *step, noise: Noise::default() }])
}

/// One parameter of [`adamw_all`], with the arguments of [`adamw`].
#[derive(Clone, Copy, Debug)]
pub struct AdamwItem<'a> {
    /// The parameter, or a part of it that shares its memory.
    pub param: &'a Tensor,
    /// Its first moment.
    pub m: &'a Var,
    /// Its second moment.
    pub v: &'a Var,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// The numbers of the step.
    pub step: AdamwStep,
    /// How its moments are rounded, where they are bfloat16.
    pub noise: Noise,
}

/// [`adamw`] for many parameters, no two of them the same: on the CPU the threads start once for all of them.
///
/// # Dtype
/// On the CPU the moments, all of them, may be bfloat16 beside parameters and gradients of another type. The step is done
/// in the parameters' type, on moments as they were kept, and what is kept of the new ones is rounded stochastically by
/// the item's [`Noise`].
///
/// # Errors
/// Those of [`adamw`]; bfloat16 moments off the CPU.
pub fn adamw_all(items: &[AdamwItem]) -> Result<()> {
    let Some(first) = items.first() else { return Ok(()) };
    let is_rounded = first.m.dtype() == DType::BF16 && first.param.dtype() != DType::BF16;
    let (mut all, mut moments) = (Vec::with_capacity(2 * items.len()), Vec::with_capacity(2 * items.len()));
    for AdamwItem { param, m, v, grad, .. } in items {
        let (m, v) = (m.as_tensor(), v.as_tensor());
        check("adamw", param, &[("grad", grad)], None)?;
        check("adamw", param, &[("m", m), ("v", v)], is_rounded.then_some(DType::BF16))?;
        all.extend([*param, *grad]);
        moments.extend([m, v]);
    }
    let are_whole = items.iter().all(|item| [item.param, item.m, item.v].iter().all(|x| x.is_contiguous()));
    use cpu::{adamw, adamw_rounded};
    if is_rounded {
        if !fits(&all) || !are_whole {
            bail!("adamw: moments in bfloat16 are for parameters in float32 or float64 on the CPU");
        }
        return by_dtype!(first.param, adamw_rounded(items));
    }
    all.extend(moments);
    if fits(&all) && are_whole {
        return by_dtype!(first.param, adamw(items));
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
/// None: parameter and velocity are overwritten, so never between a forward and its backward.
///
/// # Errors
/// Where the three tensors differ in shape or dtype.
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

/// Checks that tensors have the parameter's shape, and its type or the one that is wanted.
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

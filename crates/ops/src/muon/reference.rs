//! Muon in plain candle operations.

use super::{MuonStep, Orthogonalizer};
use candle_core::{DType, Device, Result, Tensor, Var};

/// [`crate::orthogonalized`].
pub fn orthogonalized(x: &Tensor, how: Orthogonalizer) -> Result<Tensor> {
    let (rows, columns) = x.dims2()?;
    let x = x.detach();
    let is_tall = rows > columns;
    let x = if is_tall { x.t()?.contiguous()? } else { x };
    let squares = x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_device(&Device::Cpu)?;
    let mut x = (&x / how.divisor(squares.to_scalar::<f64>()?.sqrt()))?;
    for [a, b, c] in how.coefficients() {
        let gram = x.matmul(&x.t()?)?;
        let polynomial = ((&gram * b)? + (gram.matmul(&gram)? * c)?)?;
        x = ((&x * a)? + polynomial.matmul(&x)?)?;
    }
    if is_tall { x.t()?.contiguous() } else { Ok(x) }
}

/// [`crate::muon()`].
pub fn muon(param: &Tensor, momentum: &Var, grad: &Tensor, step: &MuonStep) -> Result<()> {
    let (rows, columns) = param.dims2()?;
    let (value, grad) = (param.detach(), grad.detach().affine(step.grad_scale, 0.0)?);
    let kept = momentum.as_detached_tensor();
    let kept = (&kept + ((&grad - &kept)? * (1.0 - step.momentum))?)?;
    momentum.set(&kept)?;
    let mixed = match step.nesterov {
        true => (&grad + ((&kept - &grad)? * step.momentum)?)?,
        false => kept,
    };
    let update = orthogonalized(&mixed, step.orthogonalizer)?;
    let decay = step.lr * step.weight_decay;
    let decayed = match step.cautious {
        true => {
            let smaller = (&update * &value)?.ge(0.0)?.to_dtype(value.dtype())?;
            (&value - ((&value * smaller)? * decay)?)?
        }
        false => value.affine(1.0 - decay, 0.0)?,
    };
    let size = step.lr * step.scaling.factor(rows, columns);
    let moved = (decayed - (update * size)?)?;
    param.flatten_all()?.slice_set(&moved.flatten_all()?.contiguous()?, 0, 0)
}

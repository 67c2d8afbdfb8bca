//! Cross-entropy in plain candle operations.

use crate::{CrossEntropyOptions, Loss};
use candle_core::{D, Result, Tensor};

/// [`crate::cross_entropy()`].
pub fn cross_entropy(logits_nv: &Tensor, targets: &[i64], options: &CrossEntropyOptions) -> Result<Loss> {
    let (n, v) = logits_nv.dims2()?;
    let count = options.count("cross_entropy", n, v, targets)?;
    if n == 0 || v == 0 {
        return Ok(Loss { sum: logits_nv.sum_all()?, count });
    }
    let counts = |target: &i64| *target != options.ignore_index;
    let device = logits_nv.device();
    let ids: Vec<u32> =
        targets.iter().map(|target| if counts(target) { *target as u32 } else { 0 }).collect();
    let weight = |target: &i64| if counts(target) { options.weight(*target) } else { 0.0 };
    let weights: Vec<f64> = targets.iter().map(weight).collect();
    let ids = Tensor::from_vec(ids, (n, 1), device)?;
    let weights = Tensor::from_vec(weights, (n, 1), device)?.to_dtype(logits_nv.dtype())?;

    let shifted = logits_nv.broadcast_sub(&logits_nv.detach().max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    let of_target = (&log_sum - shifted.contiguous()?.gather(&ids, D::Minus1)?)?;
    let per_row = if options.label_smoothing == 0.0 {
        of_target
    } else {
        let of_all = (log_sum - shifted.mean_keepdim(D::Minus1)?)?;
        (of_target.affine(1.0 - options.label_smoothing, 0.0)?
            + of_all.affine(options.label_smoothing, 0.0)?)?
    };
    Ok(Loss { sum: (per_row * weights)?.sum_all()?, count })
}

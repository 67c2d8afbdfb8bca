//! Normalization over the last dimension: LayerNorm and RMSNorm.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor};
use cpu::norm;

/// `y = (x − mean(x)) / √(var(x) + ε) · w + b` over the last dimension, with the biased variance
/// ([Ba, Kiros and Hinton 2016](https://arxiv.org/abs/1607.06450)).
///
/// # Shape
/// x `[.., d]`, weight `[d]`, bias `[d]` → `[.., d]`.
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn layer_norm(x_xd: &Tensor, weight_d: &Tensor, bias_d: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    reference::check("layer_norm", x_xd, weight_d, bias_d)?;
    if fits(&[x_xd, weight_d, bias_d.unwrap_or(weight_d)]) {
        by_dtype!(x_xd, norm(x_xd, weight_d, bias_d, eps, true))
    } else {
        reference::layer_norm(x_xd, weight_d, bias_d, eps)
    }
}

/// `y = x / √(mean(x²) + ε) · w` over the last dimension
/// ([Zhang and Sennrich 2019](https://arxiv.org/abs/1910.07467)).
///
/// # Shape
/// x `[.., d]`, weight `[d]` → `[.., d]`.
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn rms_norm(x_xd: &Tensor, weight_d: &Tensor, eps: f64) -> Result<Tensor> {
    reference::check("rms_norm", x_xd, weight_d, None)?;
    if fits(&[x_xd, weight_d]) {
        by_dtype!(x_xd, norm(x_xd, weight_d, None, eps, false))
    } else {
        reference::rms_norm(x_xd, weight_d, eps)
    }
}

//! Softmax in plain candle operations.

use candle_core::{D, Result, Tensor};

/// [`crate::softmax()`]. The maximum is detached: it cancels, and its gradient would only add noise.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let exp = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

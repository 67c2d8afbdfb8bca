//! The vocabulary head in plain candle operations.

use crate::{CrossEntropyOptions, Loss, cross_entropy, linear};
use candle_core::{Result, Tensor};

/// [`crate::lm_head()`].
pub fn lm_head(
    hidden_nd: &Tensor,
    weight_vd: &Tensor,
    bias_v: Option<&Tensor>,
    targets: &[i64],
    options: &CrossEntropyOptions,
) -> Result<Loss> {
    let logits_nv = linear::reference::linear(hidden_nd, weight_vd, bias_v)?;
    cross_entropy::reference::cross_entropy(&logits_nv, targets, options)
}

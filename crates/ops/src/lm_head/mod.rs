//! The vocabulary projection and its cross-entropy in one.

pub(crate) mod reference;

use crate::{CrossEntropyOptions, Loss};
use candle_core::{Result, Tensor};

/// `cross_entropy(linear(hidden, weight, bias), targets)` without ever holding the logits of a large vocabulary.
///
/// # Shape
/// hidden [n, d], weight [v, d], bias [v], n targets → a scalar and a count.
///
/// # Errors
/// Those of [`crate::linear()`] and [`crate::cross_entropy()`].
pub fn lm_head(
    hidden_nd: &Tensor,
    weight_vd: &Tensor,
    bias_v: Option<&Tensor>,
    targets: &[i64],
    options: &CrossEntropyOptions,
) -> Result<Loss> {
    reference::lm_head(hidden_nd, weight_vd, bias_v, targets, options)
}

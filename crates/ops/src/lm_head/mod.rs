//! The vocabulary projection and its cross-entropy in one.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use crate::{CrossEntropyOptions, Loss, linear};
use candle_core::{Result, Tensor};
use cpu::node;

/// `cross_entropy(linear(hidden, weight, bias), targets)` without materializing the logits of a large vocabulary.
///
/// # Shape
/// hidden `[n, d]`, weight `[v, d]`, bias `[v]`, n targets → a scalar and a count.
///
/// # Errors
/// As [`crate::linear()`] and [`crate::cross_entropy()`].
pub fn lm_head(
    hidden_nd: &Tensor,
    weight_vd: &Tensor,
    bias_v: Option<&Tensor>,
    targets: &[i64],
    options: &CrossEntropyOptions,
) -> Result<Loss> {
    let (n, v) = (hidden_nd.dims2()?.0, weight_vd.dims2()?.0);
    linear::reference::shapes(hidden_nd, weight_vd, bias_v)?;
    if fits(&[hidden_nd, weight_vd, bias_v.unwrap_or(weight_vd)]) && n * v > 0 {
        let count = options.count("lm_head", n, v, targets)?;
        by_dtype!(hidden_nd, node(hidden_nd, weight_vd, bias_v, targets, options, count))
    } else {
        reference::lm_head(hidden_nd, weight_vd, bias_v, targets, options)
    }
}

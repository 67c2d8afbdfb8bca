//! The linear projection, with or without a bias.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor};

/// `y = x Wᵀ + b`, the weight stored with one output a row.
///
/// # Shape
/// x `[.., i]`, weight `[o, i]`, bias `[o]` → `[.., o]`.
///
/// # Errors
/// Where the widths don't fit together.
pub fn linear(x_xi: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Result<Tensor> {
    if fits(&[x_xi, weight_oi, bias_o.unwrap_or(weight_oi)]) {
        use cpu::linear;
        by_dtype!(x_xi, linear(x_xi, weight_oi, bias_o))
    } else {
        reference::linear(x_xi, weight_oi, bias_o)
    }
}

//! The linear projection, with or without a bias.

pub(crate) mod adapted;
pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use crate::parts::Linear;
use adapted::cpu::node;
use candle_core::{Result, Tensor};

/// `y = x Wᵀ + b`, with one output per row of the weight.
///
/// # Shape
/// x `[.., i]`, weight `[o, i]`, bias `[o]` → `[.., o]`.
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn linear(x_xi: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Result<Tensor> {
    reference::shapes(x_xi, weight_oi, bias_o)?;
    let projection = Linear { weight: weight_oi, bias: bias_o, adapter: None };
    let mut inputs = vec![x_xi];
    inputs.extend(projection.inputs());
    if fits(&inputs) {
        by_dtype!(x_xi, node(x_xi, projection, None, &inputs))
    } else {
        reference::linear(x_xi, weight_oi, bias_o)
    }
}

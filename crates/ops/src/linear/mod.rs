//! The linear projection, with or without a bias.

pub(crate) mod reference;

use candle_core::{Result, Tensor};

/// `y = x Wᵀ + b`, the weight stored with one output a row.
///
/// # Shape
/// x [.., i], weight [o, i], bias [o] → [.., o].
///
/// # Errors
/// Where the widths don't fit together.
pub fn linear(x_xi: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Result<Tensor> {
    reference::linear(x_xi, weight_oi, bias_o)
}

//! Softmax over the last dimension.

pub(crate) mod reference;

use candle_core::{Result, Tensor};

/// `y_c = exp(x_c − max) / Σ exp(x − max)` over the last dimension.
///
/// # Shape
/// [.., n] → [.., n].
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    reference::softmax(x)
}

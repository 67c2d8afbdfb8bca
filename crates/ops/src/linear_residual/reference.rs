//! The output projection of a sublayer in plain candle operations.

use crate::dropout::Dropout;
use crate::parts::Linear;
use crate::sublayer::add_reference;
use candle_core::{Result, Tensor};

/// [`crate::linear_residual()`].
pub fn linear_residual(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    add_reference(x, projection.reference(inner, None)?, dropout)
}

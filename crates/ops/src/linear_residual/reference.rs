//! The end of a sublayer in plain candle operations.

use crate::parts::add_reference;
use crate::{Dropout, Projection};
use candle_core::{Result, Tensor};

/// [`crate::linear_residual()`].
pub fn linear_residual(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Projection,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    add_reference(x, projection.reference(inner)?, dropout)
}

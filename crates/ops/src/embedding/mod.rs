//! Table lookup.

pub(crate) mod reference;

use candle_core::{Result, Tensor};

/// Row `id` of the table for each id.
///
/// # Shape
/// ids u32 [..], weight [v, d] → [.., d].
///
/// # Gradient
/// A row gets the sum over its uses; a row without a use gets zero.
///
/// # Errors
/// Where an id is outside the table.
pub fn embedding(ids: &Tensor, weight_vd: &Tensor) -> Result<Tensor> {
    reference::embedding(ids, weight_vd)
}

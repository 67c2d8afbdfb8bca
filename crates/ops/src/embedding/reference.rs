//! Table lookup in plain candle operations.

use candle_core::{Result, Tensor};

/// [`crate::embedding()`].
pub fn embedding(ids: &Tensor, weight_vd: &Tensor) -> Result<Tensor> {
    let mut shape = ids.dims().to_vec();
    shape.push(weight_vd.dims2()?.1);
    weight_vd.contiguous()?.index_select(&ids.flatten_all()?, 0)?.reshape(shape)
}

//! Table lookup in plain candle operations.

use candle_core::{Result, Tensor, bail};

/// [`crate::embedding()`].
pub fn embedding(ids: &Tensor, weight_vd: &Tensor) -> Result<Tensor> {
    let mut shape = ids.dims().to_vec();
    shape.push(weight_vd.dims2()?.1);
    weight_vd.contiguous()?.index_select(&ids.flatten_all()?, 0)?.reshape(shape)
}

/// [`crate::embedding_sum`].
pub fn embedding_sum(tables: &[(&Tensor, &Tensor)]) -> Result<Tensor> {
    let Some(((ids, weight), others)) = tables.split_first() else { bail!("embedding: no table") };
    others
        .iter()
        .try_fold(embedding(ids, weight)?, |sum, (ids, weight)| sum.broadcast_add(&embedding(ids, weight)?))
}

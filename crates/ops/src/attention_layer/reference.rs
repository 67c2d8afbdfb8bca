//! The attention sublayer in plain candle operations.

use super::AttentionLayer;
use crate::attention::reference::attention;
use crate::parts::Linear;
use crate::rotary::reference::rotary;
use crate::sublayer::add_reference;
use candle_core::{Result, Tensor};

/// [`crate::attention_layer()`].
pub fn attention_layer(x_btd: &Tensor, parts: &AttentionLayer) -> Result<Tensor> {
    let (b, t, _) = x_btd.dims3()?;
    let normed = parts.norm.map_or_else(|| Ok(x_btd.clone()), |norm| norm.reference(x_btd))?;
    let heads = |projection: Linear<&Tensor>| -> Result<Tensor> {
        let wide = projection.reference(&normed)?;
        let h = wide.dim(2)? / parts.d_head;
        wide.reshape((b, t, h, parts.d_head))
    };
    let (mut q, mut k, v) = (heads(parts.query)?, heads(parts.key)?, heads(parts.value)?);
    if let Some(tables) = parts.rotary {
        q = rotary(&q, tables.cos, tables.sin, tables.positions)?;
        k = rotary(&k, tables.cos, tables.sin, tables.positions)?;
    }
    let context = attention(&q, &k, &v, &parts.attention)?.flatten_from(2)?;
    let y = parts.output.map_or_else(|| Ok(context.clone()), |output| output.reference(&context))?;
    add_reference(parts.residual.then_some(x_btd), y, parts.dropout)
}

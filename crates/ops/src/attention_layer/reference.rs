//! The attention sublayer in plain candle operations.

use super::AttentionLayer;
use crate::attention::reference::attention;
use crate::biased_attention::reference::biased_attention;
use crate::parts::{Linear, Norm};
use crate::rotary::reference::rotary;
use crate::sublayer::add_reference;
use candle_core::{Result, Tensor};

/// [`crate::attention_layer()`].
pub fn attention_layer(x_btd: &Tensor, parts: &AttentionLayer) -> Result<Tensor> {
    let (b, t, _) = x_btd.dims3()?;
    let normed = parts.norm.map_or_else(|| Ok(x_btd.clone()), |norm| norm.reference(x_btd))?;
    let heads = |projection: Linear<&Tensor>, norm: Option<Norm<&Tensor>>| -> Result<Tensor> {
        let wide = projection.reference(&normed, parts.adapter_dropout)?;
        let cut = (b, t, wide.dim(2)? / parts.d_head, parts.d_head);
        match norm {
            // Per head, or over all heads.
            Some(norm) if norm.width()? == parts.d_head => norm.reference(&wide.reshape(cut)?),
            Some(norm) => norm.reference(&wide)?.reshape(cut),
            None => wide.reshape(cut),
        }
    };
    let (mut q, mut k, mut v) =
        (heads(parts.query, parts.query_norm)?, heads(parts.key, parts.key_norm)?, heads(parts.value, None)?);
    if let Some(added) = parts.added_values {
        v = (&v + added.reshape(v.shape())?)?;
    }
    if let Some(tables) = parts.rotary {
        q = rotary(&q, tables.cos, tables.sin, tables.positions)?;
        k = rotary(&k, tables.cos, tables.sin, tables.positions)?;
    }
    let context = match parts.bias {
        Some(bias) => biased_attention(&q, &k, &v, bias, &parts.attention)?.context_bthk,
        None => attention(&q, &k, &v, &parts.attention)?,
    };
    let context = context.flatten_from(2)?;
    let y = match parts.output {
        Some(output) => output.reference(&context, parts.adapter_dropout)?,
        None => context,
    };
    add_reference(parts.residual.then_some(x_btd), y, parts.dropout)
}

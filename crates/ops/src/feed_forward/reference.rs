//! The feed-forward sublayer in plain candle operations.

use super::FeedForward;
use crate::sublayer::add_reference;
use candle_core::{Result, Tensor};

/// [`crate::feed_forward()`].
pub fn feed_forward(x_xd: &Tensor, parts: &FeedForward) -> Result<Tensor> {
    let normed = parts.norm.map_or_else(|| Ok(x_xd.clone()), |norm| norm.reference(x_xd))?;
    let of_adapters = parts.adapter_dropout;
    let up = parts.up.reference(&normed, of_adapters)?;
    let inner = match parts.gate {
        Some(gate) => (parts.activation.reference(&gate.reference(&normed, of_adapters)?)? * up)?,
        None => parts.activation.reference(&up)?,
    };
    let y = parts.down.reference(&inner, of_adapters)?;
    add_reference(parts.residual.then_some(x_xd), y, parts.dropout)
}

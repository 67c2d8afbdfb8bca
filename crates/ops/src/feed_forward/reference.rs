//! The feed-forward sublayer in plain candle operations.

use super::FeedForward;
use crate::sublayer::add_reference;
use candle_core::{Result, Tensor};

/// [`crate::feed_forward()`].
pub fn feed_forward(x_xd: &Tensor, parts: &FeedForward) -> Result<Tensor> {
    let normed = parts.norm.map_or_else(|| Ok(x_xd.clone()), |norm| norm.reference(x_xd))?;
    let up = parts.up.reference(&normed)?;
    let inner = match parts.gate {
        Some(gate) => (parts.activation.reference(&gate.reference(&normed)?)? * up)?,
        None => parts.activation.reference(&up)?,
    };
    add_reference(parts.residual.then_some(x_xd), parts.down.reference(&inner)?, parts.dropout)
}

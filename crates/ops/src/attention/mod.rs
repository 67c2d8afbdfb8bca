//! Scaled dot-product attention with its mask, and a variant that also returns scores and weights.

pub(crate) mod cpu;
pub(crate) mod mask;
mod node;
mod pairs;
pub(crate) mod problem;
pub(crate) mod reference;
mod tile;

use crate::kernel::{by_dtype, fits};
use crate::{Dropout, Mask};
use candle_core::{Result, Tensor};
use node::node;

/// Arguments of [`attention`] besides queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionOptions<'a> {
    /// The scale of the scores, usually 1/√k.
    pub scale: f64,
    /// Which keys a query may attend to.
    pub mask: &'a Mask,
    /// Dropout of the weights, during training.
    pub dropout: Option<&'a Dropout>,
}

/// Scores, weights and contexts of an attention.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// `scale · q kᵀ`, before the mask: [b, h, t, s].
    pub scores_bhts: Tensor,
    /// The weights after mask and softmax, before dropout; each row sums to 1, or is zero if the mask
    /// excludes every key: [b, h, t, s].
    pub weights_bhts: Tensor,
    /// The weighted sums of values: [b, t, h, k].
    pub context_bthk: Tensor,
}

/// `softmax(scale · q kᵀ + mask) v` for each head
/// ([Vaswani and others 2017](https://arxiv.org/abs/1706.03762), equation 1), with grouped key/value heads
/// ([Ainslie and others 2023](https://arxiv.org/abs/2305.13245)): head `i` uses key/value head `i / (h/g)`.
///
/// A query with no allowed key gets zeros, and zero gradients. Under [`crate::threads::with_precision`] in bfloat16 the
/// factors of all products are rounded: q, k, v and the weights before normalization, and in the backward pass the
/// incoming gradients and those of the scores.
///
/// # Shape
/// q [b, t, h, k], k and v [b, s, g, k] with h a multiple of g → [b, t, h, k].
///
/// # Errors
/// Returns an error if shapes or the mask don't match.
pub fn attention(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    options: &AttentionOptions,
) -> Result<Tensor> {
    if fits(&[q_bthk, k_bsgk, v_bsgk]) {
        by_dtype!(q_bthk, node(q_bthk, k_bsgk, v_bsgk, options))
    } else {
        reference::attention(q_bthk, k_bsgk, v_bsgk, options)
    }
}

/// Computes [`attention`] and returns all scores and weights as well.
///
/// The context is bit-identical to that of [`attention`]; the weights differ from those inside it only by rounding.
///
/// # Errors
/// As [`attention`].
pub fn attention_pattern(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    options: &AttentionOptions,
) -> Result<Pattern> {
    let pattern = reference::attention_pattern(q_bthk, k_bsgk, v_bsgk, options)?;
    if fits(&[q_bthk, k_bsgk, v_bsgk]) {
        return Ok(Pattern { context_bthk: attention(q_bthk, k_bsgk, v_bsgk, options)?, ..pattern });
    }
    Ok(pattern)
}

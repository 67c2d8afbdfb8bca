//! Scaled dot-product attention, with its mask, and the pattern for who wants to see it.

pub(crate) mod cpu;
pub(crate) mod mask;
mod node;
pub(crate) mod reference;
mod tile;

use crate::kernel::{by_dtype, fits};
use crate::{Dropout, Mask};
use candle_core::{Result, Tensor};
use node::node;

/// What [`attention`] needs beside queries, keys and values.
#[derive(Clone, Copy, Debug)]
pub struct AttentionOptions<'a> {
    /// The scores are multiplied by this: 1/√k as a rule.
    pub scale: f64,
    /// Which key a query may look at.
    pub mask: &'a Mask,
    /// Dropout of the weights, in training.
    pub dropout: Option<&'a Dropout>,
}

/// What attention did, for all to see.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// `scale · q kᵀ`, before the mask: [b, h, t, s].
    pub scores_bhts: Tensor,
    /// The weights after mask and softmax, before dropout; each row sums to 1, or is zero where the mask forbids
    /// every key: [b, h, t, s].
    pub weights_bhts: Tensor,
    /// The weighted sums of values: [b, t, h, k].
    pub context_bthk: Tensor,
}

/// `softmax(scale · q kᵀ + mask) v` for each head
/// ([Vaswani and others 2017](https://arxiv.org/abs/1706.03762), equation 1), with grouped key/value heads
/// ([Ainslie and others 2023](https://arxiv.org/abs/2305.13245)): head `i` uses key/value head `i / (h/g)`.
///
/// A query that may look at nothing gets zeros, and zero gradients.
///
/// # Shape
/// q [b, t, h, k], k and v [b, s, g, k] with h a multiple of g → [b, t, h, k].
///
/// # Errors
/// Where shapes or the mask don't fit together.
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

/// [`attention`] with its scores and weights held whole.
///
/// The context is that of [`attention`], to the bit; the weights differ from those inside it by rounding alone.
///
/// # Errors
/// Those of [`attention`].
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

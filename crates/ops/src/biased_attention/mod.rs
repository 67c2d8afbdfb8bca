//! Attention with a bias added to each score, for learned relative positions.

pub(crate) mod reference;

use crate::attention::{AttentionOptions, Pattern};
use candle_core::{Result, Tensor};

/// `softmax(scale · q kᵀ + bias + mask) v` for each head, as [`crate::attention()`] with a bias on the scores
/// ([Raffel and others 2020](https://arxiv.org/abs/1910.10683), section 2.1).
///
/// Scores and weights are materialized: a learned bias needs the gradient of every score.
///
/// # Shape
/// q [b, t, h, k], k and v [b, s, g, k] with h a multiple of g, bias [h, t, s] → scores (with the bias) and weights
/// [b, h, t, s], context [b, t, h, k].
///
/// # Gradient
/// For queries, keys, values and the bias.
///
/// # Errors
/// Returns an error if the shapes or the mask don't match.
pub fn biased_attention(
    q_bthk: &Tensor,
    k_bsgk: &Tensor,
    v_bsgk: &Tensor,
    bias_hts: &Tensor,
    options: &AttentionOptions,
) -> Result<Pattern> {
    reference::pattern(q_bthk, k_bsgk, v_bsgk, bias_hts, options, crate::softmax)
}

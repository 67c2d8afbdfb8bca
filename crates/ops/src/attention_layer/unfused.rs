//! The attention sublayer operation by operation, for who looks inside it or brings keys and values from a cache.

use candle_core::{Result, Tensor};

use super::AttentionLayer;
use crate::attention::{attention, attention_pattern};
use crate::biased_attention::biased_attention;
use crate::dropout::dropout;
use crate::linear_residual::linear_residual;
use crate::parts::{Linear, Norm};
use crate::rotary::rotary;

/// A value inside an attention sublayer.
///
/// Legend: b rows, t query positions, s key positions, h query heads, g key/value heads, k head width, d model width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionPart {
    /// What the projections read: x, through the norm where it stands before: `[b, t, d]`.
    Input,
    /// Queries, before their norm, where they have one: `[b, t, h, k]`.
    UnnormedQuery,
    /// Keys, before their norm, where they have one: `[b, t, g, k]`.
    UnnormedKey,
    /// Queries, before rotation, where they are rotated: `[b, t, h, k]`.
    UnturnedQuery,
    /// Keys, before rotation, where they are rotated: `[b, t, g, k]`.
    UnturnedKey,
    /// Queries, after rotation: `[b, t, h, k]`.
    Query,
    /// Keys, after rotation: `[b, s, g, k]`.
    Key,
    /// Values: `[b, s, g, k]`.
    Value,
    /// q·k · scale, with the bias where there is one, before the mask: `[b, h, t, s]`.
    Scores,
    /// Attention weights after mask and softmax: `[b, h, t, s]`.
    Weights,
    /// Context vectors, the weighted sums of values: `[b, t, h, k]`.
    Context,
    /// What the sublayer adds to the stream, before dropout: `[b, t, d]`.
    Output,
}

impl AttentionPart {
    /// All of them, in the order in which they are computed.
    pub const ALL: [Self; 12] = [
        Self::Input,
        Self::UnnormedQuery,
        Self::UnnormedKey,
        Self::UnturnedQuery,
        Self::UnturnedKey,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Scores,
        Self::Weights,
        Self::Context,
        Self::Output,
    ];
}

/// What takes part in an attention sublayer from outside: it sees the values in between, and may put keys and values of
/// earlier tokens before those of the new ones.
pub trait Inside {
    /// Whether the value of `part` is wanted; what is not wanted is not computed where it can be left out.
    fn wants(&self, part: AttentionPart) -> bool;

    /// Takes the value of `part`, a tensor of the running model itself.
    fn record(&mut self, part: AttentionPart, value: &Tensor);

    /// All keys and values that the queries may look at, given those of the new tokens.
    ///
    /// # Errors
    /// Returns an error if earlier keys and values don't go with the new ones.
    fn keys_and_values(&mut self, key: Tensor, value: Tensor) -> Result<(Tensor, Tensor)> {
        Ok((key, value))
    }
}

/// Wants to see nothing.
pub(super) struct Unwatched;

impl Inside for Unwatched {
    fn wants(&self, _: AttentionPart) -> bool {
        false
    }

    fn record(&mut self, _: AttentionPart, _: &Tensor) {}
}

/// [`crate::attention_layer()`] operation by operation, to the bit, with `inside` taking part.
///
/// # Shape
/// x `[b, t, d]` → `[b, t, d]`, or `[b, t, h·k]` without an output projection.
///
/// # Errors
/// Returns an error if widths, heads, tables or the mask don't fit together.
pub fn attention_layer_unfused(
    x_btd: &Tensor,
    parts: &AttentionLayer,
    inside: &mut dyn Inside,
) -> Result<Tensor> {
    let (b, t, _) = x_btd.dims3()?;
    let normed = parts.norm.map_or_else(|| Ok(x_btd.clone()), |norm| norm.apply(x_btd))?;
    show(inside, AttentionPart::Input, &normed);
    let cut = |wide: Tensor| {
        let n_head = wide.dim(2)? / parts.d_head;
        wide.reshape((b, t, n_head, parts.d_head))
    };
    let mut heads = |projection: Linear<&Tensor>, norm: Option<Norm<&Tensor>>, part: AttentionPart| {
        let wide = projection.apply(&normed)?;
        let Some(norm) = norm else { return cut(wide) };
        let before = cut(wide.clone())?;
        show(inside, part, &before);
        // Of each head, or of all of them.
        if norm.width()? == parts.d_head { norm.apply(&before) } else { cut(norm.apply(&wide)?) }
    };
    let mut q_bthk = heads(parts.query, parts.query_norm, AttentionPart::UnnormedQuery)?;
    let mut k_bsgk = heads(parts.key, parts.key_norm, AttentionPart::UnnormedKey)?;
    let mut v_bsgk = cut(parts.value.apply(&normed)?)?;
    if let Some(tables) = parts.rotary {
        show(inside, AttentionPart::UnturnedQuery, &q_bthk);
        show(inside, AttentionPart::UnturnedKey, &k_bsgk);
        q_bthk = rotary(&q_bthk, tables.cos, tables.sin, tables.positions)?;
        k_bsgk = rotary(&k_bsgk, tables.cos, tables.sin, tables.positions)?;
    }
    (k_bsgk, v_bsgk) = inside.keys_and_values(k_bsgk, v_bsgk)?;
    show(inside, AttentionPart::Query, &q_bthk);
    show(inside, AttentionPart::Key, &k_bsgk);
    show(inside, AttentionPart::Value, &v_bsgk);
    let held = inside.wants(AttentionPart::Scores) || inside.wants(AttentionPart::Weights);
    let context_bthk = if held || parts.bias.is_some() {
        let pattern = match parts.bias {
            Some(bias) => biased_attention(&q_bthk, &k_bsgk, &v_bsgk, bias, &parts.attention)?,
            None => attention_pattern(&q_bthk, &k_bsgk, &v_bsgk, &parts.attention)?,
        };
        show(inside, AttentionPart::Scores, &pattern.scores_bhts);
        show(inside, AttentionPart::Weights, &pattern.weights_bhts);
        pattern.context_bthk
    } else {
        attention(&q_bthk, &k_bsgk, &v_bsgk, &parts.attention)?
    };
    show(inside, AttentionPart::Context, &context_bthk);
    let context_btd = context_bthk.flatten_from(2)?;
    let residual = parts.residual.then_some(x_btd);
    let Some(output) = parts.output else {
        show(inside, AttentionPart::Output, &context_btd);
        let y = parts.dropout.map_or_else(|| Ok(context_btd.clone()), |rule| dropout(&context_btd, rule))?;
        return residual.map_or(Ok(y.clone()), |x| x + y);
    };
    if inside.wants(AttentionPart::Output) {
        inside.record(AttentionPart::Output, &output.apply(&context_btd)?);
    }
    linear_residual(residual, &context_btd, output, parts.dropout)
}

fn show(inside: &mut dyn Inside, part: AttentionPart, value: &Tensor) {
    if inside.wants(part) {
        inside.record(part, value);
    }
}

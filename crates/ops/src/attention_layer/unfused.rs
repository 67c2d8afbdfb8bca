//! The unfused attention sublayer, for probing and for cached keys and values.

use candle_core::{Result, Tensor};

use super::AttentionLayer;
use crate::attention::{attention, attention_pattern};
use crate::biased_attention::biased_attention;
use crate::dropout::dropout;
use crate::linear::adapted::adapted_linear;
use crate::linear_residual::adapted_linear_residual;
use crate::parts::{Linear, Norm};
use crate::rotary::rotary;
use crate::stored::stored;

/// A value inside an attention sublayer.
///
/// Legend: b rows, t query positions, s key positions, h query heads, g key/value heads, k head width, d model width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AttentionPart {
    /// Input of the projections: x, after the norm if it comes first: `[b, t, d]`.
    Input,
    /// Queries before their norm, if any: `[b, t, h, k]`.
    UnnormedQuery,
    /// Keys before their norm, if any: `[b, t, g, k]`.
    UnnormedKey,
    /// Queries before rotation, if any: `[b, t, h, k]`.
    UnrotatedQuery,
    /// Keys before rotation, if any: `[b, t, g, k]`.
    UnrotatedKey,
    /// Queries after rotation: `[b, t, h, k]`.
    Query,
    /// Keys after rotation: `[b, s, g, k]`.
    Key,
    /// Values: `[b, s, g, k]`.
    Value,
    /// q·k · scale, plus the bias if any, before the mask: `[b, h, t, s]`.
    Scores,
    /// Attention weights after mask and softmax: `[b, h, t, s]`.
    Weights,
    /// Context vectors, the weighted sums of values: `[b, t, h, k]`.
    Context,
    /// What the sublayer adds to the residual stream, before dropout: `[b, t, d]`.
    Output,
}

impl AttentionPart {
    /// All parts, in order of computation.
    pub const ALL: [Self; 12] = [
        Self::Input,
        Self::UnnormedQuery,
        Self::UnnormedKey,
        Self::UnrotatedQuery,
        Self::UnrotatedKey,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Scores,
        Self::Weights,
        Self::Context,
        Self::Output,
    ];
}

/// Observes the intermediate values of an attention sublayer, and may prepend cached keys and values.
pub trait Inside {
    /// Whether to record `part`; an unrecorded part is not computed if it can be skipped.
    fn wants(&self, part: AttentionPart) -> bool;

    /// Receives the value of `part`, the very tensor that the model uses.
    fn record(&mut self, part: AttentionPart, value: &Tensor);

    /// Returns all keys and values that the queries may attend to, given those of the new tokens.
    ///
    /// # Errors
    /// Returns an error if the cached keys and values don't match the new ones.
    fn keys_and_values(&mut self, key: Tensor, value: Tensor) -> Result<(Tensor, Tensor)> {
        Ok((key, value))
    }
}

/// Records nothing.
pub(super) struct Unwatched;

impl Inside for Unwatched {
    fn wants(&self, _: AttentionPart) -> bool {
        false
    }

    fn record(&mut self, _: AttentionPart, _: &Tensor) {}
}

/// Computes [`crate::attention_layer()`] unfused, bit for bit the same, with `inside` as observer.
///
/// # Shape
/// x `[b, t, d]` → `[b, t, d]`, or `[b, t, h·k]` without an output projection.
///
/// # Errors
/// Returns an error if widths, heads, tables or the mask don't match.
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
        let wide = adapted_linear(&normed, projection, parts.adapter_dropout)?;
        let Some(norm) = norm else { return cut(wide) };
        let before = cut(wide.clone())?;
        show(inside, part, &before);
        // Per head, or over all heads.
        if norm.width()? == parts.d_head { norm.apply(&before) } else { cut(norm.apply(&wide)?) }
    };
    let mut q_bthk = heads(parts.query, parts.query_norm, AttentionPart::UnnormedQuery)?;
    let mut k_bsgk = heads(parts.key, parts.key_norm, AttentionPart::UnnormedKey)?;
    let mut v_bsd = adapted_linear(&normed, parts.value, parts.adapter_dropout)?;
    if let Some(added) = parts.added_values {
        v_bsd = (v_bsd + added)?;
    }
    let mut v_bsgk = cut(v_bsd)?;
    if let Some(tables) = parts.rotary {
        show(inside, AttentionPart::UnrotatedQuery, &q_bthk);
        show(inside, AttentionPart::UnrotatedKey, &k_bsgk);
        q_bthk = rotary(&q_bthk, tables.cos, tables.sin, tables.positions)?;
        k_bsgk = rotary(&k_bsgk, tables.cos, tables.sin, tables.positions)?;
    }
    (q_bthk, k_bsgk, v_bsgk) = (stored(&q_bthk)?, stored(&k_bsgk)?, stored(&v_bsgk)?);
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
    let context_bthk = stored(&context_bthk)?;
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
    adapted_linear_residual(residual, &context_btd, output, parts.dropout, parts.adapter_dropout)
}

fn show(inside: &mut dyn Inside, part: AttentionPart, value: &Tensor) {
    if inside.wants(part) {
        inside.record(part, value);
    }
}

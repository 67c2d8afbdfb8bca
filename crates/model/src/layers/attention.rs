//! The attention sublayer: queries, keys, values, and the weighted sums of values.

use candle_core::{Result, Tensor};
use vulpes_ops::{
    AttentionLayer, AttentionOptions, AttentionPart, Inside, Linear, attention_layer,
    attention_layer_unfused, embedding,
};

use super::context::Context;
use super::describe::{Describe, Projection};
use super::norm::{Norm, made};
use super::residual::Residual;
use crate::config::{BlockKind, QkNorm};
use crate::pass::{Pass, record_with};
use crate::probe::Site;
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};

/// `softmax(q kᵀ · scale + mask) v` over heads, then the output projection
/// ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), eq. 1 and sec. 3.2.2).
#[derive(Clone, Debug)]
pub struct Attention<P> {
    /// The block's index, from 0.
    pub layer: usize,
    /// Norms, addition and dropout around it.
    pub residual: Residual<P>,
    /// The projection to the query heads, `[h·k, d]`.
    pub query: Linear<P>,
    /// The projection to the key heads, `[g·k, d]`.
    pub key: Linear<P>,
    /// The projection to the value heads, `[g·k, d]`.
    pub value: Linear<P>,
    /// The projection from the heads' context vectors to the residual stream, `[d, h·k]`; a bare block has none.
    pub output: Option<Linear<P>>,
    /// The norm of queries before they are rotated, `[k]` or `[h·k]`.
    pub query_norm: Option<Norm<P>>,
    /// The norm of keys, `[k]` or `[g·k]`.
    pub key_norm: Option<Norm<P>>,
    /// The vectors that are added to the tokens' values, `[v, g·k]`.
    pub value_embedding: Option<P>,
    /// The width of a head, k.
    pub d_head: usize,
    /// The number of query heads, h.
    pub n_head: usize,
    /// The number of key and value heads, g.
    pub n_kv_head: usize,
    /// The factor on q·k.
    pub scale: f64,
    /// The dropout probability on the attention weights in training.
    pub dropout: f64,
}

impl Attention<ParameterSpec> {
    pub(super) fn of(describe: &Describe, layer: usize) -> Self {
        let c = describe.config;
        let (name, location) = (format!("blocks.{layer}.attention"), Location::Attention { layer });
        let (d, q, kv) = (c.d_model, c.n_head * c.d_head, c.n_kv_head * c.d_head);
        let linear = |last: &str, d_out: usize, d_in: usize, scale: f64, part: Part| {
            let name = &format!("{name}.{last}");
            let bias = match part {
                Part::AttentionOutput => c.attention_output_bias.unwrap_or(c.attention_bias),
                _ => c.attention_bias,
            };
            describe.linear(Projection { name, d_out, d_in, bias, scale, location, part })
        };
        let norm = |last: &str, width: usize| match c.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => describe.norm(&format!("{name}.{last}"), c.d_head, location),
            QkNorm::Whole => describe.norm(&format!("{name}.{last}"), width, location),
        };
        Self {
            layer,
            residual: Residual::of(describe, &name, location),
            query: linear("query", q, d, 1.0, Part::Query),
            key: linear("key", kv, d, 1.0, Part::Key),
            value: linear("value", kv, d, 1.0, Part::Value),
            output: match c.block {
                BlockKind::Bare => None,
                BlockKind::Pre
                | BlockKind::Post
                | BlockKind::Reordered
                | BlockKind::Sandwich
                | BlockKind::Parallel
                | BlockKind::ParallelShared => {
                    Some(linear("output", d, q, c.residual_scale(), Part::AttentionOutput))
                }
            },
            query_norm: norm("query_norm", q),
            key_norm: norm("key_norm", kv),
            value_embedding: c.has_value_embedding(layer).then(|| {
                let role = Role { location, part: Part::Value, kind: Kind::Embedding };
                describe.weight(format!("{name}.value_embedding.weight"), &[c.vocab_size, kv], 1.0, role)
            }),
            d_head: c.d_head,
            n_head: c.n_head,
            n_kv_head: c.n_kv_head,
            scale: c.scale(),
            dropout: c.dropout,
        }
    }
}

impl<P> Attention<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Attention<Q>, E> {
        let Self {
            layer,
            residual,
            query,
            key,
            value,
            output,
            query_norm,
            key_norm,
            value_embedding,
            d_head,
            n_head,
            n_kv_head,
            scale,
            dropout,
        } = self;
        Ok(Attention {
            layer: *layer,
            residual: residual.try_map(f)?,
            query: query.try_map(f)?,
            key: key.try_map(f)?,
            value: value.try_map(f)?,
            output: output.as_ref().map(|output| output.try_map(f)).transpose()?,
            query_norm: query_norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            key_norm: key_norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
            value_embedding: value_embedding.as_ref().map(&mut *f).transpose()?,
            d_head: *d_head,
            n_head: *n_head,
            n_kv_head: *n_kv_head,
            scale: *scale,
            dropout: *dropout,
        })
    }
}

impl Attention<Tensor> {
    /// Runs as one operation, unless a probe looks inside or keys and values come from a cache.
    ///
    /// # Shape
    /// x `[b, t, d]` to the same (bare: to `[b, t, h · k]`).
    pub(crate) fn forward(&self, x: &Tensor, context: &Context, pass: &mut Pass) -> Result<Tensor> {
        let Self {
            layer,
            residual,
            query,
            key,
            value,
            output,
            query_norm,
            key_norm,
            value_embedding,
            d_head,
            n_head: _,
            n_kv_head: _,
            scale,
            dropout: p_weights,
        } = self;
        let Residual { before, branch: _, multiplier: _, after: _, add: _, dropout: p } = residual;
        let weights_dropout = pass.dropout_at("attention.weights", *layer, *p_weights);
        let dropout = pass.dropout_at("attention", *layer, *p);
        let adapter_dropout = pass.dropout_at("attention.adapters", *layer, pass.adapter_dropout);
        let fused = residual.adds_plainly();
        let (before, query_norm, key_norm) =
            (made(before.as_ref(), x)?, made(query_norm.as_ref(), x)?, made(key_norm.as_ref(), x)?);
        let added_values =
            value_embedding.as_ref().map(|table| embedding(&context.ids, table)).transpose()?;
        let parts = AttentionLayer {
            norm: before.as_ref().map(|norm| norm.as_ref()),
            query: query.as_ref(),
            key: key.as_ref(),
            value: value.as_ref(),
            output: output.as_ref().map(Linear::as_ref),
            query_norm: query_norm.as_ref().map(|norm| norm.as_ref()),
            key_norm: key_norm.as_ref().map(|norm| norm.as_ref()),
            d_head: *d_head,
            rotary: context.rotary,
            bias: context.bias.as_ref(),
            added_values: added_values.as_ref(),
            attention: AttentionOptions {
                scale: *scale,
                mask: &context.mask,
                dropout: weights_dropout.as_ref(),
            },
            residual: fused,
            dropout: dropout.as_ref().filter(|_| fused),
            adapter_dropout: adapter_dropout.as_ref(),
        };
        if let Some(tables) = context.rotary {
            for (site, table) in [(Site::Cosines(*layer), tables.cos), (Site::Sines(*layer), tables.sin)] {
                record_with(pass, site, || of_positions(table, tables.positions, x.dim(1)?))?;
            }
        }
        let mut inside = OfLayer { layer: *layer, pass };
        let y = if inside.takes_part() {
            attention_layer_unfused(x, &parts, &mut inside)?
        } else {
            attention_layer(x, &parts)?
        };
        let y = if fused {
            y
        } else {
            let y = residual.scaled(y)?;
            pass.record(Site::AttentionBranch(*layer), &y);
            residual.added(x, y, dropout.as_ref())?
        };
        pass.record(Site::AttentionSum(*layer), &y);
        let y = residual.after(y)?;
        pass.record(Site::Middle(*layer), &y);
        Ok(y)
    }
}

/// The rows of a table for the tokens' positions: `[b, t, k/2]`, or `[t, k/2]` if a token's position is its index.
fn of_positions(table: &Tensor, positions: Option<&Tensor>, n: usize) -> Result<Tensor> {
    let Some(positions) = positions else { return table.narrow(0, 0, n) };
    let (b, t) = positions.dims2()?;
    table.index_select(&positions.flatten_all()?, 0)?.reshape((b, t, ()))
}

/// The probe and the cache of a pass, at one layer.
struct OfLayer<'r, 'p> {
    layer: usize,
    pass: &'r mut Pass<'p>,
}

impl OfLayer<'_, '_> {
    fn site(&self, part: AttentionPart) -> Site {
        match part {
            AttentionPart::Input => Site::AttentionInput(self.layer),
            AttentionPart::UnnormedQuery => Site::UnnormedQuery(self.layer),
            AttentionPart::UnnormedKey => Site::UnnormedKey(self.layer),
            AttentionPart::UnrotatedQuery => Site::UnrotatedQuery(self.layer),
            AttentionPart::UnrotatedKey => Site::UnrotatedKey(self.layer),
            AttentionPart::Query => Site::Query(self.layer),
            AttentionPart::Key => Site::Key(self.layer),
            AttentionPart::Value => Site::Value(self.layer),
            AttentionPart::Scores => Site::Scores(self.layer),
            AttentionPart::Weights => Site::AttentionWeights(self.layer),
            AttentionPart::Context => Site::Context(self.layer),
            AttentionPart::Output => Site::AttentionOutput(self.layer),
        }
    }

    fn takes_part(&self) -> bool {
        self.pass.cache.is_some() || AttentionPart::ALL.into_iter().any(|part| self.wants(part))
    }
}

impl Inside for OfLayer<'_, '_> {
    fn wants(&self, part: AttentionPart) -> bool {
        self.pass.wants(self.site(part))
    }

    fn record(&mut self, part: AttentionPart, value: &Tensor) {
        self.pass.record(self.site(part), value);
    }

    fn keys_and_values(&mut self, key: Tensor, value: Tensor) -> Result<(Tensor, Tensor)> {
        match self.pass.cache.as_mut() {
            Some(cache) => cache.append(self.layer, &key, &value),
            None => Ok((key, value)),
        }
    }
}

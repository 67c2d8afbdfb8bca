//! The attention sublayer: queries, keys, values, and the weighted sums of values.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, AttentionOptions, Mask};

use crate::block::Wrap;
use crate::config::{BlockKind, ModelConfig};
use crate::norm::Norm;
use crate::rotary::Rotary;
use crate::transformer::{Linear, Weights};
use crate::{Run, Site};

/// What all layers of one pass share: who may look at whom, and where each token stands.
pub(crate) struct Shared<'a> {
    pub(crate) mask: &'a Mask,
    pub(crate) positions: &'a Tensor,
    pub(crate) rotary: Option<&'a Rotary>,
}

/// `softmax(q kᵀ / sqrt(d_head) + mask) v` over heads, then the output projection (Vaswani et al. 2017, eq. 1 and
/// sec. 3.2.2).
#[derive(Clone, Debug)]
pub(crate) struct Attention {
    layer: usize,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Option<Linear>,
    d_head: usize,
    scale: f64,
    dropout: f64,
}

impl Attention {
    pub(crate) fn new(config: &ModelConfig, layer: usize, weights: &Weights) -> crate::Result<Self> {
        let linear = |name: &str| {
            Linear::new(weights, &format!("blocks.{layer}.attention.{name}"), config.attention_bias)
        };
        Ok(Self {
            layer,
            query: linear("query")?,
            key: linear("key")?,
            value: linear("value")?,
            output: (config.block != BlockKind::Bare).then(|| linear("output")).transpose()?,
            d_head: config.d_head,
            scale: config.scale(),
            dropout: config.dropout,
        })
    }

    /// `x + dropout(f(norm(x)))`, or without what is not given; as one operation, unless somebody looks inside or
    /// keys and values come from a cache.
    ///
    /// # Shape
    /// `x` `[b, t, d]` to the same (bare: to `[b, t, h · k]`).
    pub(crate) fn forward(&self, x: &Tensor, wrap: Wrap, shared: &Shared, run: &mut Run) -> Result<Tensor> {
        if run.cache.is_some() || self.sites().into_iter().any(|site| run.wants(site)) {
            return self.in_pieces(x, &wrap, shared, run);
        }
        let weights_dropout = run.dropout_at("attention.weights", self.layer, self.dropout);
        let parts = ops::AttentionLayer {
            norm: wrap.norm.map(Norm::part),
            query: self.query.part(),
            key: self.key.part(),
            value: self.value.part(),
            output: self.output.as_ref().map(Linear::part),
            d_head: self.d_head,
            rotary: shared.rotary.map(|rotary| rotary.tables(shared.positions)),
            attention: AttentionOptions {
                scale: self.scale,
                mask: shared.mask,
                dropout: weights_dropout.as_ref(),
            },
            residual: wrap.residual,
            dropout: wrap.dropout.as_ref(),
        };
        ops::attention_layer(x, &parts)
    }

    fn sites(&self) -> [Site; 7] {
        let at = [
            Site::Query,
            Site::Key,
            Site::Value,
            Site::Scores,
            Site::Weights,
            Site::Context,
            Site::AttentionOutput,
        ];
        at.map(|site| site(self.layer))
    }

    /// The same to the bit, with its parts in the open.
    fn in_pieces(&self, x: &Tensor, wrap: &Wrap, shared: &Shared, run: &mut Run) -> Result<Tensor> {
        let normed = wrap.before(x)?;
        let heads = |linear: &Linear| -> Result<Tensor> {
            let (b, t, _) = x.dims3()?;
            linear.forward(&normed)?.reshape((b, t, (), self.d_head))
        };
        let (mut q_bthk, mut k_bsgk, mut v_bsgk) =
            (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        if let Some(rotary) = shared.rotary {
            q_bthk = rotary.forward(&q_bthk, shared.positions)?;
            k_bsgk = rotary.forward(&k_bsgk, shared.positions)?;
        }
        if let Some(cache) = run.cache.as_mut() {
            (k_bsgk, v_bsgk) = cache.append(self.layer, &k_bsgk, &v_bsgk)?;
        }
        let context_bthk = self.attend(&q_bthk, &k_bsgk, &v_bsgk, shared.mask, run)?;
        let context_btd = context_bthk.flatten_from(2)?;
        let site = Site::AttentionOutput(self.layer);
        let Some(output) = &self.output else {
            run.record(site, &context_btd);
            return Ok(context_btd);
        };
        if run.wants(site) {
            run.record(site, &output.forward(&context_btd)?);
        }
        let residual = wrap.residual.then_some(x);
        ops::linear_residual(residual, &context_btd, output.part(), wrap.dropout.as_ref())
    }

    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, run: &mut Run) -> Result<Tensor> {
        let layer = self.layer;
        let dropout = run.dropout_at("attention.weights", layer, self.dropout);
        let options = AttentionOptions { scale: self.scale, mask, dropout: dropout.as_ref() };
        for (site, value) in [(Site::Query(layer), q), (Site::Key(layer), k), (Site::Value(layer), v)] {
            run.record(site, value);
        }
        let context = if run.wants(Site::Scores(layer)) || run.wants(Site::Weights(layer)) {
            let pattern = ops::attention_pattern(q, k, v, &options)?;
            run.record(Site::Scores(layer), &pattern.scores_bhts);
            run.record(Site::Weights(layer), &pattern.weights_bhts);
            pattern.context_bthk
        } else {
            ops::attention(q, k, v, &options)?
        };
        run.record(Site::Context(layer), &context);
        Ok(context)
    }
}

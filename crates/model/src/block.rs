//! One block: an attention sublayer and a feed-forward sublayer around the residual stream.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

use crate::attention::{Attention, Shared};
use crate::config::{BlockKind, ModelConfig};
use crate::feed_forward::FeedForward;
use crate::norm::Norm;
use crate::transformer::Weights;
use crate::{Run, Site};

/// Attention, then feed-forward, each wrapped as [`BlockKind`] says.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    layer: usize,
    kind: BlockKind,
    attention: Attention,
    attention_norm: Option<Norm>,
    feed_forward: Option<FeedForward>,
    feed_forward_norm: Option<Norm>,
    dropout: f64,
}

impl Block {
    pub(crate) fn new(config: &ModelConfig, layer: usize, weights: &Weights) -> crate::Result<Self> {
        let feed_forward = FeedForward::new(config, layer, weights)?;
        Ok(Self {
            layer,
            kind: config.block,
            attention: Attention::new(config, layer, weights)?,
            attention_norm: Norm::new(config, &format!("blocks.{layer}.attention.norm"), weights)?,
            feed_forward_norm: match &feed_forward {
                Some(_) => Norm::new(config, &format!("blocks.{layer}.feed_forward.norm"), weights)?,
                None => None,
            },
            feed_forward,
            dropout: config.dropout,
        })
    }

    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, shared: &Shared, run: &mut Run) -> Result<Tensor> {
        let mut x = self.sublayer("attention", x, &self.attention_norm, run, |x, run| {
            self.attention.forward(x, shared, run)
        })?;
        if let Some(feed_forward) = &self.feed_forward {
            x = self
                .sublayer("feed_forward", &x, &self.feed_forward_norm, run, |x, _| feed_forward.forward(x))?;
        }
        run.record(Site::Block(self.layer), &x);
        Ok(x)
    }

    /// `x + f(norm(x))`, `norm(x + f(x))` or `f(x)`, with dropout on what `f` adds.
    fn sublayer(
        &self,
        name: &str,
        x: &Tensor,
        norm: &Option<Norm>,
        run: &mut Run,
        f: impl FnOnce(&Tensor, &mut Run) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let normed = |x: &Tensor| norm.as_ref().map_or_else(|| Ok(x.clone()), |norm| norm.forward(x));
        let dropout = run.dropout_at(name, self.layer, self.dropout);
        let dropped = |y: Tensor| match &dropout {
            Some(dropout) => ops::dropout(&y, dropout),
            None => Ok(y),
        };
        match self.kind {
            BlockKind::Bare => f(x, run),
            BlockKind::Pre => x + dropped(f(&normed(x)?, run)?)?,
            BlockKind::Post => normed(&(x + dropped(f(x, run)?)?)?),
        }
    }
}

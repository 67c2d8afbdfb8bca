//! One block: an attention sublayer and a feed-forward sublayer around the residual stream.

use candle_core::{Result, Tensor};
use vulpes_ops::Dropout;

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
        let wrap = self.wrap("attention", &self.attention_norm, run);
        let mut x = self.after(self.attention.forward(x, wrap, shared, run)?, &self.attention_norm)?;
        if let Some(feed_forward) = &self.feed_forward {
            let wrap = self.wrap("feed_forward", &self.feed_forward_norm, run);
            x = self.after(feed_forward.forward(&x, wrap)?, &self.feed_forward_norm)?;
        }
        run.record(Site::Block(self.layer), &x);
        Ok(x)
    }

    fn wrap<'a>(&self, name: &str, norm: &'a Option<Norm>, run: &Run) -> Wrap<'a> {
        match self.kind {
            BlockKind::Bare => Wrap { norm: None, residual: false, dropout: None },
            BlockKind::Pre | BlockKind::Post => Wrap {
                norm: norm.as_ref().filter(|_| self.kind == BlockKind::Pre),
                residual: true,
                dropout: run.dropout_at(name, self.layer, self.dropout),
            },
        }
    }

    /// What stands behind a sublayer: the norm of a post-norm block.
    fn after(&self, x: Tensor, norm: &Option<Norm>) -> Result<Tensor> {
        match norm {
            Some(norm) if self.kind == BlockKind::Post => norm.forward(&x),
            _ => Ok(x),
        }
    }
}

/// What stands around a sublayer `f`: `x + dropout(f(norm(x)))`, each where it is given.
#[derive(Clone, Debug)]
pub(crate) struct Wrap<'a> {
    pub(crate) norm: Option<&'a Norm>,
    pub(crate) residual: bool,
    pub(crate) dropout: Option<Dropout>,
}

impl Wrap<'_> {
    /// The input of the sublayer.
    pub(crate) fn before(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.map_or_else(|| Ok(x.clone()), |norm| norm.forward(x))
    }
}

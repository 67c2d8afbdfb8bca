//! One block: an attention sublayer, then a feed-forward sublayer, each joined to the residual stream.

use candle_core::{Result, Tensor};

use super::attention::Attention;
use super::context::Context;
use super::describe::Describe;
use super::feed_forward::FeedForward;
use crate::probe::Site;
use crate::run::Run;
use crate::spec::ParameterSpec;

/// Attention, then feed-forward.
#[derive(Clone, Debug)]
pub struct Block<P> {
    /// The block's number, from 0.
    pub layer: usize,
    /// The number of its kind in [`super::Layers::kinds`].
    pub kind: usize,
    /// The first sublayer.
    pub attention: Attention<P>,
    /// The second sublayer.
    pub feed_forward: Option<FeedForward<P>>,
}

impl Block<ParameterSpec> {
    pub(super) fn of(describe: &Describe, layer: usize, kind: usize) -> Self {
        let (attention, feed_forward) = (Attention::of(describe, layer), FeedForward::of(describe, layer));
        Self { layer, kind, attention, feed_forward }
    }
}

impl<P> Block<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Block<Q>, E> {
        let Self { layer, kind, attention, feed_forward } = self;
        Ok(Block {
            layer: *layer,
            kind: *kind,
            attention: attention.try_map(f)?,
            feed_forward: feed_forward.as_ref().map(|inner| inner.try_map(f)).transpose()?,
        })
    }
}

impl Block<Tensor> {
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context, run: &mut Run) -> Result<Tensor> {
        let mut x = self.attention.forward(x, context, run)?;
        if let Some(feed_forward) = &self.feed_forward {
            x = feed_forward.forward(&x, run)?;
        }
        run.record(Site::Block(self.layer), &x);
        Ok(x)
    }
}

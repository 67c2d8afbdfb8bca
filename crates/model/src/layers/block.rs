//! One block: an attention sublayer and a feed-forward sublayer, each joined to the residual stream.

use std::convert::Infallible;

use candle_core::{Result, Tensor};
use vulpes_ops::{RotaryTables, recomputed};

use super::attention::Attention;
use super::context::Context;
use super::describe::Describe;
use super::feed_forward::FeedForward;
use super::norm::Norm;
use crate::config::BlockKind;
use crate::pass::Pass;
use crate::probe::Site;
use crate::spec::ParameterSpec;

/// Attention, then feed-forward; or both in parallel.
#[derive(Clone, Debug)]
pub struct Block<P> {
    /// The block's index, from 0.
    pub layer: usize,
    /// The index of its kind in [`super::Layers::kinds`].
    pub kind: usize,
    /// How the sublayers, norms and residual stream are arranged.
    pub form: BlockKind,
    /// The first sublayer.
    pub attention: Attention<P>,
    /// The second sublayer.
    pub feed_forward: Option<FeedForward<P>>,
}

impl Block<ParameterSpec> {
    pub(super) fn of(describe: &Describe, layer: usize, kind: usize) -> Self {
        let (attention, feed_forward) = (Attention::of(describe, layer), FeedForward::of(describe, layer));
        Self { layer, kind, form: describe.config.block, attention, feed_forward }
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
        let Self { layer, kind, form, attention, feed_forward } = self;
        Ok(Block {
            layer: *layer,
            kind: *kind,
            form: *form,
            attention: attention.try_map(f)?,
            feed_forward: feed_forward.as_ref().map(|inner| inner.try_map(f)).transpose()?,
        })
    }
}

impl<P> Block<P> {
    /// The norm that both sublayers share, if any.
    pub fn shared_norm(&self) -> Option<&Norm<P>> {
        self.attention.residual.before.as_ref().filter(|_| self.form == BlockKind::ParallelShared)
    }
}

impl Block<Tensor> {
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context, pass: &mut Pass) -> Result<Tensor> {
        let mut y = self.attention.forward(x, context, pass)?;
        if let Some(feed_forward) = &self.feed_forward {
            y = match self.form {
                BlockKind::Parallel => feed_forward.forward((x, &y), None, pass)?,
                BlockKind::ParallelShared => feed_forward.forward((x, &y), self.shared_norm(), pass)?,
                BlockKind::Bare
                | BlockKind::Pre
                | BlockKind::Post
                | BlockKind::Reordered
                | BlockKind::Sandwich => feed_forward.forward((&y, &y), None, pass)?,
            };
        }
        pass.record(Site::Block(self.layer), &y);
        Ok(y)
    }

    /// [`Block::forward`] for training with recomputation: the backward pass keeps only x.
    ///
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn recomputed(&self, x: &Tensor, context: &Context, pass: &Pass) -> Result<Tensor> {
        let mut inputs = vec![x];
        inputs.extend(&context.bias);
        let Ok(_) = self.try_map(&mut |leaf| {
            inputs.push(leaf);
            Ok::<(), Infallible>(())
        });
        let (block, dropout, adapter_dropout) = (self.clone(), pass.dropout.clone(), pass.adapter_dropout);
        let (ids, mask) = (context.ids.clone(), context.mask.clone());
        let is_biased = context.bias.is_some();
        let rotary = context
            .rotary
            .map(|RotaryTables { cos, sin, positions }| (cos.clone(), sin.clone(), positions.cloned()));
        recomputed(&inputs, move |inputs| {
            let mut inputs = inputs.iter();
            let mut next = || inputs.next().cloned().ok_or_else(|| candle_core::Error::msg("too few inputs"));
            let x = next()?;
            let bias = if is_biased { Some(next()?) } else { None };
            let block = block.try_map(&mut |_| next())?;
            let rotary = rotary.as_ref().map(|(cos, sin, positions)| RotaryTables {
                cos,
                sin,
                positions: positions.as_ref(),
            });
            let mut pass = Pass { dropout: dropout.clone(), adapter_dropout, ..Pass::default() };
            block.forward(&x, &Context { ids: ids.clone(), mask: mask.clone(), rotary, bias }, &mut pass)
        })
    }
}

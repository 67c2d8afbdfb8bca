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
use crate::probe::Site;
use crate::run::Run;
use crate::spec::ParameterSpec;

/// Attention, then feed-forward; or both side by side.
#[derive(Clone, Debug)]
pub struct Block<P> {
    /// The block's number, from 0.
    pub layer: usize,
    /// The number of its kind in [`super::Layers::kinds`].
    pub kind: usize,
    /// How the sublayers stand to each other and to the stream.
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
    /// The norm that both sublayers read through, where they share one.
    pub fn shared_norm(&self) -> Option<&Norm<P>> {
        self.attention.residual.before.as_ref().filter(|_| self.form == BlockKind::ParallelShared)
    }
}

impl Block<Tensor> {
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, context: &Context, run: &mut Run) -> Result<Tensor> {
        let mut y = self.attention.forward(x, context, run)?;
        if let Some(feed_forward) = &self.feed_forward {
            y = match self.form {
                BlockKind::Parallel => feed_forward.forward((x, &y), None, run)?,
                BlockKind::ParallelShared => feed_forward.forward((x, &y), self.shared_norm(), run)?,
                BlockKind::Bare
                | BlockKind::Pre
                | BlockKind::Post
                | BlockKind::Reordered
                | BlockKind::Sandwich => feed_forward.forward((&y, &y), None, run)?,
            };
        }
        run.record(Site::Block(self.layer), &y);
        Ok(y)
    }

    /// [`Block::forward`] for training, of which the backward pass keeps x alone.
    ///
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn recomputed(&self, x: &Tensor, context: &Context, run: &Run) -> Result<Tensor> {
        let mut inputs = vec![x];
        inputs.extend(&context.bias);
        let Ok(_) = self.try_map(&mut |leaf| {
            inputs.push(leaf);
            Ok::<(), Infallible>(())
        });
        let (block, dropout) = (self.clone(), run.dropout.clone());
        let mask = context.mask.clone();
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
            let mut run = Run { dropout: dropout.clone(), ..Run::default() };
            block.forward(&x, &Context { mask: mask.clone(), rotary, bias }, &mut run)
        })
    }
}

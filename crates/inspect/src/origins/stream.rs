//! The residual stream as the sum of its parts, from the embeddings through the blocks.
//!
//! Legend: n chosen positions, d the stream's width, h query heads, k head width.

use candle_core::{D, DType, Device, Tensor};
use vulpes_model::layers::{Attention, Embedding, FeedForward};
use vulpes_model::{Block, Norm, Residual, Site};
use vulpes_ops::Linear;

use super::{Picked, Source, exact};
use crate::error::Error;

/// A value of the model as a sum: each part `[n, d]`, in float64, with its source.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    parts: Vec<(Source, Tensor)>,
}

impl Stream {
    /// The embeddings.
    pub(super) fn start(embedding: &Embedding<Tensor>, picked: &Picked) -> Result<Self, Error> {
        let Embedding {
            token: _,
            token_adapter: _,
            position: _,
            token_type: _,
            bigram: _,
            scale,
            norm,
            dropout: _,
        } = embedding;
        let mut stream = Self::default();
        for (source, site) in [
            (Source::Token, Site::TokenVector),
            (Source::Position, Site::PositionVector),
            (Source::TokenType, Site::TypeVector),
            (Source::Pair, Site::PairVector),
        ] {
            if let Some(vectors) = picked.get(site)? {
                stream.add(source, (vectors * *scale)?)?;
            }
        }
        stream.through(norm.as_ref())
    }

    /// The sources, in the order in which they were added.
    pub(super) fn sources(&self) -> impl Iterator<Item = Source> {
        self.parts.iter().map(|(source, _)| *source)
    }

    /// The parts, in the same order.
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.parts.iter().map(|(_, part)| part)
    }

    fn add(&mut self, source: Source, part: Tensor) -> Result<(), Error> {
        match self.parts.iter_mut().find(|(known, _)| *known == source) {
            Some((_, sum)) => *sum = (&*sum + part)?,
            None => {
                // The biases stay last.
                let is_biases = |(known, _): &&(Source, Tensor)| *known == Source::Biases;
                let at = self.parts.len() - usize::from(self.parts.last().filter(is_biases).is_some());
                self.parts.insert(at, (source, part));
            }
        }
        Ok(())
    }

    fn add_all(&mut self, other: Self) -> Result<(), Error> {
        other.parts.into_iter().try_for_each(|(source, part)| self.add(source, part))
    }

    fn map(&self, f: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self, Error> {
        let part = |(source, part): &(Source, Tensor)| Ok((*source, f(part)?));
        Ok(Self { parts: self.parts.iter().map(part).collect::<Result<_, Error>>()? })
    }

    fn sum(&self) -> Result<Option<Tensor>, Error> {
        let mut sum: Option<Tensor> = None;
        for (_, part) in &self.parts {
            sum = Some(sum.map_or_else(|| Ok(part.clone()), |sum| sum + part)?);
        }
        Ok(sum)
    }

    /// Applies a norm to each part with the scale of their sum held fixed.
    ///
    /// A layer norm subtracts the mean of each part, as it does for the sum; its bias joins the biases.
    pub(super) fn through(&self, norm: Option<&Norm<Tensor>>) -> Result<Self, Error> {
        let (Some(norm), Some(x)) = (norm, self.sum()?) else { return Ok(self.clone()) };
        let centered = |x: &Tensor| x.broadcast_sub(&x.mean_keepdim(D::Minus1)?);
        let (bias, eps, centers) = match norm {
            Norm::Layer { weight: _, bias, eps } => (bias.as_ref(), *eps, true),
            Norm::Rms { eps, .. } | Norm::RmsBare { eps, .. } | Norm::RmsPlusOne { eps, .. } => {
                (None, *eps, false)
            }
        };
        let weight = match norm {
            Norm::RmsPlusOne { weight, .. } => (exact(weight)? + 1.0)?,
            _ => exact(&norm.scale(&x)?)?,
        };
        let x = if centers { centered(&x)? } else { x };
        let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?.recip()?;
        let mut normed = self.map(|part| {
            let part = if centers { centered(part)? } else { part.clone() };
            part.broadcast_mul(&scale)?.broadcast_mul(&weight)
        })?;
        if let Some(bias) = bias {
            normed.add(Source::Biases, exact(bias)?.broadcast_as(x.shape())?.contiguous()?)?;
        }
        Ok(normed)
    }

    /// Projects each part and takes head `head` of width `k`, after the norm of queries or keys.
    pub(super) fn projected(
        &self,
        projection: &Linear<Tensor>,
        norm: Option<&Norm<Tensor>>,
        (head, k): (usize, usize),
    ) -> Result<Self, Error> {
        let of_head = |wide: &Tensor, dim: usize| wide.narrow(dim, head * k, k);
        // A norm over all heads needs all of them.
        let is_whole = norm.is_some_and(|norm| norm.width() != k);
        let rows = |tensor: &Tensor| -> Result<Tensor, Error> {
            exact(&if is_whole { tensor.clone() } else { of_head(tensor, 0)? })
        };
        let weight = rows(&projection.weight)?.t()?;
        let mut made = self.map(|part| part.contiguous()?.matmul(&weight))?;
        if let (Some(bias), Some((_, like))) = (&projection.bias, made.parts.first()) {
            let bias = rows(bias)?.broadcast_as(like.shape())?.contiguous()?;
            made.add(Source::Biases, bias)?;
        }
        let normed = made.through(norm)?;
        if is_whole { normed.map(|part| of_head(part, 1)) } else { Ok(normed) }
    }

    /// The stream after a block.
    pub(super) fn after(&self, block: &Block<Tensor>, picked: &Picked) -> Result<Self, Error> {
        let attention = &block.attention;
        let mut stream = self.joined(heads(attention, block.layer, picked)?, &attention.residual)?;
        if let Some(inner) = &block.feed_forward {
            stream = stream.joined(feed_forward(inner, picked)?, &inner.residual)?;
        }
        Ok(stream)
    }

    /// The stream with a sublayer's result, combined as in [`Residual`].
    fn joined(&self, result: Self, residual: &Residual<Tensor>) -> Result<Self, Error> {
        let Residual { before: _, branch, multiplier, after, add, dropout: _ } = residual;
        let branch = result.through(branch.as_ref())?.map(|part| part * *multiplier)?;
        let mut stream = if *add { self.clone() } else { Self::default() };
        stream.add_all(branch)?;
        stream.through(after.as_ref())
    }
}

/// The output of each head of a layer: its context times its own columns of the output projection; in a bare block
/// the context itself, at its own offset.
fn heads(attention: &Attention<Tensor>, layer: usize, picked: &Picked) -> Result<Stream, Error> {
    let contexts = picked.seen(Site::Context(layer))?;
    let (n, n_head, k) = contexts.dims3()?;
    let mut stream = Stream::default();
    for head in 0..n_head {
        let context = contexts.narrow(1, head, 1)?.squeeze(1)?.contiguous()?;
        let part = match &attention.output {
            Some(output) => context.matmul(&exact(&output.weight.narrow(1, head * k, k)?)?.t()?)?,
            None => {
                let zeros = |width| Tensor::zeros((n, width), DType::F64, &Device::Cpu);
                Tensor::cat(&[zeros(head * k)?, context, zeros((n_head - head - 1) * k)?], 1)?
            }
        };
        stream.add(Source::Head { layer, head }, part)?;
    }
    if let Some(bias) = attention.output.as_ref().and_then(|output| output.bias.as_ref()) {
        let bias = exact(bias)?;
        stream.add(Source::Biases, bias.broadcast_as((n, bias.dim(0)?))?.contiguous()?)?;
    }
    Ok(stream)
}

/// The output of a feed-forward layer, with its last bias separate.
fn feed_forward(inner: &FeedForward<Tensor>, picked: &Picked) -> Result<Stream, Error> {
    let result = picked.seen(Site::FeedForwardOutput(inner.layer))?;
    let source = Source::FeedForward { layer: inner.layer };
    let mut stream = Stream::default();
    match &inner.down.bias {
        None => stream.add(source, result)?,
        Some(bias) => {
            let bias = exact(bias)?.broadcast_as(result.shape())?.contiguous()?;
            stream.add(source, (result - &bias)?)?;
            stream.add(Source::Biases, bias)?;
        }
    }
    Ok(stream)
}

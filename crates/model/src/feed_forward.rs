//! The feed-forward sublayer: each token by itself, through a wider layer and back.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Activation};

use crate::block::Wrap;
use crate::config::{FeedForwardKind, ModelConfig};
use crate::norm::Norm;
use crate::transformer::{Linear, Weights};

/// `down(act(up(x)))`, or gated `down(silu(gate(x)) · up(x))`.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    activation: Activation,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    pub(crate) fn new(config: &ModelConfig, layer: usize, weights: &Weights) -> crate::Result<Option<Self>> {
        let Some(activation) = activation(config.feed_forward) else { return Ok(None) };
        let linear = |name: &str| {
            Linear::new(weights, &format!("blocks.{layer}.feed_forward.{name}"), config.feed_forward_bias)
        };
        Ok(Some(Self {
            activation,
            gate: config.gated().then(|| linear("gate")).transpose()?,
            up: linear("up")?,
            down: linear("down")?,
        }))
    }

    /// `x + dropout(f(norm(x)))`, or without what is not given.
    ///
    /// # Shape
    /// `[b, t, d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, wrap: Wrap) -> Result<Tensor> {
        let parts = ops::FeedForward {
            norm: wrap.norm.map(Norm::part),
            gate: self.gate.as_ref().map(Linear::part),
            up: self.up.part(),
            down: self.down.part(),
            activation: self.activation,
            residual: wrap.residual,
            dropout: wrap.dropout.as_ref(),
        };
        ops::feed_forward(x, &parts)
    }
}

/// The activation of a kind: of its gate, where it has one.
pub(crate) fn activation(kind: FeedForwardKind) -> Option<Activation> {
    match kind {
        FeedForwardKind::GeluTanh => Some(Activation::GeluTanh),
        FeedForwardKind::GeluErf => Some(Activation::GeluErf),
        FeedForwardKind::Relu2 => Some(Activation::Relu2),
        FeedForwardKind::Swiglu => Some(Activation::Silu),
        FeedForwardKind::None => None,
    }
}

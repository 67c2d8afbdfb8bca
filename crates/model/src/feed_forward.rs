//! The feed-forward sublayer: each token by itself, through a wider layer and back.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

use crate::config::{FeedForwardKind, ModelConfig};
use crate::transformer::{Linear, Weights};

/// `down(act(up(x)))`, or gated `down(silu(gate(x)) · up(x))`.
#[derive(Clone, Debug)]
pub(crate) struct FeedForward {
    kind: FeedForwardKind,
    gate: Option<Linear>,
    up: Linear,
    down: Linear,
}

impl FeedForward {
    pub(crate) fn new(config: &ModelConfig, layer: usize, weights: &Weights) -> crate::Result<Option<Self>> {
        if config.feed_forward == FeedForwardKind::None {
            return Ok(None);
        }
        let linear = |name: &str| {
            Linear::new(weights, &format!("blocks.{layer}.feed_forward.{name}"), config.feed_forward_bias)
        };
        Ok(Some(Self {
            kind: config.feed_forward,
            gate: config.gated().then(|| linear("gate")).transpose()?,
            up: linear("up")?,
            down: linear("down")?,
        }))
    }

    /// # Shape
    /// `[.., d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let up = self.up.forward(x)?;
        let inner = match &self.gate {
            Some(gate) => ops::swiglu(&gate.forward(x)?, &up)?,
            None => activate(self.kind, &up)?,
        };
        self.down.forward(&inner)
    }
}

/// The activation of a kind that has no gate.
pub(crate) fn activate(kind: FeedForwardKind, x: &Tensor) -> Result<Tensor> {
    match kind {
        FeedForwardKind::GeluTanh => ops::gelu_tanh(x),
        FeedForwardKind::GeluErf => ops::gelu_erf(x),
        FeedForwardKind::Relu2 => ops::relu2(x),
        FeedForwardKind::Swiglu => ops::silu(x),
        FeedForwardKind::None => Ok(x.clone()),
    }
}

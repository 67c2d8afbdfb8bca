//! Normalisation of the hidden states: layer norm or RMS norm.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

use crate::config::{ModelConfig, NormKind};
use crate::transformer::Weights;

/// A norm over the last dimension: `layer_norm` or `rms_norm` of [`vulpes_ops`].
#[derive(Clone, Debug)]
pub(crate) enum Norm {
    Layer { weight: Tensor, bias: Tensor, eps: f64 },
    Rms { weight: Tensor, eps: f64 },
}

impl Norm {
    /// The norm `name` of the kind that the config sets; `None` where it sets none.
    pub(crate) fn new(config: &ModelConfig, name: &str, weights: &Weights) -> crate::Result<Option<Self>> {
        Self::of_kind(config.norm, config.norm_eps, name, weights)
    }

    pub(crate) fn of_kind(
        kind: NormKind,
        eps: f64,
        name: &str,
        weights: &Weights,
    ) -> crate::Result<Option<Self>> {
        Ok(match kind {
            NormKind::None => None,
            NormKind::Layer => Some(Self::Layer {
                weight: weights.get(&format!("{name}.weight"))?,
                bias: weights.get(&format!("{name}.bias"))?,
                eps,
            }),
            NormKind::Rms => Some(Self::Rms { weight: weights.get(&format!("{name}.weight"))?, eps }),
        })
    }

    /// # Shape
    /// `[.., d]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.part().apply(x)
    }

    /// The norm as a part of a sublayer.
    pub(crate) fn part(&self) -> ops::Norm<'_> {
        match self {
            Norm::Layer { weight, bias, eps } => ops::Norm::Layer { weight, bias: Some(bias), eps: *eps },
            Norm::Rms { weight, eps } => ops::Norm::Rms { weight, eps: *eps },
        }
    }
}

//! What stands on the last hidden state: vocabulary logits, label logits, or nothing.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Activation, CrossEntropyOptions, Loss};

use crate::Run;
use crate::config::{Head, ModelConfig, NormKind};
use crate::feed_forward::activation;
use crate::norm::Norm;
use crate::transformer::{Linear, Weights};

/// The head of a model, with its parameters.
#[derive(Clone, Debug)]
pub(crate) enum HeadLayer {
    Vocabulary { transform: Option<Transform>, weight: Tensor, bias: Option<Tensor> },
    Labels { pooler: Linear, classifier: Linear, dropout: f64 },
    Hidden { pooler: Option<Linear> },
}

/// `norm(act(dense(x)))`, BERT's step before its decoder (Devlin et al. 2019, sec. 3.1; in its code
/// `cls/predictions/transform`).
#[derive(Clone, Debug)]
pub(crate) struct Transform {
    dense: Linear,
    activation: Option<Activation>,
    norm: Option<Norm>,
}

impl HeadLayer {
    /// `token` is the token embedding, which a tied head uses again.
    pub(crate) fn new(config: &ModelConfig, token: &Tensor, weights: &Weights) -> crate::Result<Self> {
        let vocabulary = || if config.tied_head { Ok(token.clone()) } else { weights.get("head.weight") };
        Ok(match config.head {
            Head::NextToken => Self::Vocabulary { transform: None, weight: vocabulary()?, bias: None },
            Head::MaskedToken => Self::Vocabulary {
                transform: Some(Transform {
                    dense: Linear::new(weights, "head.transform", true)?,
                    activation: activation(config.feed_forward),
                    norm: Norm::of_kind(NormKind::Layer, config.norm_eps, "head.norm", weights)?,
                }),
                weight: vocabulary()?,
                bias: Some(weights.get("head.bias")?),
            },
            Head::Classify { .. } => Self::Labels {
                pooler: Linear::new(weights, "head.pooler", true)?,
                classifier: Linear::new(weights, "head.classifier", true)?,
                dropout: config.dropout,
            },
            Head::Hidden { pooler } => Self::Hidden {
                pooler: pooler.then(|| Linear::new(weights, "head.pooler", true)).transpose()?,
            },
        })
    }

    /// # Shape
    /// Hidden `[b, t, d]` to `[b, t, v]`, to `[b, n_labels]` for a classifier, or to themselves.
    pub(crate) fn logits(&self, hidden: &Tensor, run: &Run) -> Result<Tensor> {
        match self {
            Self::Vocabulary { transform, weight, bias } => {
                ops::linear(&transformed(transform, hidden)?, weight, bias.as_ref())
            }
            Self::Labels { pooler, classifier, dropout } => {
                let mut pooled = pool(pooler, hidden)?;
                if let Some(dropout) = run.dropout_at("head", 0, *dropout) {
                    pooled = ops::dropout(&pooled, &dropout)?;
                }
                classifier.forward(&pooled)
            }
            Self::Hidden { .. } => Ok(hidden.clone()),
        }
    }

    /// `tanh(dense(first token))`; `None` where there is no pooler.
    ///
    /// # Shape
    /// Hidden `[b, t, d]` to `[b, d]`.
    pub(crate) fn pooled(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Labels { pooler, .. } | Self::Hidden { pooler: Some(pooler) } => {
                pool(pooler, hidden).map(Some)
            }
            Self::Vocabulary { .. } | Self::Hidden { pooler: None } => Ok(None),
        }
    }

    /// The summed cross-entropy over `targets` (`[b · t]`; for a classifier `[b]`), and how many there are.
    pub(crate) fn loss(
        &self,
        hidden: &Tensor,
        targets: &[i64],
        options: &CrossEntropyOptions,
        run: &Run,
    ) -> Result<Loss> {
        match self {
            Self::Vocabulary { transform, weight, bias } => {
                let hidden_nd = transformed(transform, hidden)?.flatten_to(1)?;
                ops::lm_head(&hidden_nd, weight, bias.as_ref(), targets, options)
            }
            Self::Labels { .. } => ops::cross_entropy(&self.logits(hidden, run)?, targets, options),
            Self::Hidden { .. } => candle_core::bail!("this model has no head, so it has no loss"),
        }
    }
}

fn pool(pooler: &Linear, hidden: &Tensor) -> Result<Tensor> {
    pooler.forward(&hidden.narrow(1, 0, 1)?.squeeze(1)?)?.tanh()
}

fn transformed(transform: &Option<Transform>, hidden: &Tensor) -> Result<Tensor> {
    let Some(Transform { dense, activation, norm }) = transform else { return Ok(hidden.clone()) };
    let x = dense.forward(hidden)?;
    let x = activation.map_or_else(|| Ok(x.clone()), |activation| activation.apply(&x))?;
    norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
}

//! The output head: vocabulary logits, label logits, or none.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Activation, CrossEntropyOptions, Dropout, Linear, Loss, Norm};

use super::describe::{Describe, Projection};
use crate::config::{Head, NormKind};
use crate::probe::Site;
use crate::run::{Run, record_with};
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};

/// The head of a model, with its parameters.
#[derive(Clone, Debug)]
pub enum HeadLayer<P> {
    /// Logits over the vocabulary.
    Vocabulary {
        /// What the hidden states go through first: BERT's step before its decoder.
        transform: Option<Transform<P>>,
        /// `[v, d]`; `None` where the head is tied: the token embedding, used again.
        weight: Option<P>,
        /// `[v]`.
        bias: Option<P>,
    },
    /// Logits over labels, of the first token.
    Labels {
        /// Dense and tanh.
        pooler: Linear<P>,
        /// To the labels.
        classifier: Linear<P>,
        /// The share of the pooled vector that is set to zero in training.
        dropout: f64,
    },
    /// No logits: the hidden states are the result.
    Hidden {
        /// A pooler that came with the model.
        pooler: Option<Linear<P>>,
    },
}

/// `norm(act(dense(x)))`, BERT's step before its decoder ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805), sec.
/// 3.1; in its code `cls/predictions/transform`).
#[derive(Clone, Debug)]
pub struct Transform<P> {
    /// `[d, d]`.
    pub dense: Linear<P>,
    /// The feed-forward's own; none where there is no feed-forward.
    pub activation: Option<Activation>,
    /// Over the width of the model.
    pub norm: Option<Norm<P>>,
}

impl HeadLayer<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        let (d, location, part) = (c.d_hidden(), Location::Head, Part::Head);
        let linear = |name: &str, d_out: usize| {
            describe.linear(Projection { name, d_out, d_in: d, bias: true, scale: 1.0, location, part })
        };
        let weight = || {
            let role = Role { location, part, kind: Kind::Matrix };
            (!c.tied_head).then(|| describe.weight("head.weight".into(), &[c.vocab_size, d], 1.0, role))
        };
        match c.head {
            Head::NextToken => Self::Vocabulary { transform: None, weight: weight(), bias: None },
            Head::MaskedToken => Self::Vocabulary {
                transform: Some(Transform {
                    dense: linear("head.transform", d),
                    activation: c.feed_forward.activation(),
                    norm: describe.norm_of(NormKind::Layer, "head.norm", d, location),
                }),
                weight: weight(),
                bias: Some(describe.bias("head.bias".into(), c.vocab_size, location, part)),
            },
            Head::Classify { n_labels } => Self::Labels {
                pooler: linear("head.pooler", d),
                classifier: linear("head.classifier", n_labels),
                dropout: c.dropout,
            },
            Head::Hidden { pooler } => Self::Hidden { pooler: pooler.then(|| linear("head.pooler", d)) },
        }
    }
}

impl<P> HeadLayer<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<HeadLayer<Q>, E> {
        Ok(match self {
            Self::Vocabulary { transform, weight, bias } => HeadLayer::Vocabulary {
                transform: match transform {
                    Some(Transform { dense, activation, norm }) => Some(Transform {
                        dense: dense.try_map(f)?,
                        activation: *activation,
                        norm: norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
                    }),
                    None => None,
                },
                weight: weight.as_ref().map(&mut *f).transpose()?,
                bias: bias.as_ref().map(&mut *f).transpose()?,
            },
            Self::Labels { pooler, classifier, dropout } => HeadLayer::Labels {
                pooler: pooler.try_map(f)?,
                classifier: classifier.try_map(f)?,
                dropout: *dropout,
            },
            Self::Hidden { pooler } => {
                HeadLayer::Hidden { pooler: pooler.as_ref().map(|pooler| pooler.try_map(f)).transpose()? }
            }
        })
    }
}

impl HeadLayer<Tensor> {
    /// `token` is the token embedding, which a tied head uses again.
    ///
    /// # Shape
    /// Hidden `[b, t, d]` to `[b, t, v]`, to `[b, n_labels]` for a classifier, or to themselves.
    pub(crate) fn logits(&self, hidden: &Tensor, token: &Tensor, run: &mut Run) -> Result<Tensor> {
        match self {
            Self::Vocabulary { transform, weight, bias } => {
                let weight = weight.as_ref().unwrap_or(token);
                let read = transformed(transform, hidden, run)?;
                run.record(Site::HeadInput, &read);
                ops::linear(&read, weight, bias.as_ref())
            }
            Self::Labels { pooler, classifier, dropout } => {
                record_with(run, Site::HeadDense, || pooler.as_ref().apply(&first_token(hidden)?))?;
                let pooled = pool(pooler, hidden)?;
                run.record(Site::HeadInput, &pooled);
                labels(&pooled, classifier, run.dropout_at("head", 0, *dropout))
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
        token: &Tensor,
        targets: &[i64],
        options: &CrossEntropyOptions,
        run: &Run,
    ) -> Result<Loss> {
        match self {
            Self::Vocabulary { transform, weight, bias } => {
                let hidden_nd = transformed(transform, hidden, &mut Run::inference())?.flatten_to(1)?;
                ops::lm_head(&hidden_nd, weight.as_ref().unwrap_or(token), bias.as_ref(), targets, options)
            }
            Self::Labels { pooler, classifier, dropout } => {
                let dropout = run.dropout_at("head", 0, *dropout);
                ops::cross_entropy(&labels(&pool(pooler, hidden)?, classifier, dropout)?, targets, options)
            }
            Self::Hidden { .. } => candle_core::bail!("this model has no head, so it has no loss"),
        }
    }
}

/// The logits of the labels.
fn labels(pooled: &Tensor, classifier: &Linear<Tensor>, dropout: Option<Dropout>) -> Result<Tensor> {
    match dropout {
        Some(dropout) => classifier.as_ref().apply(&ops::dropout(pooled, &dropout)?),
        None => classifier.as_ref().apply(pooled),
    }
}

fn pool(pooler: &Linear<Tensor>, hidden: &Tensor) -> Result<Tensor> {
    pooler.as_ref().apply(&first_token(hidden)?)?.tanh()
}

fn first_token(hidden: &Tensor) -> Result<Tensor> {
    hidden.narrow(1, 0, 1)?.squeeze(1)
}

fn transformed(transform: &Option<Transform<Tensor>>, hidden: &Tensor, run: &mut Run) -> Result<Tensor> {
    let Some(Transform { dense, activation, norm }) = transform else { return Ok(hidden.clone()) };
    let x = dense.as_ref().apply(hidden)?;
    run.record(Site::HeadDense, &x);
    let x = activation.map_or_else(|| Ok(x.clone()), |activation| activation.apply(&x))?;
    run.record(Site::HeadActivated, &x);
    norm.as_ref().map_or(Ok(x.clone()), |norm| norm.as_ref().apply(&x))
}

//! The output head: vocabulary logits, label logits, or none.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, CrossEntropyOptions, Dropout, Linear, Loss};

use super::classifier::{ClassifierStep, Transform, first_token};
use super::describe::{Describe, Projection};
use crate::config::{Head, Pooling};
use crate::pass::Pass;
use crate::probe::Site;
use crate::spec::{Kind, Location, ParameterSpec, Part, Role};

/// The head of a model, with its parameters.
#[derive(Clone, Debug)]
pub enum HeadLayer<P> {
    /// Logits over the vocabulary.
    Vocabulary {
        /// The layers before the projection: BERT's step before its decoder.
        transform: Option<Transform<P>>,
        /// `[v, d]`; `None` if the head is tied to the token embedding.
        weight: Option<P>,
        /// `[v]`.
        bias: Option<P>,
        /// The divisor of the logits.
        divisor: f64,
        /// The soft cap c: `c · tanh(logit / c)`.
        softcap: Option<f64>,
    },
    /// Logits over labels, of one vector per row.
    Labels {
        /// Which vector of a row is read.
        pooling: Pooling,
        /// The padding's id, if pooling depends on it.
        pad_id: Option<u32>,
        /// The layers before the projection.
        step: ClassifierStep<P>,
        /// The projection to the labels.
        classifier: Linear<P>,
        /// The dropout probability on the pooled vector in training.
        dropout: f64,
    },
    /// No logits: the hidden states are the output.
    Hidden {
        /// A pooler that came with the model.
        pooler: Option<Linear<P>>,
    },
}

impl HeadLayer<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        let (d, location, part) = (c.d_hidden(), Location::Head, Part::Head);
        let linear = |name: &str, d_out: usize, bias: bool| {
            describe.linear(Projection { name, d_out, d_in: d, bias, scale: 1.0, location, part })
        };
        let vocabulary = |transform: Option<Transform<ParameterSpec>>| {
            let role = Role { location, part, kind: Kind::Matrix };
            let weight = || describe.weight("head.weight".into(), &[c.vocab_size, d], c.head_init, role);
            Self::Vocabulary {
                weight: (!c.tied_head).then(weight),
                bias: c
                    .head_bias
                    .unwrap_or(transform.is_some())
                    .then(|| describe.bias("head.bias".into(), c.vocab_size, location, part)),
                transform,
                divisor: c.logit_divisor,
                softcap: c.logit_softcap,
            }
        };
        match c.head {
            Head::NextToken => vocabulary(None),
            Head::MaskedToken => vocabulary(Some(Transform::of(describe))),
            Head::Classify { n_labels } => {
                let step = ClassifierStep::of(describe);
                Self::Labels {
                    pooling: c.pooling,
                    pad_id: c.pad_id,
                    classifier: linear("head.classifier", n_labels, !matches!(step, ClassifierStep::None)),
                    step,
                    dropout: c.dropout,
                }
            }
            Head::Hidden { pooler } => {
                Self::Hidden { pooler: pooler.then(|| linear("head.pooler", d, true)) }
            }
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
            Self::Vocabulary { transform, weight, bias, divisor, softcap } => HeadLayer::Vocabulary {
                transform: transform.as_ref().map(|transform| transform.try_map(f)).transpose()?,
                weight: weight.as_ref().map(&mut *f).transpose()?,
                bias: bias.as_ref().map(&mut *f).transpose()?,
                divisor: *divisor,
                softcap: *softcap,
            },
            Self::Labels { pooling, pad_id, step, classifier, dropout } => HeadLayer::Labels {
                pooling: *pooling,
                pad_id: *pad_id,
                step: step.try_map(f)?,
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
    /// Computes the logits; `token` is the token embedding, which a tied head uses.
    ///
    /// # Shape
    /// Hidden `[b, t, d]` to `[b, t, v]`, to `[b, n_labels]` for a classifier, or to themselves.
    pub(crate) fn logits(&self, hidden: &Tensor, token: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        match self {
            Self::Vocabulary { transform, weight, bias, divisor, softcap } => {
                let weight = weight.as_ref().unwrap_or(token);
                let read = divided(transformed(transform, hidden, pass)?, *divisor)?;
                pass.record(Site::HeadInput, &read);
                capped(ops::linear(&read, weight, bias.as_ref())?, *softcap)
            }
            Self::Labels { pooling, pad_id: _, step, classifier, dropout } => {
                let row = row_vector(hidden, *pooling)?;
                pass.record(Site::HeadRow, &row);
                let read = step.forward(&row, pass)?;
                pass.record(Site::HeadInput, &read);
                labels(&read, classifier, pass.dropout_at("head", 0, *dropout))
            }
            Self::Hidden { .. } => Ok(hidden.clone()),
        }
    }

    /// `tanh(dense(first token))`; `None` without a pooler.
    ///
    /// # Shape
    /// Hidden `[b, t, d]` to `[b, d]`.
    pub(crate) fn pooled(&self, hidden: &Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Labels { step: ClassifierStep::Pooler(pooler), .. }
            | Self::Hidden { pooler: Some(pooler) } => {
                pooler.as_ref().apply(&first_token(hidden)?)?.tanh().map(Some)
            }
            Self::Vocabulary { .. } | Self::Labels { .. } | Self::Hidden { pooler: None } => Ok(None),
        }
    }

    /// The summed cross-entropy over `targets` (`[b · t]`; for a classifier `[b]`), and the number of targets that
    /// count.
    pub(crate) fn loss(
        &self,
        hidden: &Tensor,
        token: &Tensor,
        targets: &[i64],
        options: &CrossEntropyOptions,
        pass: &Pass,
    ) -> Result<Loss> {
        match self {
            Self::Vocabulary { transform, weight, bias, divisor, softcap } => {
                let read = divided(transformed(transform, hidden, &mut Pass::inference())?, *divisor)?;
                let (hidden_nd, weight) = (read.flatten_to(1)?, weight.as_ref().unwrap_or(token));
                if softcap.is_some() {
                    let logits = ops::linear(&hidden_nd, weight, bias.as_ref())?;
                    return ops::cross_entropy(&capped(logits, *softcap)?, targets, options);
                }
                ops::lm_head(&hidden_nd, weight, bias.as_ref(), targets, options)
            }
            Self::Labels { pooling, pad_id: _, step, classifier, dropout } => {
                let read = step.forward(&row_vector(hidden, *pooling)?, &mut Pass::inference())?;
                let dropout = pass.dropout_at("head", 0, *dropout);
                ops::cross_entropy(&labels(&read, classifier, dropout)?, targets, options)
            }
            Self::Hidden { .. } => candle_core::bail!("this model has no head, so it has no loss"),
        }
    }
}

/// The vector of each row that a classifier reads: the first, or the only one if it was selected before.
fn row_vector(hidden: &Tensor, pooling: Pooling) -> Result<Tensor> {
    if pooling != Pooling::First && hidden.dim(1)? != 1 {
        candle_core::bail!(
            "this classifier reads one vector per row, which depends on the input: pass it Transformer::read_by_head"
        );
    }
    first_token(hidden)
}

/// The logits of the labels.
fn labels(pooled: &Tensor, classifier: &Linear<Tensor>, dropout: Option<Dropout>) -> Result<Tensor> {
    match dropout {
        Some(dropout) => classifier.as_ref().apply(&ops::dropout(pooled, &dropout)?),
        None => classifier.as_ref().apply(pooled),
    }
}

/// Divides the projection's input instead of the logits, which is equivalent without a bias.
fn divided(x: Tensor, divisor: f64) -> Result<Tensor> {
    if divisor == 1.0 { Ok(x) } else { x.affine(divisor.recip(), 0.0) }
}

fn capped(logits: Tensor, softcap: Option<f64>) -> Result<Tensor> {
    match softcap {
        Some(cap) => logits.affine(cap.recip(), 0.0)?.tanh()?.affine(cap, 0.0),
        None => Ok(logits),
    }
}

fn transformed(transform: &Option<Transform<Tensor>>, hidden: &Tensor, pass: &mut Pass) -> Result<Tensor> {
    transform.as_ref().map_or(Ok(hidden.clone()), |transform| transform.forward(hidden, pass))
}

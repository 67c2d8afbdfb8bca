//! The layers of a head before its final projection.

use candle_core::{Result, Tensor};
use vulpes_ops::{self as ops, Activation, Linear};

use super::describe::{Describe, Projection};
use super::norm::Norm;
use crate::config::{ClassifierKind, NormKind};
use crate::pass::Pass;
use crate::probe::Site;
use crate::spec::{Location, ParameterSpec, Part};

/// The layers of a classifier before its projection.
#[derive(Clone, Debug)]
pub enum ClassifierStep<P> {
    /// Nothing.
    None,
    /// `tanh(dense(x))`, BERT's pooler.
    Pooler(Linear<P>),
    /// `relu(dense(x))`, DistilBERT's.
    Relu(Linear<P>),
    /// The layers of the masked head.
    Transform(Transform<P>),
}

/// `norm(act(dense(x)))`, BERT's step before its decoder ([Devlin et al. 2019](https://arxiv.org/abs/1810.04805), sec.
/// 3.1; in its code `cls/predictions/transform`).
#[derive(Clone, Debug)]
pub struct Transform<P> {
    /// `[d, d]`.
    pub dense: Linear<P>,
    /// The feed-forward's activation, unless the config sets another; `None` without either.
    pub activation: Option<Activation>,
    /// Over the width of the model.
    pub norm: Option<Norm<P>>,
}

fn dense(describe: &Describe, name: &str, bias: bool) -> Linear<ParameterSpec> {
    let d = describe.config.d_hidden();
    let (location, part) = (Location::Head, Part::Head);
    describe.linear(Projection { name, d_out: d, d_in: d, bias, scale: 1.0, location, part })
}

impl ClassifierStep<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        match c.classifier {
            ClassifierKind::Plain => Self::None,
            ClassifierKind::Pooler => Self::Pooler(dense(describe, "head.pooler", c.head_dense_bias)),
            ClassifierKind::Relu => Self::Relu(dense(describe, "head.pooler", c.head_dense_bias)),
            ClassifierKind::Transform => Self::Transform(Transform::of(describe)),
        }
    }
}

impl Transform<ParameterSpec> {
    pub(super) fn of(describe: &Describe) -> Self {
        let c = describe.config;
        let kind = match c.norm {
            NormKind::LayerNoBias => NormKind::LayerNoBias,
            NormKind::None | NormKind::Layer | NormKind::Rms | NormKind::RmsBare | NormKind::RmsPlusOne => {
                NormKind::Layer
            }
        };
        let activation = c.head_activation.map(|kind| kind.activation());
        Self {
            dense: dense(describe, "head.transform", c.head_dense_bias),
            activation: activation.or(c.feed_forward.activation()),
            norm: describe.norm_of(kind, "head.norm", c.d_hidden(), Location::Head),
        }
    }
}

impl<P> ClassifierStep<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<ClassifierStep<Q>, E> {
        Ok(match self {
            Self::None => ClassifierStep::None,
            Self::Pooler(dense) => ClassifierStep::Pooler(dense.try_map(f)?),
            Self::Relu(dense) => ClassifierStep::Relu(dense.try_map(f)?),
            Self::Transform(transform) => ClassifierStep::Transform(transform.try_map(f)?),
        })
    }
}

impl<P> Transform<P> {
    /// See [`super::Layers::try_map`].
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Transform<Q>, E> {
        let Self { dense, activation, norm } = self;
        Ok(Transform {
            dense: dense.try_map(f)?,
            activation: *activation,
            norm: norm.as_ref().map(|norm| norm.try_map(f)).transpose()?,
        })
    }
}

impl ClassifierStep<Tensor> {
    /// # Shape
    /// `[b, d]` to the same.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        match self {
            Self::None => Ok(x.clone()),
            Self::Pooler(dense) => {
                let x = dense.as_ref().apply(x)?;
                pass.record(Site::HeadDense, &x);
                x.tanh()
            }
            Self::Relu(dense) => {
                let x = dense.as_ref().apply(x)?;
                pass.record(Site::HeadDense, &x);
                ops::relu(&x)
            }
            Self::Transform(transform) => transform.forward(x, pass),
        }
    }
}

impl Transform<Tensor> {
    /// # Shape
    /// `[.., d]` to the same.
    pub(super) fn forward(&self, x: &Tensor, pass: &mut Pass) -> Result<Tensor> {
        let x = self.dense.as_ref().apply(x)?;
        pass.record(Site::HeadDense, &x);
        let x = self.activation.map_or_else(|| Ok(x.clone()), |activation| activation.apply(&x))?;
        pass.record(Site::HeadActivated, &x);
        self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.apply(&x))
    }
}

/// # Shape
/// `[b, t, d]` to `[b, d]`.
pub(super) fn first_token(hidden: &Tensor) -> Result<Tensor> {
    hidden.narrow(1, 0, 1)?.squeeze(1)
}

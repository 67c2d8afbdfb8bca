//! Norms with their parameters.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

/// A norm of any kind, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm<P> {
    /// [`ops::layer_norm`].
    Layer {
        /// The scale of each element, `[d]`.
        weight: P,
        /// Added to each element, `[d]`.
        bias: Option<P>,
        /// Added to the variance.
        eps: f64,
    },
    /// [`ops::rms_norm`].
    Rms {
        /// The scale of each element, `[d]`.
        weight: P,
        /// Added to the mean square.
        eps: f64,
    },
    /// [`ops::rms_norm`] without a scale.
    RmsBare {
        /// The number of elements that are normalized together, d.
        width: usize,
        /// Added to the mean square.
        eps: f64,
    },
    /// [`ops::rms_norm`] with the scale `1 + weight` ([Gemma team 2024](https://arxiv.org/abs/2403.08295)).
    RmsPlusOne {
        /// The scale of each element minus 1, `[d]`.
        weight: P,
        /// Added to the mean square.
        eps: f64,
    },
}

impl<P> Norm<P> {
    /// The same norm with `f` applied to each parameter: the scale, then the bias.
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Norm<Q>, E> {
        Ok(match self {
            Self::Layer { weight, bias, eps } => {
                Norm::Layer { weight: f(weight)?, bias: bias.as_ref().map(f).transpose()?, eps: *eps }
            }
            Self::Rms { weight, eps } => Norm::Rms { weight: f(weight)?, eps: *eps },
            Self::RmsBare { width, eps } => Norm::RmsBare { width: *width, eps: *eps },
            Self::RmsPlusOne { weight, eps } => Norm::RmsPlusOne { weight: f(weight)?, eps: *eps },
        })
    }
}

impl Norm<Tensor> {
    /// The number of elements that are normalized together.
    pub fn width(&self) -> usize {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } | Self::RmsPlusOne { weight, .. } => {
                weight.elem_count()
            }
            Self::RmsBare { width, .. } => *width,
        }
    }

    /// The scale of each element, in the type and on the device of `like`.
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn scale(&self, like: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } => Ok(weight.clone()),
            Self::RmsPlusOne { weight, .. } => weight.affine(1.0, 1.0),
            Self::RmsBare { width, .. } => Tensor::ones(*width, like.dtype(), like.device()),
        }
    }
}

impl Norm<Tensor> {
    /// The norm in the form that operations on `x` take, its scale computed if it isn't the parameter itself.
    pub(crate) fn made(&self, x: &Tensor) -> Result<ops::Norm<Tensor>> {
        let weight = self.scale(x)?;
        Ok(match self {
            Self::Layer { weight: _, bias, eps } => {
                ops::Norm::Layer { weight, bias: bias.clone(), eps: *eps }
            }
            Self::Rms { eps, .. } | Self::RmsBare { eps, .. } | Self::RmsPlusOne { eps, .. } => {
                ops::Norm::Rms { weight, eps: *eps }
            }
        })
    }

    /// The norm of each row.
    ///
    /// # Errors
    /// Returns an error if the widths don't match.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.made(x)?.as_ref().apply(x)
    }
}

/// [`Norm::made`] of an optional norm.
pub(crate) fn made(norm: Option<&Norm<Tensor>>, x: &Tensor) -> Result<Option<ops::Norm<Tensor>>> {
    norm.map(|norm| norm.made(x)).transpose()
}

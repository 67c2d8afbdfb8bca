//! Norms, as the floor plan has them.

use candle_core::{Result, Tensor};
use vulpes_ops as ops;

/// Which norm, with its parameters.
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
    /// [`ops::rms_norm`] with the scale `1 + weight` ([Gemma team 2024](https://arxiv.org/abs/2403.08295)).
    RmsPlusOne {
        /// What the scale of each element has above 1, `[d]`.
        weight: P,
        /// Added to the mean square.
        eps: f64,
    },
}

impl<P> Norm<P> {
    /// The same norm with `f` of each parameter: the scale, then the bias.
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
            Self::RmsPlusOne { weight, eps } => Norm::RmsPlusOne { weight: f(weight)?, eps: *eps },
        })
    }
}

impl Norm<Tensor> {
    /// The norm as an operation has it, its scale made where it isn't the parameter itself.
    pub(crate) fn made(&self) -> Result<ops::Norm<Tensor>> {
        Ok(match self {
            Self::Layer { weight, bias, eps } => {
                ops::Norm::Layer { weight: weight.clone(), bias: bias.clone(), eps: *eps }
            }
            Self::Rms { weight, eps } => ops::Norm::Rms { weight: weight.clone(), eps: *eps },
            Self::RmsPlusOne { weight, eps } => {
                ops::Norm::Rms { weight: weight.affine(1.0, 1.0)?, eps: *eps }
            }
        })
    }

    /// The norm of each row.
    ///
    /// # Errors
    /// Returns an error if the widths don't fit together.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        self.made()?.as_ref().apply(x)
    }
}

/// [`Norm::made`] of a norm that may not be there.
pub(crate) fn made(norm: Option<&Norm<Tensor>>) -> Result<Option<ops::Norm<Tensor>>> {
    norm.map(Norm::made).transpose()
}

//! Parts that the sublayers and the model share: a projection's and a norm's parameters, tables of rotary positions.
//!
//! [`Linear`] and [`Norm`] are generic over what a parameter is: a reference to a tensor as an argument, a tensor where
//! they are kept, a description or packed numbers elsewhere.

use candle_core::{Result, Tensor};

use crate::linear::linear;
use crate::linear::reference::linear as linear_reference;
use crate::norm::reference::{layer_norm as layer_norm_reference, rms_norm as rms_norm_reference};
use crate::norm::{layer_norm, rms_norm};

/// The parameters of a linear projection `x Wᵀ + b`: weight `[o, i]`, bias `[o]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear<P> {
    /// One output per row.
    pub weight: P,
    /// Added to each output.
    pub bias: Option<P>,
}

impl<P> Linear<P> {
    /// The same projection with references to its parameters.
    pub fn as_ref(&self) -> Linear<&P> {
        Linear { weight: &self.weight, bias: self.bias.as_ref() }
    }

    /// The same projection with `f` of each parameter: the weight, then the bias.
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Linear<Q>, E> {
        let Self { weight, bias } = self;
        Ok(Linear { weight: f(weight)?, bias: bias.as_ref().map(f).transpose()? })
    }
}

impl<'a> Linear<&'a Tensor> {
    /// `x Wᵀ + b`.
    ///
    /// # Errors
    /// Returns an error if the widths don't fit together.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        linear(x, self.weight, self.bias)
    }

    /// The projection in plain candle operations.
    pub(crate) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        linear_reference(x, self.weight, self.bias)
    }

    /// The parameters, in the order of their gradients.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        std::iter::once(self.weight).chain(self.bias)
    }

    /// The projection for a node to keep.
    pub(crate) fn owned(&self) -> Linear<Tensor> {
        Linear { weight: self.weight.clone(), bias: self.bias.cloned() }
    }
}

/// Which norm, with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm<P> {
    /// [`layer_norm`].
    Layer {
        /// The scale of each element, `[d]`.
        weight: P,
        /// Added to each element, `[d]`.
        bias: Option<P>,
        /// Added to the variance.
        eps: f64,
    },
    /// [`rms_norm`].
    Rms {
        /// The scale of each element, `[d]`.
        weight: P,
        /// Added to the mean square.
        eps: f64,
    },
}

impl<P> Norm<P> {
    /// The same norm with references to its parameters.
    pub fn as_ref(&self) -> Norm<&P> {
        match self {
            Self::Layer { weight, bias, eps } => Norm::Layer { weight, bias: bias.as_ref(), eps: *eps },
            Self::Rms { weight, eps } => Norm::Rms { weight, eps: *eps },
        }
    }

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
        })
    }
}

impl<'a> Norm<&'a Tensor> {
    /// The norm of each row.
    ///
    /// # Errors
    /// Those of [`layer_norm`] and [`rms_norm`].
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Layer { weight, bias, eps } => layer_norm(x, weight, bias, eps),
            Self::Rms { weight, eps } => rms_norm(x, weight, eps),
        }
    }

    /// The number of elements that are normed together.
    pub(crate) fn width(&self) -> Result<usize> {
        match *self {
            Self::Layer { weight, .. } | Self::Rms { weight, .. } => weight.dims1(),
        }
    }

    /// The norm in plain candle operations.
    pub(crate) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Layer { weight, bias, eps } => layer_norm_reference(x, weight, bias, eps),
            Self::Rms { weight, eps } => rms_norm_reference(x, weight, eps),
        }
    }

    /// The parameters, in the order of their gradients.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let (weight, bias) = match *self {
            Self::Layer { weight, bias, .. } => (weight, bias),
            Self::Rms { weight, .. } => (weight, None),
        };
        std::iter::once(weight).chain(bias)
    }
}

/// The tables of [`crate::rotary()`], and the position of each token.
#[derive(Clone, Copy, Debug)]
pub struct RotaryTables<'a> {
    /// Cosines, `[positions, k/2]`.
    pub cos: &'a Tensor,
    /// Sines, `[positions, k/2]`.
    pub sin: &'a Tensor,
    /// u32 `[b, t]`; without it the position in the sequence.
    pub positions: Option<&'a Tensor>,
}

//! Parameters of projections, adapters and norms, and rotary tables, as sublayers and model share them.
//!
//! [`Linear`] and [`Norm`] are generic over the parameter type: a reference to a tensor as an argument, a tensor where
//! they are kept, a description or packed values elsewhere.

use candle_core::{Result, Tensor, bail};

use crate::dropout::Dropout;
use crate::norm::reference::{layer_norm as layer_norm_reference, rms_norm as rms_norm_reference};
use crate::norm::{layer_norm, rms_norm};

/// The parameters of a linear projection `x Wᵀ + b`: weight `[o, i]`, bias `[o]`, and an optional adapter
/// ([`crate::adapted_linear`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear<P> {
    /// One row per output.
    pub weight: P,
    /// Added to each output.
    pub bias: Option<P>,
    /// A low-rank change of it.
    pub adapter: Option<Adapter<P>>,
}

impl<P> Linear<P> {
    /// The same projection with references to its parameters.
    pub fn as_ref(&self) -> Linear<&P> {
        Linear {
            weight: &self.weight,
            bias: self.bias.as_ref(),
            adapter: self.adapter.as_ref().map(Adapter::as_ref),
        }
    }

    /// The same projection with `f` applied to each parameter: the weight, the bias, then those of the adapter.
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Linear<Q>, E> {
        let Self { weight, bias, adapter } = self;
        Ok(Linear {
            weight: f(weight)?,
            bias: bias.as_ref().map(&mut *f).transpose()?,
            adapter: adapter.as_ref().map(|adapter| adapter.try_map(f)).transpose()?,
        })
    }
}

impl<'a> Linear<&'a Tensor> {
    /// The parameters, in the order of their gradients.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let of_adapter = self.adapter.into_iter().flat_map(|adapter| adapter.inputs());
        std::iter::once(self.weight).chain(self.bias).chain(of_adapter)
    }

    /// An owned copy for a node to keep.
    pub(crate) fn owned(&self) -> Linear<Tensor> {
        Linear {
            weight: self.weight.clone(),
            bias: self.bias.cloned(),
            adapter: self.adapter.map(|adapter| adapter.owned()),
        }
    }
}

/// A low-rank change of a projection ([Hu et al. 2021](https://arxiv.org/abs/2106.09685)), optionally with a magnitude
/// per output ([Liu et al. 2024](https://arxiv.org/abs/2402.09353)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter<P> {
    /// The down projection to the rank, `[r, i]`.
    pub a: P,
    /// The up projection, `[o, r]`.
    pub b: P,
    /// The length of each row of the adapted weight, `[o]`.
    pub magnitude: Option<P>,
    /// The factor on `B A`.
    pub scale: f64,
    /// Keys the dropout mask: those of a sublayer's adapters that share `a` have the same number.
    pub draw: u64,
}

impl<P> Adapter<P> {
    /// The same adapter with references to its parameters.
    pub fn as_ref(&self) -> Adapter<&P> {
        let Self { a, b, magnitude, scale, draw } = self;
        Adapter { a, b, magnitude: magnitude.as_ref(), scale: *scale, draw: *draw }
    }

    /// The same adapter with `f` applied to each parameter: A, B, then the magnitude.
    ///
    /// # Errors
    /// Returns the first error of `f`.
    pub fn try_map<'a, Q, E>(
        &'a self,
        f: &mut impl FnMut(&'a P) -> std::result::Result<Q, E>,
    ) -> std::result::Result<Adapter<Q>, E> {
        let Self { a, b, magnitude, scale, draw } = self;
        Ok(Adapter {
            a: f(a)?,
            b: f(b)?,
            magnitude: magnitude.as_ref().map(f).transpose()?,
            scale: *scale,
            draw: *draw,
        })
    }
}

impl<'a> Adapter<&'a Tensor> {
    /// The parameters, in the order of their gradients.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        [self.a, self.b].into_iter().chain(self.magnitude)
    }

    /// An owned copy for a node to keep.
    pub(crate) fn owned(&self) -> Adapter<Tensor> {
        let Self { a, b, magnitude, scale, draw } = *self;
        Adapter { a: a.clone(), b: b.clone(), magnitude: magnitude.cloned(), scale, draw }
    }

    /// The dropout of this adapter, derived from that of all adapters of a sublayer; `None` if nothing is dropped.
    pub(crate) fn dropout(&self, of_all: Option<&Dropout>) -> Option<Dropout> {
        let of_all = of_all.filter(|rule| rule.p > 0.0)?;
        Some(Dropout { key: of_all.key.with(&self.draw), ..of_all.clone() })
    }

    /// Checks that the adapter fits a weight `[o, i]`.
    pub(crate) fn check(&self, (o, i): (usize, usize)) -> Result<()> {
        let ((rank, down), (up, rank_of_b)) = (self.a.dims2()?, self.b.dims2()?);
        let magnitude_fits = self.magnitude.is_none_or(|magnitude| magnitude.dims() == [o]);
        if down != i || up != o || rank != rank_of_b || !magnitude_fits {
            bail!(
                "adapter: A {:?}, B {:?} and magnitude {:?} don't fit a weight of [{o}, {i}]",
                self.a.dims(),
                self.b.dims(),
                self.magnitude.map(Tensor::dims)
            );
        }
        Ok(())
    }
}

/// A norm of either kind, with its parameters.
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
        })
    }
}

impl<'a> Norm<&'a Tensor> {
    /// The norm of each row.
    ///
    /// # Errors
    /// As [`layer_norm`] and [`rms_norm`].
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Layer { weight, bias, eps } => layer_norm(x, weight, bias, eps),
            Self::Rms { weight, eps } => rms_norm(x, weight, eps),
        }
    }

    /// The number of elements that are normalized together.
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
    /// u32 `[b, t]`; by default the index in the sequence.
    pub positions: Option<&'a Tensor>,
}

//! What the sublayers are told about their parts: projections, norms, position tables.

use crate::kernel::Float;
use crate::kernel::read::{buffer, with_option};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::norm::cpu::{self, Statistics};
use crate::{Dropout, dropout, layer_norm, linear, norm, reference, rms_norm};
use candle_core::{Result, Tensor};

/// A linear projection's parameters: weight `[o, i]`, bias `[o]`.
#[derive(Clone, Copy, Debug)]
pub struct Projection<'a> {
    /// One output a row.
    pub weight: &'a Tensor,
    /// Added to each output.
    pub bias: Option<&'a Tensor>,
}

/// Which norm, with its parameters.
#[derive(Clone, Copy, Debug)]
pub enum Norm<'a> {
    /// [`layer_norm`].
    Layer {
        /// The scale of each element, `[d]`.
        weight: &'a Tensor,
        /// Added to each element, `[d]`.
        bias: Option<&'a Tensor>,
        /// Added to the variance.
        eps: f64,
    },
    /// [`rms_norm`].
    Rms {
        /// The scale of each element, `[d]`.
        weight: &'a Tensor,
        /// Added to the mean square.
        eps: f64,
    },
}

/// The tables of [`crate::rotary()`], and the place of each token.
#[derive(Clone, Copy, Debug)]
pub struct RotaryTables<'a> {
    /// Cosines, [positions, k/2].
    pub cos: &'a Tensor,
    /// Sines, [positions, k/2].
    pub sin: &'a Tensor,
    /// u32 [b, t]; without it the place in the sequence.
    pub positions: Option<&'a Tensor>,
}

impl<'a> Projection<'a> {
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        std::iter::once(self.weight).chain(self.bias)
    }

    /// The projection in plain candle operations.
    pub(crate) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        linear::reference::linear(x, self.weight, self.bias)
    }

    /// The projection's own node, for what has no kernel of its own.
    pub(crate) fn owned(&self) -> OwnedProjection {
        OwnedProjection { weight: self.weight.clone(), bias: self.bias.cloned() }
    }
}

/// A [`Projection`] that a node keeps.
#[derive(Clone, Debug)]
pub(crate) struct OwnedProjection {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl<'a> Norm<'a> {
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let (weight, bias) = self.parameters();
        std::iter::once(weight).chain(bias)
    }

    fn parameters(&self) -> (&'a Tensor, Option<&'a Tensor>) {
        match *self {
            Self::Layer { weight, bias, .. } => (weight, bias),
            Self::Rms { weight, .. } => (weight, None),
        }
    }

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

    /// The norm in plain candle operations.
    pub(crate) fn reference(&self, x: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Layer { weight, bias, eps } => norm::reference::layer_norm(x, weight, bias, eps),
            Self::Rms { weight, eps } => norm::reference::rms_norm(x, weight, eps),
        }
    }

    pub(crate) fn check(&self, x: &Tensor) -> Result<()> {
        let (weight, bias) = self.parameters();
        norm::reference::check("norm", x, weight, bias)
    }

    /// The normed rows, and what the backward pass needs to make them again.
    pub(crate) fn forward<T: Float>(&self, x: &[T]) -> Result<(Scratch<T>, KeptNorm<T>)> {
        let (weight, bias) = self.parameters();
        let (eps, center) = match *self {
            Self::Layer { eps, .. } => (eps, true),
            Self::Rms { eps, .. } => (eps, false),
        };
        let mut y = scratch::<T>(x.len());
        let statistics = crate::kernel::read::with(weight, |weight: &[T]| {
            with_option(bias, |bias| Ok(cpu::forward(x, weight, bias, eps, center, &mut y)))
        })?;
        Ok((y, KeptNorm { weight: weight.clone(), bias: bias.cloned(), center, statistics }))
    }
}

/// A norm's parameters and statistics, kept for the backward pass.
#[derive(Clone, Debug)]
pub(crate) struct KeptNorm<T> {
    weight: Tensor,
    bias: Option<Tensor>,
    center: bool,
    statistics: Statistics<T>,
}

impl<T: Float> KeptNorm<T> {
    /// The normed rows again.
    pub(crate) fn again(&self, x: &[T]) -> Result<Scratch<T>> {
        let mut y = scratch::<T>(x.len());
        crate::kernel::read::with(&self.weight, |weight: &[T]| {
            with_option(self.bias.as_ref(), |bias| {
                cpu::again(x, weight, bias, &self.statistics, &mut y);
                Ok(())
            })
        })?;
        Ok(y)
    }

    /// Adds the gradient of `x` to `dx`; gives those of the parameters, in the order of [`Norm::inputs`].
    pub(crate) fn backward(&self, x: &[T], dy: &[T], dx: &mut [T]) -> Result<Vec<Option<Tensor>>> {
        let shares = crate::kernel::read::with(&self.weight, |weight: &[T]| {
            Ok(cpu::backward(x, weight, &self.statistics, self.center, dy, dx))
        })?;
        let (dweight, dbias) = cpu::parameters(&shares, &self.weight, self.bias.as_ref())?;
        Ok(std::iter::once(dweight).chain(self.bias.as_ref().map(|_| dbias)).collect())
    }
}

/// The rows that a sublayer works on: x itself, or its norm.
pub(crate) fn normed<'x, T: Float>(
    norm: Option<Norm<'_>>,
    x: &'x [T],
) -> Result<(Values<'x, T>, Option<KeptNorm<T>>)> {
    match norm {
        Some(norm) => norm.forward(x).map(|(rows, kept)| (Values::Owned(rows), Some(kept))),
        None => Ok((Values::Borrowed(x), None)),
    }
}

/// [`normed`] again, in the backward pass.
pub(crate) fn normed_again<'x, T: Float>(norm: Option<&KeptNorm<T>>, x: &'x [T]) -> Result<Values<'x, T>> {
    norm.map_or(Ok(Values::Borrowed(x)), |norm| norm.again(x).map(Values::Owned))
}

/// `x + dropout(y)`, in plain candle operations.
pub(crate) fn add_reference(x: Option<&Tensor>, y: Tensor, rule: Option<&Dropout>) -> Result<Tensor> {
    let y = match rule {
        Some(rule) => reference::dropout(&y, rule)?,
        None => y,
    };
    match x {
        Some(x) => x + y,
        None => Ok(y),
    }
}

/// The end of a sublayer: `[x +] dropout(inner Wᵀ + b)`.
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) projection: OwnedProjection,
    pub(crate) residual: bool,
    pub(crate) dropout: Option<Dropout>,
    /// The first dimension of x, whose rows dropout counts.
    pub(crate) rows: usize,
}

impl Ending {
    /// # Shape
    /// x [n, o], inner [n, i] → [n, o].
    pub(crate) fn forward<T: Float>(&self, x: &[T], inner: &[T], n: usize) -> Result<Vec<T>> {
        let (o, i) = self.projection.weight.dims2()?;
        let mut y = buffer::<T>(n * o);
        crate::kernel::read::with(&self.projection.weight, |weight: &[T]| {
            with_option(self.projection.bias.as_ref(), |bias| {
                if self.dropout.is_none() && self.residual {
                    y.copy_from_slice(x);
                    if let Some(bias) = bias {
                        crate::kernel::elementwise::add_bias(&mut y, bias);
                    }
                    linear::cpu::product(
                        inner,
                        (n, i, o),
                        weight,
                        &mut y,
                        o,
                        crate::kernel::matmul::Write::Add,
                    );
                    return Ok(y);
                }
                linear::cpu::forward(inner, (n, i, o), weight, bias, &mut y, o);
                Ok(match &self.dropout {
                    Some(rule) => {
                        let mut dropped = buffer::<T>(n * o);
                        let base = self.residual.then_some(x);
                        dropout::cpu::apply(rule, self.rows, &y, base, &mut dropped);
                        dropped
                    }
                    None => y,
                })
            })
        })
    }

    /// The gradient of the projection's result.
    pub(crate) fn dprojected<'d, T: Float>(&self, dy: &'d [T]) -> Values<'d, T> {
        match &self.dropout {
            Some(rule) => {
                let mut dropped = scratch::<T>(dy.len());
                dropout::cpu::apply(rule, self.rows, dy, None, &mut dropped);
                Values::Owned(dropped)
            }
            None => Values::Borrowed(dy),
        }
    }

    /// What the gradient of x starts from: the residual's share.
    pub(crate) fn dx<T: Float>(&self, dy: &[T], len: usize) -> Vec<T> {
        if self.residual { dy.to_vec() } else { buffer(len) }
    }
}

//! What the fused sublayers have in common on the CPU: the norm before them, the projection after them, and the
//! backward pass from the projections' outputs to x.

use candle_core::{Result, Tensor};

use crate::dropout::{self, Dropout};
use crate::kernel::elementwise;
use crate::kernel::float::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_option};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::linear::cpu::{forward, input, parameters, product};
use crate::norm::cpu::{self as norm, Statistics};
use crate::norm::reference::check;
use crate::parts::{Linear, Norm};
use crate::tape::InputGradients;

/// Checks that a norm fits x.
pub(crate) fn check_norm(norm: &Norm<&Tensor>, x: &Tensor) -> Result<()> {
    match *norm {
        Norm::Layer { weight, bias, .. } => check("norm", x, weight, bias),
        Norm::Rms { weight, .. } => check("norm", x, weight, None),
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
    /// The normed rows, and what the backward pass needs to recompute them.
    pub(crate) fn forward(norm: &Norm<&Tensor>, x: &[T]) -> Result<(Scratch<T>, Self)> {
        let (weight, bias, eps, center) = match *norm {
            Norm::Layer { weight, bias, eps } => (weight, bias, eps, true),
            Norm::Rms { weight, eps } => (weight, None, eps, false),
        };
        let mut y = scratch::<T>(x.len());
        let statistics = with(weight, |weight: &[T]| {
            with_option(bias, |bias| Ok(norm::forward(x, weight, bias, eps, center, &mut y)))
        })?;
        Ok((y, Self { weight: weight.clone(), bias: bias.cloned(), center, statistics }))
    }

    /// The normed rows once more.
    fn recompute(&self, x: &[T]) -> Result<Scratch<T>> {
        let mut y = scratch::<T>(x.len());
        with(&self.weight, |weight: &[T]| {
            with_option(self.bias.as_ref(), |bias| {
                norm::again(x, weight, bias, &self.statistics, &mut y);
                Ok(())
            })
        })?;
        Ok(y)
    }

    /// Adds the gradient of `x` to `dx`, and returns those of the parameters.
    pub(crate) fn backward(&self, x: &[T], dy: &[T], dx: &mut [T]) -> Result<InputGradients> {
        let shares = with(&self.weight, |weight: &[T]| {
            Ok(norm::backward(x, weight, &self.statistics, self.center, dy, dx))
        })?;
        let (dweight, dbias) = norm::parameters(&shares, &self.weight, self.bias.as_ref())?;
        Ok(std::iter::once(dweight).chain(self.bias.as_ref().map(|_| dbias)).collect())
    }
}

/// The rows that a sublayer works on: x itself, or its norm.
pub(crate) fn normed<'x, T: Float>(
    norm: Option<Norm<&Tensor>>,
    x: &'x [T],
) -> Result<(Values<'x, T>, Option<KeptNorm<T>>)> {
    match norm {
        Some(norm) => KeptNorm::forward(&norm, x).map(|(rows, kept)| (Values::Owned(rows), Some(kept))),
        None => Ok((Values::Borrowed(x), None)),
    }
}

/// `x + dropout(y)`, in plain candle operations.
pub(crate) fn add_reference(x: Option<&Tensor>, y: Tensor, rule: Option<&Dropout>) -> Result<Tensor> {
    let y = match rule {
        Some(rule) => dropout::reference::dropout(&y, rule)?,
        None => y,
    };
    match x {
        Some(x) => x + y,
        None => Ok(y),
    }
}

/// The end of a sublayer: `[x +] dropout(inner Wᵀ + b)`.
#[derive(Clone, Debug)]
pub(crate) struct OutputProjection {
    pub(crate) projection: Linear<Tensor>,
    pub(crate) residual: bool,
    pub(crate) dropout: Option<Dropout>,
    /// The first dimension of x, whose rows dropout counts.
    pub(crate) rows: usize,
}

impl OutputProjection {
    /// # Shape
    /// x [n, o], inner [n, i] → [n, o].
    pub(crate) fn forward<T: Float>(&self, x: &[T], inner: &[T], n: usize) -> Result<Vec<T>> {
        let (o, i) = self.projection.weight.dims2()?;
        let mut y = buffer::<T>(n * o);
        with(&self.projection.weight, |weight: &[T]| {
            with_option(self.projection.bias.as_ref(), |bias| {
                if self.dropout.is_none() && self.residual {
                    y.copy_from_slice(x);
                    if let Some(bias) = bias {
                        elementwise::add_bias(&mut y, bias);
                    }
                    product(inner, (n, i, o), weight, &mut y, o, Write::Add);
                    return Ok(y);
                }
                forward(inner, (n, i, o), weight, bias, &mut y, o);
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
}

/// A projection from the normed rows, with the gradient of what it put out: `width` numbers of each row of `douts`,
/// whose rows are `stride` numbers apart.
pub(crate) struct Side<'a, T: Float> {
    pub(crate) projection: &'a Linear<Tensor>,
    /// Given back as soon as it is used, so that another thread may work in it.
    pub(crate) douts: Values<'a, T>,
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

/// The last part of a sublayer's backward pass: from the outputs of its first projections, through the norm, to x.
///
/// Returns the gradients of x, of the norm's parameters, and of each side's weight and bias, in this order: that of a
/// sublayer's inputs.
pub(crate) fn backward_to_x<'a, T: Float>(
    x: &Tensor,
    values: &[T],
    norm: Option<&KeptNorm<T>>,
    sides: impl IntoIterator<Item = Side<'a, T>>,
    residual: Option<&[T]>,
) -> Result<InputGradients> {
    let d = x.dims().last().copied().unwrap_or(0);
    let n = values.len().checked_div(d).unwrap_or(0);
    let rows = match norm {
        Some(norm) => Values::Owned(norm.recompute(values)?),
        None => Values::Borrowed(values),
    };
    let mut dx = residual.map_or_else(|| buffer(values.len()), <[T]>::to_vec);
    let mut drows = scratch::<T>(if norm.is_some() { n * d } else { 0 });
    let mut write = if norm.is_some() { Write::Store } else { Write::Add };
    let mut of_sides = Vec::new();
    for Side { projection: Linear { weight, bias }, douts, stride, width } in sides {
        let sizes = (n, d, width);
        let (dweight, dbias) = parameters(&rows, sizes, &douts, stride, weight, bias.as_ref())?;
        of_sides.push(dweight);
        of_sides.extend(bias.as_ref().map(|_| dbias));
        let to: &mut [T] = if norm.is_some() { &mut drows } else { &mut dx };
        with(weight, |weight: &[T]| {
            input(&douts, stride, sizes, weight, to, write);
            Ok(())
        })?;
        write = Write::Add;
    }
    let of_norm = norm.map_or_else(|| Ok(Vec::new()), |norm| norm.backward(values, &drows, &mut dx))?;
    let mut found = vec![Some(tensor(dx, x.shape())?)];
    found.extend(of_norm);
    found.extend(of_sides);
    Ok(found)
}

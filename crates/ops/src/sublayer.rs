//! Common parts of the fused sublayers on the CPU: input norm, output projection, and the backward pass to x.

use candle_core::{Result, Tensor};

use crate::dropout::{self, Dropout};
use crate::kernel::elementwise;
use crate::kernel::float::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_option};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::linear::adapted::cpu::{Applied, Incoming};
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
    /// The normalized rows, and what the backward pass needs to recompute them.
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

    /// Whether any of its parameters is trained.
    fn is_learned(&self) -> bool {
        self.weight.track_op() || self.bias.as_ref().is_some_and(Tensor::track_op)
    }

    /// The result of [`KeptNorm::backward`] if nothing is trained.
    fn no_gradients(&self) -> InputGradients {
        self.bias.iter().chain([&self.weight]).map(|_| None).collect()
    }

    /// The recomputed normalized rows.
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

/// The input rows of a sublayer: x itself, or its norm.
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutputProjection<'a> {
    pub(crate) projection: Linear<&'a Tensor>,
    pub(crate) residual: bool,
    pub(crate) dropout: Option<&'a Dropout>,
    /// The dropout on the input of the projection's adapter.
    pub(crate) adapter_dropout: Option<&'a Dropout>,
    /// The first dimension of x, whose rows dropout counts.
    pub(crate) rows: usize,
}

/// The applied output projection, for the backward pass.
pub(crate) struct OutputApplied<T: Float> {
    pub(crate) applied: Applied<T>,
    pub(crate) residual: bool,
    dropout: Option<Dropout>,
    rows: usize,
}

impl OutputProjection<'_> {
    /// # Shape
    /// x [n, o], inner [n, i] → [n, o].
    pub(crate) fn forward<T: Float>(
        &self,
        x: &[T],
        inner: &[T],
        n: usize,
    ) -> Result<(Vec<T>, OutputApplied<T>)> {
        let Self { projection, residual, rows, .. } = *self;
        let dropout = self.dropout.filter(|dropout| dropout.p > 0.0);
        let o = projection.weight.dim(0)?;
        // A magnitude applies to the projection's output, not to the residual stream.
        let adds = dropout.is_none()
            && residual
            && projection.adapter.is_none_or(|adapter| adapter.magnitude.is_none());
        let mut y = if adds { x.to_vec() } else { buffer(n * o) };
        let (mut y, applied) = with_option(projection.bias, |bias| {
            if adds {
                bias.iter().for_each(|bias| elementwise::add_bias(&mut y, bias));
            }
            let write = if adds { Write::Add } else { Write::Store };
            let out = (&mut y[..], o, write);
            let applied = Applied::forward(projection, self.adapter_dropout, inner, (n, rows), out)?;
            if !adds {
                bias.iter().for_each(|bias| elementwise::add_bias(&mut y, bias));
            }
            Ok((y, applied))
        })?;
        match dropout {
            Some(rule) => {
                let mut dropped = buffer::<T>(n * o);
                dropout::cpu::apply(rule, rows, &y, residual.then_some(x), &mut dropped);
                y = dropped;
            }
            None if residual && !adds => elementwise::add_to(&mut y, x),
            None => {}
        }
        Ok((y, OutputApplied { applied, residual, dropout: dropout.cloned(), rows }))
    }
}

impl<T: Float> OutputApplied<T> {
    /// The gradient of the projection's output.
    pub(crate) fn incoming<'d>(&self, dy: &'d [T], n: usize) -> Result<Incoming<'d, T>> {
        let dprojected = match &self.dropout {
            Some(rule) => {
                let mut dropped = scratch::<T>(dy.len());
                dropout::cpu::apply(rule, self.rows, dy, None, &mut dropped);
                Values::Owned(dropped)
            }
            None => Values::Borrowed(dy),
        };
        self.applied.incoming(dprojected, self.applied.projection.weight.dim(0)?, n)
    }
}

/// A projection of the normalized rows, with the gradient of its output, whose rows are `stride` elements apart.
pub(crate) struct Side<'a, T: Float> {
    pub(crate) applied: &'a Applied<T>,
    /// Released as soon as it is used, so that another thread can reuse it.
    pub(crate) douts: Values<'a, T>,
    pub(crate) stride: usize,
}

/// The last part of a sublayer's backward pass: from the outputs of its first projections, through the norm, to x.
///
/// Returns the gradients of x, of the norm's parameters, and of each side's parameters, in the order of a sublayer's
/// inputs.
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
    // With an adapter, nothing that the first block reads is trained.
    let is_wanted = x.track_op() || norm.is_some_and(KeptNorm::is_learned);
    let mut dx = residual.map_or_else(|| buffer(values.len()), <[T]>::to_vec);
    let mut drows = scratch::<T>(if norm.is_some() { n * d } else { 0 });
    let mut write = if norm.is_some() { Write::Store } else { Write::Add };
    let mut of_sides = Vec::new();
    for Side { applied, douts, stride } in sides {
        let incoming = applied.incoming(douts, stride, n)?;
        of_sides.extend(applied.parameters(&incoming, &rows, n)?);
        if is_wanted {
            let to: &mut [T] = if norm.is_some() { &mut drows } else { &mut dx };
            applied.input(&incoming, n, to, write)?;
            write = Write::Add;
        }
    }
    let of_norm = match norm {
        Some(norm) if is_wanted => norm.backward(values, &drows, &mut dx)?,
        Some(norm) => norm.no_gradients(),
        None => Vec::new(),
    };
    let mut found = vec![if is_wanted { Some(tensor(dx, x.shape())?) } else { None }];
    found.extend(of_norm);
    found.extend(of_sides);
    Ok(found)
}

//! The feed-forward sublayer on the CPU.

use super::FeedForward;
use crate::activation::Activation;
use crate::activation::cpu::{gated_slopes, gated_values, slopes, values, values_of_biased};
use crate::kernel::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{with, with_option, with2};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::linear::cpu::{forward, input, parameters, product};
use crate::parts::Linear;
use crate::sublayer::{KeptNorm, OutputProjection, Side, backward_to_x, normed};
use crate::tape::{self, InputGradients};
use candle_core::{Result, Tensor};

/// What the node keeps for its backward pass.
struct Kept<T: Float> {
    x: Tensor,
    norm: Option<KeptNorm<T>>,
    gate: Option<(Linear<Tensor>, Scratch<T>)>,
    up: (Linear<Tensor>, Scratch<T>),
    activation: Activation,
    down: OutputProjection,
    /// Rows, width between the projections.
    sizes: (usize, usize),
}

pub(super) fn node<T: Float>(x: &Tensor, parts: &FeedForward, inputs: &[&Tensor]) -> Result<Tensor> {
    let (f, d) = parts.up.weight.dims2()?;
    let n = x.elem_count() / d.max(1);
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = parts.down.weight.dim(0)?;
    }
    let down = OutputProjection {
        projection: parts.down.owned(),
        residual: parts.residual,
        dropout: parts.dropout.filter(|dropout| dropout.p > 0.0).cloned(),
        rows: x.dim(0)?,
    };
    let (y, kept) = with(x, |values_of_x: &[T]| {
        let (rows, norm) = normed(parts.norm, values_of_x)?;
        let mut inner = scratch::<T>(n * f);
        let (gate, up) = match parts.gate {
            Some(gate) => {
                let held = (project(&rows, (n, d, f), gate)?, project(&rows, (n, d, f), parts.up)?);
                gated_values(parts.activation, &held.0, &held.1, &mut inner);
                (Some((gate.owned(), held.0)), held.1)
            }
            None => (None, activated(&rows, (n, d, f), parts, &mut inner)?),
        };
        let y = down.forward(values_of_x, &inner, n)?;
        let up = (parts.up.owned(), up);
        let activation = parts.activation;
        Ok((y, Kept { x: x.clone(), norm, gate, up, activation, down, sizes: (n, f) }))
    })?;
    tape::record(inputs, y, shape, move |dy| kept.backward(dy))
}

fn project<T: Float>(
    rows: &[T],
    sizes: (usize, usize, usize),
    projection: Linear<&Tensor>,
) -> Result<Scratch<T>> {
    let mut out = scratch::<T>(sizes.0 * sizes.2);
    with(projection.weight, |weight: &[T]| {
        with_option(projection.bias, |bias| {
            forward(rows, sizes, weight, bias, &mut out, sizes.2);
            Ok(())
        })
    })?;
    Ok(out)
}

/// The wider layer before its activation, and in `inner` after it.
fn activated<T: Float>(
    rows: &[T],
    sizes: (usize, usize, usize),
    parts: &FeedForward,
    inner: &mut [T],
) -> Result<Scratch<T>> {
    let mut up = scratch::<T>(inner.len());
    with(parts.up.weight, |weight: &[T]| {
        with_option(parts.up.bias, |bias| {
            product(rows, sizes, weight, &mut up, sizes.2, Write::Store);
            match bias {
                Some(bias) => values_of_biased(parts.activation, &mut up, bias, inner),
                None => values(parts.activation, &up, inner),
            }
            Ok(())
        })
    })?;
    Ok(up)
}

impl<T: Float> Kept<T> {
    fn backward(&self, dy: &Tensor) -> Result<InputGradients> {
        with2(&self.x, dy, |x: &[T], dy: &[T]| {
            let (n, f) = self.sizes;
            let down = &self.down.projection;
            let o = down.weight.dim(0)?;
            let dprojected = self.down.dprojected(dy);
            let (mut inner, mut dup) = (scratch::<T>(n * f), scratch::<T>(n * f));
            with(&down.weight, |weight: &[T]| {
                input(&dprojected, o, (n, f, o), weight, &mut dup, Write::Store);
                Ok(())
            })?;
            let dgate = match &self.gate {
                Some((_, gate)) => {
                    let mut dgate = scratch::<T>(n * f);
                    let inner = Some(&mut inner[..]);
                    gated_slopes(self.activation, gate, &self.up.1, inner, &mut dgate, &mut dup);
                    Some(dgate)
                }
                None => {
                    slopes(self.activation, &self.up.1, Some(&mut inner), &mut dup);
                    None
                }
            };
            let of_down = parameters(&inner, (n, f, o), &dprojected, o, &down.weight, down.bias.as_ref())?;
            drop(inner);
            let side = |projection, douts| {
                let douts = Values::Owned(douts);
                Side { projection, douts, stride: f, width: f }
            };
            let of_gate = self.gate.as_ref().zip(dgate).map(|((gate, _), dgate)| side(gate, dgate));
            let sides = of_gate.into_iter().chain([side(&self.up.0, dup)]);
            let residual = self.down.residual.then_some(dy);
            let mut found = backward_to_x(&self.x, x, self.norm.as_ref(), sides, residual)?;
            found.push(of_down.0);
            found.extend(down.bias.as_ref().map(|_| of_down.1));
            Ok(found)
        })
    }
}

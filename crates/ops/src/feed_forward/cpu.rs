//! The feed-forward sublayer on the CPU.

use super::FeedForward;
use crate::activation::cpu::{gated_slopes, gated_values, slopes, values, values_of_biased};
use crate::kernel::Float;
use crate::kernel::matmul::Write;
use crate::kernel::read::{tensor, with, with_option, with2};
use crate::kernel::scratch::{Scratch, scratch};
use crate::linear::cpu::{forward, input, parameters, product};
use crate::parts::{Ending, KeptNorm, OwnedProjection, normed, normed_again};
use crate::tape::{self, InputGradients};
use crate::{Activation, Projection};
use candle_core::{Result, Tensor};

/// What the node keeps for its backward pass.
struct Kept<T: Float> {
    x: Tensor,
    norm: Option<KeptNorm<T>>,
    gate: Option<(OwnedProjection, Scratch<T>)>,
    up: (OwnedProjection, Scratch<T>),
    activation: Activation,
    ending: Ending,
    /// Rows, width of x, width between the projections.
    sizes: (usize, usize, usize),
}

pub(super) fn node<T: Float>(x: &Tensor, parts: &FeedForward, inputs: &[&Tensor]) -> Result<Tensor> {
    let (f, d) = parts.up.weight.dims2()?;
    let n = x.elem_count() / d.max(1);
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = parts.down.weight.dim(0)?;
    }
    let ending = Ending {
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
        let y = ending.forward(values_of_x, &inner, n)?;
        let up = (parts.up.owned(), up);
        let activation = parts.activation;
        Ok((y, Kept { x: x.clone(), norm, gate, up, activation, ending, sizes: (n, d, f) }))
    })?;
    tape::record(inputs, y, shape, move |dy| kept.backward(dy))
}

fn project<T: Float>(rows: &[T], sizes: (usize, usize, usize), projection: Projection) -> Result<Scratch<T>> {
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
            let (n, d, f) = self.sizes;
            let down = &self.ending.projection;
            let o = down.weight.dim(0)?;
            let dprojected = self.ending.dprojected(dy);
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
            let rows = normed_again(self.norm.as_ref(), x)?;
            let mut dx = self.ending.dx(dy, x.len());
            let mut drows = scratch::<T>(if self.norm.is_some() { n * d } else { 0 });
            let mut of_projections = Vec::new();
            let sides = [(self.gate.as_ref().map(|(gate, _)| gate), dgate), (Some(&self.up.0), Some(dup))];
            let mut write = if self.norm.is_some() { Write::Store } else { Write::Add };
            for (projection, dside) in sides {
                let (Some(projection), Some(dside)) = (projection, dside) else { continue };
                let OwnedProjection { weight, bias } = projection;
                let (dweight, dbias) = parameters(&rows, (n, d, f), &dside, f, weight, bias.as_ref())?;
                of_projections.push(dweight);
                of_projections.extend(bias.as_ref().map(|_| dbias));
                let to: &mut [T] = if self.norm.is_some() { &mut drows } else { &mut dx };
                with(weight, |weight: &[T]| {
                    input(&dside, f, (n, d, f), weight, to, write);
                    Ok(())
                })?;
                write = Write::Add;
            }
            let of_norm = match &self.norm {
                Some(norm) => norm.backward(x, &drows, &mut dx)?,
                None => Vec::new(),
            };
            let mut found = vec![Some(tensor(dx, self.x.shape())?)];
            found.extend(of_norm);
            found.extend(of_projections);
            found.push(of_down.0);
            found.extend(down.bias.as_ref().map(|_| of_down.1));
            Ok(found)
        })
    }
}

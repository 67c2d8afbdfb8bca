//! The feed-forward sublayer on the CPU.

use super::FeedForward;
use crate::activation::Activation;
use crate::activation::cpu::{derivatives, gated_derivatives, gated_values, values, values_of_biased};
use crate::dropout::Dropout;
use crate::kernel::narrow::Matrix;
use crate::kernel::product::Write;
use crate::kernel::read::{with, with_option, with2};
use crate::kernel::scratch::{Scratch, Values, scratch};
use crate::kernel::{Float, elementwise};
use crate::linear::adapted::cpu::Applied;
use crate::parts::Linear;
use crate::stored::Stored;
use crate::sublayer::{KeptNorm, OutputApplied, OutputProjection, Side, backward_to_x, normed};
use crate::tape::{self, InputGradients};
use candle_core::{Result, Tensor};

/// The values that the node keeps for its backward pass.
struct Kept<T: Float> {
    x: Tensor,
    norm: Option<KeptNorm<T>>,
    gate: Option<(Applied<T>, Stored<T>)>,
    up: (Applied<T>, Stored<T>),
    activation: Activation,
    down: OutputApplied<T>,
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
        projection: parts.down,
        residual: parts.residual,
        dropout: parts.dropout,
        adapter_dropout: parts.adapter_dropout,
        rows: x.dim(0)?,
    };
    let (y, kept) = with(x, |values_of_x: &[T]| {
        let (rows, norm) = normed(parts.norm, values_of_x)?;
        let project = |projection| project(&rows, (n, down.rows), f, projection, parts.adapter_dropout);
        let mut inner;
        let (gate, up) = match parts.gate {
            Some(gate) => {
                let held = (biased(project(gate)?, gate)?, biased(project(parts.up)?, parts.up)?);
                inner = scratch::<T>(n * f);
                gated_values(parts.activation, held.0.1.factor(), held.1.1.factor(), &mut inner);
                (Some(held.0), held.1)
            }
            None if Stored::<T>::is_rounded() => {
                let up = biased(project(parts.up)?, parts.up)?;
                inner = scratch::<T>(n * f);
                values(parts.activation, up.1.factor(), &mut inner);
                (None, up)
            }
            None => {
                let mut up = project(parts.up)?;
                inner = scratch::<T>(n * f);
                with_option(parts.up.bias, |bias| {
                    match bias {
                        // In one pass over memory.
                        Some(bias) => values_of_biased(parts.activation, &mut up.1, bias, &mut inner),
                        None => values(parts.activation, Matrix::Numbers(&up.1), &mut inner),
                    }
                    Ok(())
                })?;
                (None, (up.0, Stored::new(up.1)))
            }
        };
        let (y, down) = down.forward(values_of_x, &inner, n)?;
        let activation = parts.activation;
        Ok((y, Kept { x: x.clone(), norm, gate, up, activation, down, sizes: (n, f) }))
    })?;
    tape::record(inputs, y, shape, move |dy| kept.backward(dy))
}

/// A projection of the rows before its bias.
fn project<T: Float>(
    rows: &[T],
    counts: (usize, usize),
    f: usize,
    projection: Linear<&Tensor>,
    adapter_dropout: Option<&Dropout>,
) -> Result<(Applied<T>, Scratch<T>)> {
    let mut out = scratch::<T>(counts.0 * f);
    let applied = Applied::forward(projection, adapter_dropout, rows, counts, (&mut out, f, Write::Store))?;
    Ok((applied, out))
}

/// The same with the bias, in its stored form.
fn biased<T: Float>(
    (applied, mut out): (Applied<T>, Scratch<T>),
    projection: Linear<&Tensor>,
) -> Result<(Applied<T>, Stored<T>)> {
    with_option(projection.bias, |bias| {
        bias.iter().for_each(|bias| elementwise::add_bias(&mut out, bias));
        Ok(())
    })?;
    Ok((applied, Stored::new(out)))
}

impl<T: Float> Kept<T> {
    fn backward(&self, dy: &Tensor) -> Result<InputGradients> {
        with2(&self.x, dy, |x: &[T], dy: &[T]| {
            let (n, f) = self.sizes;
            let incoming = self.down.incoming(dy, n)?;
            let (mut inner, mut dup) = (scratch::<T>(n * f), scratch::<T>(n * f));
            self.down.applied.input(&incoming, n, &mut dup, Write::Store)?;
            let dgate = match &self.gate {
                Some((_, gate)) => {
                    let mut dgate = scratch::<T>(n * f);
                    gated_derivatives(
                        self.activation,
                        gate.factor(),
                        self.up.1.factor(),
                        Some(&mut inner),
                        &mut dgate,
                        &mut dup,
                    );
                    Some(dgate)
                }
                None => {
                    derivatives(self.activation, self.up.1.factor(), Some(&mut inner), &mut dup);
                    None
                }
            };
            let of_down = self.down.applied.parameters(&incoming, &inner, n)?;
            drop((inner, incoming));
            let side = |applied, douts| Side { applied, douts: Values::Owned(douts), stride: f };
            let of_gate = self.gate.as_ref().zip(dgate).map(|((gate, _), dgate)| side(gate, dgate));
            let sides = of_gate.into_iter().chain([side(&self.up.0, dup)]);
            let residual = self.down.residual.then_some(dy);
            let mut found = backward_to_x(&self.x, x, self.norm.as_ref(), sides, residual)?;
            found.extend(of_down);
            Ok(found)
        })
    }
}

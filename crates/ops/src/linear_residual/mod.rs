//! Output projection, dropout and residual add in one, for sublayers that run unfused.

mod cpu;
pub(crate) mod reference;

use crate::dropout::Dropout;
use crate::kernel::{by_dtype, fits};
use crate::linear::reference::shapes;
use crate::parts::Linear;
use crate::sublayer::{OutputProjection, add_reference};
use candle_core::{Result, Tensor, bail};
use cpu::node;

/// `[x +] dropout(inner Wᵀ + b)`, bit-identical to the end of [`crate::attention_layer()`] and
/// [`crate::feed_forward()`].
///
/// # Shape
/// inner `[b, .., i]`, x and the result `[b, .., o]`.
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn linear_residual(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    adapted_linear_residual(x, inner, projection, dropout, None)
}

/// [`linear_residual`] with dropout on the input of the projection's adapter.
pub(crate) fn adapted_linear_residual(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
    adapter_dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let (mut shape, _, o) = shapes(inner, projection.weight, projection.bias)?;
    shape.push(o);
    if let Some(x) = x
        && x.dims() != shape
    {
        bail!("linear_residual: {shape:?} can't be added to x {:?}", x.dims());
    }
    dropout.map_or(Ok(()), Dropout::check)?;
    let mut inputs = vec![inner];
    inputs.extend(projection.inputs());
    inputs.extend(x);
    if fits(&inputs) {
        let rows = inner.dims().first().copied().unwrap_or(1);
        let output = OutputProjection { projection, residual: x.is_some(), dropout, adapter_dropout, rows };
        by_dtype!(inner, node(x, inner, output, (&inputs, shape)))
    } else {
        add_reference(x, projection.reference(inner, adapter_dropout)?, dropout)
    }
}

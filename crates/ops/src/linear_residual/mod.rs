//! The end of a sublayer, for who looks inside it: projection, dropout and residual in one.

mod cpu;
pub(crate) mod reference;

use crate::dropout::Dropout;
use crate::kernel::{by_dtype, fits};
use crate::linear::reference::shapes;
use crate::parts::Linear;
use candle_core::{Result, Tensor, bail};
use cpu::node;

/// `[x +] dropout(inner Wᵀ + b)`: what [`crate::attention_layer()`] and [`crate::feed_forward()`] end in, to the bit.
///
/// # Shape
/// inner `[b, .., i]`, x and the result `[b, .., o]`.
///
/// # Errors
/// Where the widths don't fit together.
pub fn linear_residual(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
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
        by_dtype!(inner, node(x, inner, projection, dropout, (&inputs, shape)))
    } else {
        reference::linear_residual(x, inner, projection, dropout)
    }
}

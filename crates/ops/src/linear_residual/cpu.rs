//! The output projection of an unfused sublayer on the CPU, as a separate node.

use crate::kernel::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::sublayer::OutputProjection;
use crate::tape;
use candle_core::{Result, Tensor};

pub(super) fn node<T: Float>(
    x: Option<&Tensor>,
    inner: &Tensor,
    output: OutputProjection,
    (inputs, shape): (&[&Tensor], Vec<usize>),
) -> Result<Tensor> {
    let i = output.projection.weight.dim(1)?;
    let n = inner.elem_count().checked_div(i).unwrap_or(0);
    let (y, output) = with_option(x, |x: Option<&[T]>| {
        with(inner, |inner: &[T]| output.forward(x.unwrap_or_default(), inner, n))
    })?;
    let inner = inner.clone();
    tape::record(inputs, y, shape, move |dy| {
        with2(&inner, dy, |values: &[T], dy_values: &[T]| {
            let incoming = output.incoming(dy_values, n)?;
            let mut dinner = buffer::<T>(n * i);
            output.applied.input(&incoming, n, &mut dinner, Write::Store)?;
            let mut found = vec![Some(tensor(dinner, inner.shape())?)];
            found.extend(output.applied.parameters(&incoming, values, n)?);
            found.extend(output.residual.then(|| Some(dy.clone())));
            Ok(found)
        })
    })
}

//! The end of a sublayer on the CPU, a node of its own.

use crate::dropout::Dropout;
use crate::kernel::Float;
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::linear::cpu::{input, parameters};
use crate::parts::Linear;
use crate::sublayer::OutputProjection;
use crate::tape;
use candle_core::{Result, Tensor};

pub(super) fn node<T: Float>(
    x: Option<&Tensor>,
    inner: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
    (inputs, shape): (&[&Tensor], Vec<usize>),
) -> Result<Tensor> {
    let (o, i) = projection.weight.dims2()?;
    let n = inner.elem_count().checked_div(i).unwrap_or(0);
    let output = OutputProjection {
        projection: projection.owned(),
        residual: x.is_some(),
        dropout: dropout.filter(|dropout| dropout.p > 0.0).cloned(),
        rows: inner.dims().first().copied().unwrap_or(1),
    };
    let y = with_option(x, |x: Option<&[T]>| {
        with(inner, |inner: &[T]| output.forward(x.unwrap_or_default(), inner, n))
    })?;
    let inner = inner.clone();
    tape::record(inputs, y, shape, move |dy| {
        let projection = &output.projection;
        with2(&inner, dy, |values: &[T], dy_values: &[T]| {
            let dprojected = output.dprojected(dy_values);
            let mut dinner = buffer::<T>(n * i);
            with(&projection.weight, |weight: &[T]| {
                input(&dprojected, o, (n, i, o), weight, &mut dinner, Write::Store);
                Ok(())
            })?;
            let (weight, bias) = (&projection.weight, projection.bias.as_ref());
            let (dweight, dbias) = parameters(values, (n, i, o), &dprojected, o, weight, bias)?;
            let mut found = vec![Some(tensor(dinner, inner.shape())?), dweight];
            found.extend(bias.map(|_| dbias));
            found.extend(output.residual.then(|| Some(dy.clone())));
            Ok(found)
        })
    })
}

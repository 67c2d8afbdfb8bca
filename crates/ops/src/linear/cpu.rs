//! The linear projection on the CPU: one matrix product forward, two backward.

use super::reference::shapes;
use crate::kernel::product::{View, Write, project};
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::kernel::{Float, elementwise};
use crate::{sink, tape};
use candle_core::{Result, Tensor};

/// `out ← x Wᵀ + b`, `out` with rows `stride` apart; x is [n, i], W is [o, i].
pub(crate) fn forward<T: Float>(
    x: &[T],
    (n, i, o): (usize, usize, usize),
    weight: &[T],
    bias: Option<&[T]>,
    out: &mut [T],
    stride: usize,
) {
    product(x, (n, i, o), weight, out, stride, Write::Store);
    if let Some(bias) = bias {
        if stride == o {
            elementwise::add_bias(out, bias);
        } else {
            out.chunks_mut(stride.max(1)).take(n).for_each(|row| elementwise::add_bias(&mut row[..o], bias));
        }
    }
}

/// `x Wᵀ`, stored in `out` or added to it.
pub(crate) fn product<T: Float>(
    x: &[T],
    (n, i, o): (usize, usize, usize),
    weight: &[T],
    out: &mut [T],
    stride: usize,
    write: Write,
) {
    project(out, stride, write, T::of(1.0), View::new(x, n, i), View::new(weight, o, i).t());
}

/// `dy W`, the gradient of x, stored in `dx` or added to it; rows of dy stand `stride` apart.
pub(crate) fn input<T: Float>(
    dy: &[T],
    stride: usize,
    (n, i, o): (usize, usize, usize),
    weight: &[T],
    dx: &mut [T],
    write: Write,
) {
    project(dx, i, write, T::of(1.0), View::strided(dy, n, o, stride), View::new(weight, o, i));
}

/// The gradients of weight and bias, given x [n, i] and dy, whose rows of o stand `stride` apart.
pub(crate) fn parameters<T: Float>(
    x: &[T],
    (n, i, o): (usize, usize, usize),
    dy: &[T],
    stride: usize,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let dweight = sink::parameter::<T>(weight, |out, write| {
        project(out, i, write, T::of(1.0), View::strided(dy, n, o, stride).t(), View::new(x, n, i));
        Ok(())
    })?;
    let dbias = match bias {
        Some(bias) => sink::parameter::<T>(bias, |out, write| {
            elementwise::column_sums(out, dy, o, stride, write == Write::Add);
            Ok(())
        })?,
        None => None,
    };
    Ok((dweight, dbias))
}

/// The projection as a node of the tape.
pub(super) fn linear<T: Float>(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (mut shape, i, o) = shapes(x, weight, bias)?;
    let n: usize = shape.iter().product();
    shape.push(o);
    let mut y = buffer::<T>(n * o);
    with2(x, weight, |x: &[T], weight: &[T]| {
        with_option(bias, |bias| {
            forward(x, (n, i, o), weight, bias, &mut y, o);
            Ok(())
        })
    })?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let (x, weight, bias) = (x.clone(), weight.clone(), bias.cloned());
    tape::record(&inputs, y, shape, move |dy| {
        with(dy, |dy: &[T]| {
            let dx = if x.track_op() {
                let mut dx = buffer::<T>(n * i);
                with(&weight, |weight: &[T]| {
                    input(dy, o, (n, i, o), weight, &mut dx, Write::Store);
                    Ok(())
                })?;
                Some(tensor(dx, x.shape())?)
            } else {
                None
            };
            let (dweight, dbias) =
                with(&x, |x: &[T]| parameters(x, (n, i, o), dy, o, &weight, bias.as_ref()))?;
            Ok(vec![dx, dweight, dbias])
        })
    })
}

//! Softmax on the CPU, row by row.

use crate::kernel::Float;
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::read::{tensor, with, with2};
use crate::kernel::simd::{greatest, multiversion, reduce, reduce2};
use crate::tape;
use candle_core::{Result, Tensor};

multiversion! {
    /// Replaces each row of `x` by its softmax.
    fn forward_rows = forward_body(x: &mut [T], width: usize);
    /// Replaces `dx`, initially the gradient of the softmax `y`, by that of its argument.
    fn backward_rows = backward_body(y: &[T], dx: &mut [T], width: usize);
}

#[inline(always)]
fn forward_body<T: Float, const FMA: bool>(x: &mut [T], width: usize) {
    for x in x.chunks_exact_mut(width) {
        let max = greatest(x);
        x.iter_mut().for_each(|x| *x = Float::exp::<FMA>(*x - max));
        let scale = T::of(1.0) / reduce(x, |sum, x| sum + x);
        x.iter_mut().for_each(|x| *x *= scale);
    }
}

#[inline(always)]
fn backward_body<T: Float, const FMA: bool>(y: &[T], dx: &mut [T], width: usize) {
    for (y, dx) in y.chunks_exact(width).zip(dx.chunks_exact_mut(width)) {
        let mean = reduce2(y, dx, |sum, y, dy| y.fma::<FMA>(dy, sum));
        for (dx, &y) in dx.iter_mut().zip(y) {
            *dx = y * (*dx - mean);
        }
    }
}

/// Softmax as a node of the tape.
pub(super) fn node<T: Float>(x: &Tensor, width: usize) -> Result<Tensor> {
    let rows = x.elem_count() / width;
    let mut y = with(x, |x: &[T]| Ok(x.to_vec()))?;
    for_rows(rows, 16, Rows::new(&mut y, width), |_, y| forward_rows(y.values, width));
    let result = tensor(y.clone(), x.shape())?;
    tape::record(&[x], y, x.shape(), move |dy| {
        let dx = with2(&result, dy, |y: &[T], dy: &[T]| {
            let mut dx = dy.to_vec();
            for_rows(rows, 16, Rows::new(&mut dx, width), |range, dx| {
                backward_rows(&y[range.start * width..range.end * width], dx.values, width);
            });
            Ok(dx)
        })?;
        Ok(vec![Some(tensor(dx, dy.shape())?)])
    })
}

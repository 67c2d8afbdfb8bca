//! Dropout on the CPU: the mask is redrawn in the backward pass instead of kept.

use crate::kernel::Float;
use crate::kernel::read::{buffer, tensor, with};
use crate::{Dropout, tape};
use candle_core::{Result, Tensor};

/// The number of words drawn at a time.
const DRAW: usize = 256;

/// `out = x · mask`, or `out = base + x · mask`; `rows` equal rows of any width.
pub(crate) fn apply<T: Float>(dropout: &Dropout, rows: usize, x: &[T], base: Option<&[T]>, out: &mut [T]) {
    let width = x.len().checked_div(rows).unwrap_or(0);
    if width == 0 {
        return;
    }
    let (threshold, scale) = (dropout.threshold(), T::of(dropout.scale()));
    let mut words = [0u32; DRAW];
    for (row, out) in out[..x.len()].chunks_exact_mut(width).enumerate() {
        let mut stream = dropout.row(row);
        for (part, out) in out.chunks_mut(DRAW).enumerate() {
            let at = row * width + part * DRAW;
            let words = &mut words[..out.len()];
            stream.fill_u32(words);
            let x = &x[at..at + out.len()];
            for ((out, &x), &word) in out.iter_mut().zip(x).zip(&*words) {
                *out = if word < threshold { T::default() } else { x * scale };
            }
            if let Some(base) = base {
                for (out, &base) in out.iter_mut().zip(&base[at..]) {
                    *out += base;
                }
            }
        }
    }
}

/// Dropout as a node of the tape.
pub(super) fn node<T: Float>(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    let rows = x.dims().first().copied().unwrap_or(1);
    let mut y = buffer::<T>(x.elem_count());
    with(x, |x: &[T]| {
        apply(dropout, rows, x, None, &mut y);
        Ok(())
    })?;
    let (dropout, shape) = (dropout.clone(), x.shape().clone());
    tape::record(&[x], y, x.shape(), move |dy| {
        let mut dx = buffer::<T>(dy.elem_count());
        with(dy, |dy: &[T]| {
            apply(&dropout, rows, dy, None, &mut dx);
            Ok(())
        })?;
        Ok(vec![Some(tensor(dx, &shape)?)])
    })
}

//! The linear projection on the CPU: one matrix product forward, two backward.

use crate::kernel::narrow::Matrix;
use crate::kernel::product::{View, Write, project, project_halves};
use crate::kernel::{Float, elementwise};
use crate::sink;
use candle_core::{Result, Tensor};

/// `x Wᵀ`, stored in `out` or added to it.
pub(crate) fn product<T: Float>(
    x: &[T],
    (n, i, o): (usize, usize, usize),
    weight: Matrix<'_, T>,
    out: &mut [T],
    stride: usize,
    write: Write,
) {
    let (x, one) = (View::new(x, n, i), T::of(1.0));
    match weight {
        Matrix::Numbers(weight) => project(out, stride, write, one, x, View::new(weight, o, i).t()),
        Matrix::Halves(weight) => project_halves(out, stride, write, one, x, View::new(weight, o, i).t()),
    }
}

/// `dy W`, the gradient of x, stored in `dx` or added to it; rows of dy are `stride` apart.
pub(crate) fn input<T: Float>(
    dy: &[T],
    stride: usize,
    (n, i, o): (usize, usize, usize),
    weight: Matrix<'_, T>,
    dx: &mut [T],
    write: Write,
) {
    let (dy, one) = (View::strided(dy, n, o, stride), T::of(1.0));
    match weight {
        Matrix::Numbers(weight) => project(dx, i, write, one, dy, View::new(weight, o, i)),
        Matrix::Halves(weight) => project_halves(dx, i, write, one, dy, View::new(weight, o, i)),
    }
}

/// The gradient of the weight, given x [n, i] and dy, whose rows of o are `stride` apart.
pub(crate) fn weight_gradient<T: Float>(
    x: &[T],
    (n, i, o): (usize, usize, usize),
    dy: &[T],
    stride: usize,
    weight: &Tensor,
) -> Result<Option<Tensor>> {
    sink::parameter::<T>(weight, |out, write| {
        project(out, i, write, T::of(1.0), View::strided(dy, n, o, stride).t(), View::new(x, n, i));
        Ok(())
    })
}

/// The gradient of the bias, given dy, whose rows of o are `stride` apart.
pub(crate) fn bias_gradient<T: Float>(
    bias: &Tensor,
    dy: &[T],
    o: usize,
    stride: usize,
) -> Result<Option<Tensor>> {
    sink::parameter::<T>(bias, |out, write| {
        elementwise::column_sums(out, dy, o, stride, write == Write::Add);
        Ok(())
    })
}

//! Muon on the CPU.

use super::{MuonStep, Orthogonalizer};
use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::product::{View, Write, matmul};
use crate::kernel::read::{tensor, with, with_mut};
use crate::kernel::scratch::{Scratch, scratch};
use crate::kernel::simd::multiversion;
use crate::kernel::{Float, elementwise};
use candle_core::{Result, Tensor, Var};

/// The minimum number of elements per thread.
const GRAIN: usize = 16 * 1024;
/// The number of rows of a symmetric product that are computed at a time, up to the diagonal.
const ROWS: usize = 96;

/// [`super::orthogonalized`].
pub(super) fn orthogonal<T: Float>(x: &Tensor, how: Orthogonalizer) -> Result<Tensor> {
    let sizes = x.dims2()?;
    with(x, |x: &[T]| tensor(orthogonalized(x, sizes, how).to_vec(), sizes))
}

/// [`super::muon`].
pub(super) fn muon<T: Float>(param: &Tensor, momentum: &Var, grad: &Tensor, step: &MuonStep) -> Result<()> {
    let (rows, columns) = param.dims2()?;
    let mut mixed = scratch::<T>(rows * columns);
    with(grad, |grad: &[T]| {
        with_mut(momentum, |momentum: &mut [T]| {
            let buffers = (Rows::single(momentum), Rows::single(&mut mixed));
            for_rows(grad.len(), GRAIN, buffers, |range, (momentum, mixed)| {
                mix_part(momentum.values, &grad[range], mixed.values, step);
            });
            Ok(())
        })
    })?;
    let update = orthogonalized(&mixed, (rows, columns), step.orthogonalizer);
    let size = T::of(step.lr * step.scaling.factor(rows, columns));
    with_mut(param, |param: &mut [T]| {
        for_rows(update.len(), GRAIN, Rows::single(param), |range, param| {
            apply_part(param.values, &update[range], size, step);
        });
        Ok(())
    })
}

/// Newton–Schulz steps on a row-major matrix.
fn orthogonalized<T: Float>(x: &[T], (rows, columns): (usize, usize), how: Orthogonalizer) -> Scratch<T> {
    let is_tall = rows > columns;
    let (m, n) = if is_tall { (columns, rows) } else { (rows, columns) };
    let scale = T::of(1.0 / how.divisor(elementwise::sum_of_squares(x).sqrt()));
    let mut wide = scratch::<T>(m * n);
    if is_tall {
        transpose(x, n, m, &mut wide);
    } else {
        wide.copy_from_slice(x);
    }
    scale_part(&mut wide, scale);
    let (mut gram, mut square, mut next) = (scratch::<T>(m * m), scratch::<T>(m * m), scratch::<T>(m * n));
    for coefficients in how.coefficients() {
        let [a, b, c] = coefficients.map(T::of);
        symmetric(&mut gram, m, T::of(1.0), |rows| {
            (View::new(&wide[rows.start * n..], rows.len(), n), View::new(&wide, rows.end, n).t())
        });
        symmetric(&mut square, m, c, |rows| {
            (View::new(&gram[rows.start * m..], rows.len(), m), View::strided(&gram, m, rows.end, m))
        });
        for_rows(m * m, GRAIN, Rows::single(&mut square), |range, square| {
            add_scaled_part(square.values, &gram[range], b);
        });
        for_rows(m * n, GRAIN, Rows::single(&mut next), |range, next| {
            next.values.copy_from_slice(&wide[range]);
            scale_part(next.values, a);
        });
        matmul(&mut next, n, Write::Add, T::of(1.0), View::new(&square, m, m), View::new(&wide, m, n));
        std::mem::swap(&mut wide, &mut next);
    }
    if is_tall {
        transpose(&wide, m, n, &mut next);
        return next;
    }
    wide
}

/// `out ← scale · a b` for a symmetric product: its lower left is computed and mirrored. `factors` returns the
/// requested rows of a, and b's columns up to the last of them.
///
/// An element is the same sum of the same products as its mirror image, so the bits are those of the full product.
fn symmetric<'v, T: Float>(
    out: &mut [T],
    m: usize,
    scale: T,
    factors: impl Fn(std::ops::Range<usize>) -> (View<'v, T>, View<'v, T>),
) {
    for first in (0..m).step_by(ROWS) {
        let rows = first..m.min(first + ROWS);
        let (a, b) = factors(rows.clone());
        // The last row ends where its columns do.
        let end = (rows.end - 1) * m + rows.end;
        matmul(&mut out[first * m..end], m, Write::Store, scale, a, b);
    }
    for row in 0..m {
        for column in row + 1..m {
            out[row * m + column] = out[column * m + row];
        }
    }
}

/// `to ← fromᵀ`, `from` being rows × columns.
fn transpose<T: Float>(from: &[T], rows: usize, columns: usize, to: &mut [T]) {
    /// The number of elements in one or two cache lines.
    const SIDE: usize = 16;
    for first in (0..rows).step_by(SIDE) {
        for column in 0..columns {
            for row in first..rows.min(first + SIDE) {
                to[column * rows + row] = from[row * columns + column];
            }
        }
    }
}

multiversion! {
    fn mix_part = mix_body(momentum: &mut [T], grad: &[T], mixed: &mut [T], step: &MuonStep);
    fn apply_part = apply_body(param: &mut [T], update: &[T], size: T, step: &MuonStep);
    fn scale_part = scale_body(x: &mut [T], scale: T);
    fn add_scaled_part = add_scaled_body(x: &mut [T], y: &[T], scale: T);
}

#[inline(always)]
fn mix_body<T: Float, const FMA: bool>(momentum: &mut [T], grad: &[T], mixed: &mut [T], step: &MuonStep) {
    let (keep, rest, scale) = (T::of(step.momentum), T::of(1.0 - step.momentum), T::of(step.grad_scale));
    for ((m, &g), mixed) in momentum.iter_mut().zip(grad).zip(mixed) {
        let g = g * scale;
        *m = (g - *m).fma::<FMA>(rest, *m);
        *mixed = if step.nesterov { (*m - g).fma::<FMA>(keep, g) } else { *m };
    }
}

#[inline(always)]
fn apply_body<T: Float, const FMA: bool>(param: &mut [T], update: &[T], size: T, step: &MuonStep) {
    let decay = T::of(step.lr * step.weight_decay);
    for (p, &u) in param.iter_mut().zip(update) {
        let decays = !step.cautious || u * *p >= T::default();
        let kept = if decays { *p - decay * *p } else { *p };
        *p = (-size).fma::<FMA>(u, kept);
    }
}

#[inline(always)]
fn scale_body<T: Float, const FMA: bool>(x: &mut [T], scale: T) {
    for x in x.iter_mut() {
        *x *= scale;
    }
}

#[inline(always)]
fn add_scaled_body<T: Float, const FMA: bool>(x: &mut [T], y: &[T], scale: T) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x = y.fma::<FMA>(scale, *x);
    }
}

//! The norms on the CPU: one kernel for both, since RMSNorm is LayerNorm with a mean of zero.

use crate::kernel::parallel::{Rows, for_rows};
use crate::kernel::product::Write;
use crate::kernel::read::{buffer, tensor, with, with_option, with2};
use crate::kernel::simd::{multiversion, reduce, reduce2};
use crate::kernel::{Float, elementwise};
use crate::{sink, tape};
use candle_core::{Result, Tensor};

/// The number of rows whose contributions to a parameter's gradient are summed together; the blocks are then summed in
/// order.
const BLOCK: usize = 64;

/// The statistics that the backward pass needs: a mean and 1/√(variance + ε) for each row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statistics<T> {
    pub(crate) mean: Vec<T>,
    pub(crate) scale: Vec<T>,
}

/// `y` = the norm of each row of `x`, and the rows' statistics.
pub(crate) fn forward<T: Float>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    eps: f64,
    center: bool,
    y: &mut [T],
) -> Statistics<T> {
    let width = weight.len();
    let rows = x.len().checked_div(width).unwrap_or(0);
    let mut statistics = Statistics { mean: buffer(rows), scale: buffer(rows) };
    let Statistics { mean, scale } = &mut statistics;
    let buffers = (Rows::new(y, width), Rows::single(mean), Rows::single(scale));
    for_rows(rows, BLOCK, buffers, |range, (y, mean, scale)| {
        let x = &x[range.start * width..range.end * width];
        forward_rows(x, weight, bias, T::of(eps), center, y.values, mean.values, scale.values);
    });
    statistics
}

/// Recomputes the normalized rows from the kept statistics.
pub(crate) fn again<T: Float>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    statistics: &Statistics<T>,
    y: &mut [T],
) {
    let width = weight.len();
    for_rows(statistics.scale.len(), BLOCK, Rows::new(y, width), |range, y| {
        let x = &x[range.start * width..range.end * width];
        let (mean, scale) = (&statistics.mean[range.clone()], &statistics.scale[range]);
        apply_rows(x, weight, bias, mean, scale, y.values);
    });
}

/// Adds the gradient of `x` to `dx`, and returns the blocks' contributions to the gradients of weight and bias,
/// [blocks, weight then bias].
pub(crate) fn backward<T: Float>(
    x: &[T],
    weight: &[T],
    statistics: &Statistics<T>,
    center: bool,
    dy: &[T],
    dx: &mut [T],
) -> Vec<T> {
    let (rows, width) = (statistics.scale.len(), weight.len());
    let mut shares = buffer(rows.div_ceil(BLOCK) * 2 * width);
    let mut blocks: Vec<(&mut [T], &mut [T])> = dx[..rows * width]
        .chunks_mut((BLOCK * width).max(1))
        .zip(shares.chunks_mut((2 * width).max(1)))
        .collect();
    for_rows(blocks.len(), 1, Rows::single(&mut blocks), |numbers, blocks| {
        for (block, (dx, share)) in numbers.zip(blocks.values) {
            let range = block * BLOCK..rows.min((block + 1) * BLOCK);
            let at = range.start * width..range.end * width;
            let (mean, scale) = (&statistics.mean[range.clone()], &statistics.scale[range]);
            let (dweight, dbias) = share.split_at_mut(width);
            backward_rows(&x[at.clone()], weight, mean, scale, center, &dy[at], dx, dweight, dbias);
        }
    });
    shares
}

/// Adds the blocks' contributions to the gradients of weight and bias.
pub(crate) fn parameters<T: Float>(
    shares: &[T],
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<(Option<Tensor>, Option<Tensor>)> {
    let width = weight.elem_count();
    let sum = |skip: usize, out: &mut [T], write: Write| {
        let shares = shares.get(skip..).unwrap_or_default();
        elementwise::column_sums(out, shares, width, 2 * width, write == Write::Add);
        Ok(())
    };
    let dweight = sink::parameter::<T>(weight, |out, write| sum(0, out, write))?;
    let dbias = match bias {
        Some(bias) => sink::parameter::<T>(bias, |out, write| sum(width, out, write))?,
        None => None,
    };
    Ok((dweight, dbias))
}

multiversion! {
    fn forward_rows = forward_body(
        x: &[T], weight: &[T], bias: Option<&[T]>, eps: T, center: bool, y: &mut [T], mean: &mut [T], scale: &mut [T],
    );
    fn apply_rows = apply_body(
        x: &[T], weight: &[T], bias: Option<&[T]>, mean: &[T], scale: &[T], y: &mut [T],
    );
    fn backward_rows = backward_body(
        x: &[T], weight: &[T], mean: &[T], scale: &[T], center: bool, dy: &[T], dx: &mut [T], dweight: &mut [T],
        dbias: &mut [T],
    );
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn forward_body<T: Float, const FMA: bool>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    eps: T,
    center: bool,
    y: &mut [T],
    means: &mut [T],
    scales: &mut [T],
) {
    let width = weight.len();
    let count = T::of(width as f64);
    for ((x, mean), scale) in x.chunks_exact(width).zip(means.iter_mut()).zip(scales.iter_mut()) {
        let center = if center { reduce(x, |sum, x| sum + x) / count } else { T::default() };
        // In two passes: the mean of squares minus the square of the mean would cancel if the mean is large.
        let squares = reduce(x, |sum, x| (x - center).fma::<FMA>(x - center, sum));
        *mean = center;
        *scale = T::of(1.0) / Float::sqrt(squares / count + eps);
    }
    apply_body::<T, FMA>(x, weight, bias, means, scales, y);
}

#[inline(always)]
fn apply_body<T: Float, const FMA: bool>(
    x: &[T],
    weight: &[T],
    bias: Option<&[T]>,
    mean: &[T],
    scale: &[T],
    y: &mut [T],
) {
    let width = weight.len();
    for (((x, y), &mean), &scale) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(mean).zip(scale)
    {
        match bias {
            Some(bias) => {
                for (((y, &x), &w), &b) in y.iter_mut().zip(x).zip(weight).zip(bias) {
                    *y = ((x - mean) * scale).fma::<FMA>(w, b);
                }
            }
            None => {
                for ((y, &x), &w) in y.iter_mut().zip(x).zip(weight) {
                    *y = (x - mean) * scale * w;
                }
            }
        }
    }
}

/// With `n = (x − mean) · scale` and `g = dy · w`: `dx = scale (g − mean(g) − n · mean(g n))`, where the mean of g is
/// omitted unless x was centered; `dw = Σ dy n`, `db = Σ dy`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward_body<T: Float, const FMA: bool>(
    x: &[T],
    weight: &[T],
    mean: &[T],
    scale: &[T],
    center: bool,
    dy: &[T],
    dx: &mut [T],
    dweight: &mut [T],
    dbias: &mut [T],
) {
    let width = weight.len();
    let count = T::of(width as f64);
    let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for (((x, dy), dx), (&mean, &scale)) in rows.zip(mean.iter().zip(scale)) {
        let sum_g = if center {
            reduce2(dy, weight, |sum, dy, w| dy.fma::<FMA>(w, sum)) / count
        } else {
            T::default()
        };
        // g and n are recomputed here rather than kept: they are in the cache.
        for ((((dweight, dbias), &x), &dy), _) in
            dweight.iter_mut().zip(dbias.iter_mut()).zip(x).zip(dy).zip(weight)
        {
            *dweight = (dy * scale).fma::<FMA>(x - mean, *dweight);
            *dbias += dy;
        }
        let mut lanes = [T::default(); crate::kernel::simd::LANES];
        let whole = width - width % lanes.len();
        for start in (0..whole).step_by(lanes.len()) {
            let (x, dy, w) =
                (&x[start..][..lanes.len()], &dy[start..][..lanes.len()], &weight[start..][..lanes.len()]);
            for lane in 0..lanes.len() {
                lanes[lane] = (dy[lane] * w[lane]).fma::<FMA>((x[lane] - mean) * scale, lanes[lane]);
            }
        }
        for (lane, at) in lanes.iter_mut().zip(whole..width) {
            *lane = (dy[at] * weight[at]).fma::<FMA>((x[at] - mean) * scale, *lane);
        }
        let sum_gn = crate::kernel::simd::join(lanes) / count;
        for (((dx, &x), &dy), &w) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
            let inner = dy.fma::<FMA>(w, -sum_g);
            let inner = (-(x - mean) * scale).fma::<FMA>(sum_gn, inner);
            *dx = scale.fma::<FMA>(inner, *dx);
        }
    }
}

/// Either norm as a node of the tape.
pub(super) fn norm<T: Float>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
    center: bool,
) -> Result<Tensor> {
    let mut y = buffer::<T>(x.elem_count());
    let statistics = with2(x, weight, |x: &[T], weight: &[T]| {
        with_option(bias, |bias| Ok(forward(x, weight, bias, eps, center, &mut y)))
    })?;
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let (x, weight, bias) = (x.clone(), weight.clone(), bias.cloned());
    tape::record(&inputs, y, inputs[0].shape(), move |dy| {
        let mut dx = buffer::<T>(x.elem_count());
        let shares = with2(&x, &weight, |x: &[T], weight: &[T]| {
            with(dy, |dy: &[T]| Ok(backward(x, weight, &statistics, center, dy, &mut dx)))
        })?;
        let (dweight, dbias) = parameters(&shares, &weight, bias.as_ref())?;
        Ok(vec![Some(tensor(dx, x.shape())?), dweight, dbias])
    })
}

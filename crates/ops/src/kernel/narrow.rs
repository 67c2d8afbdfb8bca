//! Matrices held in bfloat16 or in 8-bit blocks ([`crate::blocks`]), and widened where they are used.

use std::ops::Range;

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, bail};
use half::{bf16, f16};

use super::parallel::{Rows, for_rows};
use super::quantized::BLOCK;
use super::read::with;
use super::scratch::scratch;
use super::simd::multiversion;
use super::{Float, bfloat16};
use crate::threads::{Precision, precision_of};

/// The minimum number of rows per thread.
const GRAIN: usize = 16;

/// The bytes of a row of `n_in` values in blocks: the values, then a float16 scale for each block.
pub(crate) const fn row_bytes(n_in: usize) -> usize {
    n_in + n_in / BLOCK * 2
}

/// Whether a tensor is such a frozen matrix.
pub(crate) fn is_narrow(x: &Tensor) -> bool {
    matches!(x.dtype(), DType::BF16 | DType::U8) && !x.track_op() && x.device().is_cpu()
}

/// Calls `f` with a function that widens rows of such a matrix `[rows, width]` into a slice, exactly.
pub(crate) fn with_rows<T: Float, R>(
    x: &Tensor,
    f: impl FnOnce(&(dyn Fn(Range<usize>, &mut [T]) + Sync)) -> Result<R>,
) -> Result<R> {
    let (rows, width) = x.dims2()?;
    if x.dtype() == DType::BF16 {
        return with(x, |x: &[bf16]| {
            f(&|rows, out| bfloat16::widen(&x[rows.start * width..rows.end * width], out))
        });
    }
    let (storage, layout) = x.storage_and_layout();
    let (Storage::Cpu(CpuStorage::U8(bytes)), [stride, 1]) = (&*storage, layout.stride()) else {
        bail!("expected a matrix in blocks, not {x:?}");
    };
    let bytes = bytes.get(layout.start_offset()..).unwrap_or_default();
    if *stride != row_bytes(width) || bytes.len() < rows * stride {
        bail!("expected a matrix in blocks, not bytes [{rows}, {width}] of rows {stride} apart");
    }
    f(&|rows, out| {
        let bytes = &bytes[rows.start * stride..rows.end * stride];
        for_rows(rows.len(), GRAIN, Rows::new(out, width), |range, out| {
            widen_part(&bytes[range.start * stride..range.end * stride], width, out.values);
        });
    })
}

/// A matrix as a product takes it.
#[derive(Clone, Copy)]
pub(crate) enum Matrix<'a, T> {
    Numbers(&'a [T]),
    Halves(&'a [bf16]),
}

impl<'a, T> Matrix<'a, T> {
    /// The values from `first` on, or none.
    pub(crate) fn from(self, first: usize) -> Self {
        match self {
            Self::Numbers(all) => Self::Numbers(all.get(first..).unwrap_or_default()),
            Self::Halves(all) => Self::Halves(all.get(first..).unwrap_or_default()),
        }
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Self::Numbers(all) => all.len(),
            Self::Halves(all) => all.len(),
        }
    }

    /// Some of the values, on this thread; `room` has at least as many elements, for those to be widened.
    pub(crate) fn part<'b>(self, range: Range<usize>, room: &'b mut [T]) -> &'b [T]
    where
        T: Float,
        'a: 'b,
    {
        match self {
            Self::Numbers(all) => &all[range],
            Self::Halves(all) => {
                let room = &mut room[..range.len()];
                bfloat16::widen_part(&all[range], room);
                room
            }
        }
    }
}

/// Calls `f` with a matrix as a projection's product takes it: bfloat16 in place if factors are rounded to it anyway,
/// any other narrow matrix widened.
pub(crate) fn with_factor<T: Float, R>(x: &Tensor, f: impl FnOnce(Matrix<'_, T>) -> Result<R>) -> Result<R> {
    if is_narrow(x) && x.dtype() == DType::BF16 && precision_of(T::DTYPE) == Precision::Bfloat16 {
        return with(x, |x: &[bf16]| f(Matrix::Halves(x)));
    }
    with_matrix(x, |x: &[T]| f(Matrix::Numbers(x)))
}

/// As [`with`], for a matrix that may be held in fewer bits; it is widened, exactly, while `f` runs.
pub(crate) fn with_matrix<T: Float, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    if is_narrow(x) { with_all(x, f) } else { with(x, f) }
}

/// Calls `f` with all values of such a matrix, widened.
pub(crate) fn with_all<T: Float, R>(x: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    with_rows(x, |widen| {
        let mut wide = scratch::<T>(x.elem_count());
        widen(0..x.dim(0)?, &mut wide);
        f(&wide)
    })
}

multiversion! {
    fn widen_part = widen_body(bytes: &[u8], width: usize, out: &mut [T]);
}

#[inline(always)]
fn widen_body<T: Float, const FMA: bool>(bytes: &[u8], width: usize, out: &mut [T]) {
    let rows = bytes.chunks_exact(row_bytes(width).max(1)).zip(out.chunks_exact_mut(width.max(1)));
    for (bytes, out) in rows {
        let (numbers, scales) = bytes.split_at(width);
        let blocks = numbers.as_chunks::<BLOCK>().0.iter().zip(scales.as_chunks::<2>().0);
        for (out, (numbers, scale)) in out.as_chunks_mut::<BLOCK>().0.iter_mut().zip(blocks) {
            let scale = f16::from_le_bytes(*scale).to_f32();
            for (out, &number) in out.iter_mut().zip(numbers) {
                *out = T::of(f64::from(f32::from(number.cast_signed()) * scale));
            }
        }
    }
}

//! Matrix products of strided views.
//!
//! An element of a product of m × k and k × n matrices consists of sums over blocks of [`blocked::DEPTH`] words of the
//! inner dimension; a word is an element, or two in bfloat16. Each sum is one chain of fused multiply-adds that starts
//! at zero; the sums are added to the result in order, each by one more fused multiply-add, with the scale:
//!
//! ```text
//! sum_j = fma(a[n−1], b[n−1], … fma(a[1], b[1], fma(a[0], b[0], 0)) …)
//! out   = fma(scale, sum_1, fma(scale, sum_0, out))        or, if overwritten, fma(scale, sum_1, scale · sum_0)
//! ```
//!
//! Tiles, threads, cache sizes and register widths only decide which elements are computed at the same time.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bf16;
mod blocked;
mod dispatch;
pub(crate) mod factor;
#[cfg(target_arch = "x86_64")]
mod flushing;
mod machine;
mod pack;
pub(crate) mod packed;
mod plain;
mod tile;

use super::Float;
use crate::threads::{Precision, precision};
use blocked::{Product, Right};
use half::bf16 as Half;
use pack::Lines;

/// A matrix inside a slice: element (r, c) is at `r · row + c · column`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a, T> View<'a, T> {
    /// Contiguous rows.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that start `stride` elements apart.
    pub(crate) fn strided(data: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self { data, rows, columns, row: stride, column: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { rows: self.columns, columns: self.rows, row: self.column, column: self.row, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row + (self.columns - 1) * self.column < self.data.len()
    }
}

impl<T> View<'_, T> {
    /// The view as a right factor, with its numbers of rows and columns.
    fn numbers(self) -> (Right<T>, usize, usize) {
        assert!(self.fits(), "matmul: views out of bounds or of different inner size");
        let lines = Lines { start: self.data.as_ptr(), line: self.column, step: self.row };
        (Right::Numbers(lines), self.rows, self.columns)
    }
}

impl View<'_, Half> {
    /// [`View::numbers`] in bfloat16, for a product of another type.
    fn halves<T>(self) -> (Right<T>, usize, usize) {
        assert!(self.fits(), "matmul: views out of bounds or of different inner size");
        let lines = Lines { start: self.data.as_ptr().cast(), line: self.column, step: self.row };
        (Right::Halves(lines), self.rows, self.columns)
    }
}

/// Whether a product overwrites the result or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is overwritten.
    Store,
    /// The product is added to it.
    Add,
}

/// `out ← scale · a b`, or `out ← out + scale · a b`; the rows of `out` start `stride` elements apart.
///
/// The bits are the same for any number of threads and on any processor (see the module).
pub(crate) fn matmul<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    in_precision(Precision::Float32, out, stride, write, scale, (a, b.numbers()));
}

/// [`matmul`] in the precision of this thread ([`crate::threads::with_precision`]): the product of a projection.
pub(crate) fn project<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    in_precision(precision(), out, stride, write, scale, (a, b.numbers()));
}

fn in_precision<T: Float>(
    precision: Precision,
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    (a, b): (View<'_, T>, (Right<T>, usize, usize)),
) {
    let (m, n) = (a.rows, b.2);
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= out.len() && n <= stride.max(n), "matmul: result out of bounds");
    // SAFETY: the elements written are inside `out`, by the assertion above, which is borrowed mutably.
    unsafe { whole(precision, out.as_mut_ptr(), stride, write, scale, (a, b)) }
}

/// [`project`] with a right factor in bfloat16, whose elements are widened or paired when packed.
pub(crate) fn project_halves<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, Half>,
) {
    in_precision(precision(), out, stride, write, scale, (a, b.halves()));
}

/// [`matmul`] into memory of which other threads may access other elements.
///
/// # Safety
/// The `n` elements from each of `out`, `out + stride`, … must be valid, and not accessed by others while this runs.
pub(crate) unsafe fn matmul_at<T: Float>(
    out: *mut T,
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    // SAFETY: the caller's promise.
    unsafe { whole(Precision::Float32, out, stride, write, scale, (a, b.numbers())) }
}

/// # Safety
/// As for [`matmul_at`].
unsafe fn whole<T: Float>(
    precision: Precision,
    out: *mut T,
    stride: usize,
    write: Write,
    scale: T,
    (a, (b, rows, columns)): (View<'_, T>, (Right<T>, usize, usize)),
) {
    assert!(rows == a.columns && a.fits(), "matmul: views out of bounds or of different inner size");
    let whole = Product {
        sizes: (a.rows, a.columns, columns),
        a: Lines { start: a.data.as_ptr(), line: a.row, step: a.column },
        b,
        out,
        stride,
        scale,
        add: write == Write::Add,
    };
    // SAFETY: every index that the strides can reach is inside the slices, by the assertion above; the caller
    // guarantees `out`.
    unsafe { dispatch::shared_out(&whole, precision) }
}

#[cfg(test)]
mod tests;

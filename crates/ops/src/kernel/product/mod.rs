//! Matrix products of strided views.
//!
//! An element of a product of m × k and k × n numbers is made of sums over blocks of [`blocked::DEPTH`] words of the
//! inner dimension, a word being a number, or two of them in bfloat16. Each sum is one chain of fused multiply-adds that begins at zero; the sums join the result in their
//! order, each by one more fused multiply-add, with the scale:
//!
//! ```text
//! sum_j = fma(a[n−1], b[n−1], … fma(a[1], b[1], fma(a[0], b[0], 0)) …)
//! out   = fma(scale, sum_1, fma(scale, sum_0, out))        or, where it is overwritten, fma(scale, sum_1, scale · sum_0)
//! ```
//!
//! Tiles, threads, the sizes of caches and the width of registers decide only which elements are made at the same time.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bf16;
mod blocked;
mod dispatch;
mod machine;
mod pack;
mod plain;
mod tile;

use super::Float;
use crate::threads::{Precision, precision};
use blocked::Product;
use pack::Lines;

/// A matrix inside a slice: element (r, c) stands at `r · row + c · column`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    row: usize,
    column: usize,
}

impl<'a, T> View<'a, T> {
    /// Rows one after another.
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

/// What becomes of what the result held before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It is overwritten.
    Store,
    /// The product is added to it.
    Add,
}

/// `out ← scale · a b`, or `out ← out + scale · a b`; the rows of `out` start `stride` elements apart.
///
/// Any number of threads and any processor gives the same bits (see the module).
pub(crate) fn matmul<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    in_precision(Precision::Float32, out, stride, write, scale, (a, b));
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
    in_precision(precision(), out, stride, write, scale, (a, b));
}

fn in_precision<T: Float>(
    precision: Precision,
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    (a, b): (View<'_, T>, View<'_, T>),
) {
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= out.len() && n <= stride.max(n), "matmul: a result that doesn't fit");
    // SAFETY: the elements written lie inside `out`, by the assertion above, which is borrowed mutably.
    unsafe { whole(precision, out.as_mut_ptr(), stride, write, scale, (a, b)) }
}

/// [`matmul`] into memory that other threads hold other elements of.
///
/// # Safety
/// The `n` elements from each of `out`, `out + stride`, … must be valid, and no one else's while this runs.
pub(crate) unsafe fn matmul_at<T: Float>(
    out: *mut T,
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    // SAFETY: the caller's promise.
    unsafe { whole(Precision::Float32, out, stride, write, scale, (a, b)) }
}

/// # Safety
/// As for [`matmul_at`].
unsafe fn whole<T: Float>(
    precision: Precision,
    out: *mut T,
    stride: usize,
    write: Write,
    scale: T,
    (a, b): (View<'_, T>, View<'_, T>),
) {
    assert!(b.rows == a.columns && a.fits() && b.fits(), "matmul: views that don't fit");
    let whole = Product {
        sizes: (a.rows, a.columns, b.columns),
        a: Lines { start: a.data.as_ptr(), line: a.row, step: a.column },
        b: Lines { start: b.data.as_ptr(), line: b.column, step: b.row },
        out,
        stride,
        scale,
        add: write == Write::Add,
    };
    // SAFETY: every index that the strides can reach lies inside the slices, by the assertion above; for `out` the
    // caller vouches.
    unsafe { dispatch::shared_out(&whole, precision) }
}

#[cfg(test)]
mod tests;

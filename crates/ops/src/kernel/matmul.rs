//! Matrix products of strided views, by the `gemm` crate.
#![allow(unsafe_code)]

use super::Float;
use crate::threads::kernel_threads;

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
/// Any number of threads gives the same bits: `gemm` shares out tiles of the result, and cuts the inner dimension by
/// the sizes alone (a test holds it to that).
pub(crate) fn matmul<T: Float>(
    out: &mut [T],
    stride: usize,
    write: Write,
    scale: T,
    a: View<'_, T>,
    b: View<'_, T>,
) {
    let (m, n) = (a.rows, b.columns);
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * stride + n <= out.len() && n <= stride.max(n), "matmul: a result that doesn't fit");
    // SAFETY: the elements written lie inside `out`, by the assertion above, which is borrowed mutably.
    unsafe { matmul_at(out.as_mut_ptr(), stride, write, scale, a, b) }
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
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert!(b.rows == k && a.fits() && b.fits(), "matmul: views that don't fit");
    let threads = kernel_threads();
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    // SAFETY: every index that the strides can reach lies inside the slices, by the assertion above; for `out` the
    // caller vouches.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            stride as isize,
            write == Write::Add,
            a.data.as_ptr(),
            a.column as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.column as isize,
            b.row as isize,
            T::of(1.0),
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::threads::with_kernel_threads;

    fn numbers(n: usize, seed: u64) -> Vec<f32> {
        let mut stream = vulpes_random::Key::new(seed, "matmul").stream();
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    #[test]
    fn the_bits_do_not_depend_on_the_threads() {
        for (m, n, k) in [(1, 768, 768), (64, 64, 64), (129, 257, 511), (512, 768, 3072), (768, 2304, 512)] {
            let (a, b, start) = (numbers(m * k, 1), numbers(k * n, 2), numbers(m * n, 3));
            for write in [Write::Store, Write::Add] {
                let run = |threads: usize| {
                    let mut out = start.clone();
                    with_kernel_threads(threads, || {
                        let (a, b) = (View::new(&a, m, k), View::new(&b, n, k).t());
                        matmul(&mut out, n, write, 0.7, a, b);
                    });
                    out
                };
                let one = run(1);
                for threads in [2, 3, 4, 7] {
                    assert!(one == run(threads), "{m} {n} {k} {write:?} with {threads} threads");
                }
            }
        }
    }

    #[test]
    fn strides_transposes_and_empty_sizes() {
        // [[1, 2], [3, 4]] inside rows of three, times its transpose.
        let a = [1.0, 2.0, 9.0, 3.0, 4.0, 9.0];
        let view = View::strided(&a, 2, 2, 3);
        let mut out = [7.0; 8];
        matmul(&mut out, 4, Write::Store, 1.0, view, view.t());
        assert_eq!(out, [5.0, 11.0, 7.0, 7.0, 11.0, 25.0, 7.0, 7.0]);
        let mut out = [7.0; 4];
        matmul(&mut out, 2, Write::Store, 1.0, View::new(&[], 2, 0), View::new(&[], 0, 2));
        assert_eq!(out, [0.0; 4]);
        matmul::<f64>(&mut [], 2, Write::Store, 1.0, View::new(&[], 0, 2), View::new(&[0.0; 4], 2, 2));
    }
}

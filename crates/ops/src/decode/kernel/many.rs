//! Several vectors at once: each weight is loaded once for all of them.
#![allow(unsafe_code)]

use std::arch::x86_64::*;

use super::x86::joined_256;
use crate::kernel::simd::{LANES, join};

/// # Safety
/// The processor has AVX-512; the rest as for [`super::rows_no_grad`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn all_512(weight: &[f32], x: &[f32], n_in: usize, out: *mut f32, stride: usize) {
    let n = x.len() / n_in;
    for (pair, weight) in weight.chunks(2 * n_in).enumerate() {
        let mut t = 0;
        while t < n {
            let x = &x[t * n_in..];
            // SAFETY: at least as many vectors begin there as each call takes; the output is guaranteed by the
            // caller.
            t += unsafe {
                let out = out.add(t * stride + 2 * pair);
                match (weight.len() > n_in, n - t) {
                    (true, 8..) => block_512::<2, 8>(weight, x, n_in, out, stride),
                    (true, 4..) => block_512::<2, 4>(weight, x, n_in, out, stride),
                    (true, 2..) => block_512::<2, 2>(weight, x, n_in, out, stride),
                    (true, _) => block_512::<2, 1>(weight, x, n_in, out, stride),
                    (false, 2..) => block_512::<1, 2>(weight, x, n_in, out, stride),
                    (false, _) => block_512::<1, 1>(weight, x, n_in, out, stride),
                }
            };
        }
    }
}

/// `W` rows times `R` vectors; returns `R`.
#[target_feature(enable = "avx512f")]
unsafe fn block_512<const W: usize, const R: usize>(
    weight: &[f32],
    x: &[f32],
    n_in: usize,
    out: *mut f32,
    stride: usize,
) -> usize {
    assert!(weight.len() >= W * n_in && x.len() >= R * n_in, "complete rows");
    // SAFETY: i + LANES ≤ n_in, or a mask of the rest; rows as asserted; the output is guaranteed by the caller.
    unsafe {
        let (weight, x) = (weight.as_ptr(), x.as_ptr());
        let mut sums = [[_mm512_setzero_ps(); R]; W];
        let mut i = 0;
        while i < n_in {
            let mask = if n_in - i >= LANES { u16::MAX } else { (1 << (n_in - i)) - 1 };
            let mut rows = [_mm512_setzero_ps(); W];
            for (w, row) in rows.iter_mut().enumerate() {
                let at = weight.add(w * n_in + i);
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2 * n_in).cast());
                *row = _mm512_maskz_loadu_ps(mask, at);
            }
            for r in 0..R {
                let x = _mm512_maskz_loadu_ps(mask, x.add(r * n_in + i));
                for (sums, row) in sums.iter_mut().zip(&rows) {
                    sums[r] = _mm512_mask3_fmadd_ps(*row, x, sums[r], mask);
                }
            }
            i += LANES;
        }
        for (w, sums) in sums.iter().enumerate() {
            for (r, sums) in sums.iter().enumerate() {
                let mut lanes = [0.0f32; LANES];
                _mm512_storeu_ps(lanes.as_mut_ptr(), *sums);
                *out.add(r * stride + w) = join(lanes);
            }
        }
    }
    R
}

/// # Safety
/// The processor has AVX2 and FMA; the rest as for [`super::rows_no_grad`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn all_256(weight: &[f32], x: &[f32], n_in: usize, out: *mut f32, stride: usize) {
    let n = x.len() / n_in;
    for (pair, weight) in weight.chunks(2 * n_in).enumerate() {
        let mut t = 0;
        while t < n {
            let x = &x[t * n_in..];
            // SAFETY: at least as many vectors begin there as each call takes; the output is guaranteed by the
            // caller.
            t += unsafe {
                let out = out.add(t * stride + 2 * pair);
                match (weight.len() > n_in, n - t) {
                    (true, 3..) => block_256::<2, 3>(weight, x, n_in, out, stride),
                    (true, 2) => block_256::<2, 2>(weight, x, n_in, out, stride),
                    (true, _) => block_256::<2, 1>(weight, x, n_in, out, stride),
                    (false, 2..) => block_256::<1, 2>(weight, x, n_in, out, stride),
                    (false, _) => block_256::<1, 1>(weight, x, n_in, out, stride),
                }
            };
        }
    }
}

/// `W` rows times `R` vectors; returns `R`.
#[target_feature(enable = "avx2,fma")]
unsafe fn block_256<const W: usize, const R: usize>(
    weight: &[f32],
    x: &[f32],
    n_in: usize,
    out: *mut f32,
    stride: usize,
) -> usize {
    assert!(weight.len() >= W * n_in && x.len() >= R * n_in, "complete rows");
    // SAFETY: i + LANES ≤ n_in; rows as asserted; the output is guaranteed by the caller.
    unsafe {
        let mut sums = [[[_mm256_setzero_ps(); R]; W]; 2];
        let mut i = 0;
        while i + LANES <= n_in {
            // One half of the lanes after the other: the sums of both leave four registers.
            for (half, sums) in sums.iter_mut().enumerate() {
                let i = i + half * LANES / 2;
                let mut rows = [_mm256_setzero_ps(); W];
                for (w, row) in rows.iter_mut().enumerate() {
                    let at = weight.as_ptr().add(w * n_in + i);
                    if half == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(2 * n_in).cast());
                    }
                    *row = _mm256_loadu_ps(at);
                }
                for r in 0..R {
                    let x = _mm256_loadu_ps(x.as_ptr().add(r * n_in + i));
                    for (sums, row) in sums.iter_mut().zip(&rows) {
                        sums[r] = _mm256_fmadd_ps(*row, x, sums[r]);
                    }
                }
            }
            i += LANES;
        }
        for w in 0..W {
            for r in 0..R {
                let (row, x) = (&weight[w * n_in + i..(w + 1) * n_in], &x[r * n_in + i..(r + 1) * n_in]);
                *out.add(r * stride + w) = joined_256(sums[0][w][r], sums[1][w][r], row, x);
            }
        }
    }
    R
}

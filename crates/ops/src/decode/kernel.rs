//! Matrix-vector products in float32 for AVX-512, AVX2 and portable code, bit-identical.
//!
//! A matrix is read once, row after row, so that memory sees one stream of addresses per thread: several rows at a time
//! would be as many streams, and slower.
#![allow(unsafe_code)]

use crate::kernel::{Float, simd};

/// `out_o = Σ_i weight_oi x_i + bias_o`, for as many rows of the weight as there are outputs.
///
/// # Shape
/// weight `[o, i]`, x `[i]`, bias `[o]` → `[o]`.
///
/// # Gradient
/// None.
pub fn matvec_no_grad(weight_oi: &[f32], x_i: &[f32], bias_o: Option<&[f32]>, out_o: &mut [f32]) {
    assert_eq!(weight_oi.len(), x_i.len() * out_o.len(), "the weight has as many rows as there are outputs");
    #[cfg(target_arch = "x86_64")]
    match simd::level() {
        // SAFETY: the processor has AVX-512.
        simd::Level::Avx512 => unsafe { x86::matvec_512(weight_oi, x_i, out_o) },
        // SAFETY: the processor has AVX2 and FMA.
        simd::Level::Avx2 => unsafe { x86::matvec_256(weight_oi, x_i, out_o) },
        simd::Level::Portable => matvec_plain(weight_oi, x_i, out_o),
    }
    #[cfg(not(target_arch = "x86_64"))]
    matvec_plain(weight_oi, x_i, out_o);
    for (out, bias) in out_o.iter_mut().zip(bias_o.unwrap_or_default()) {
        *out += bias;
    }
}

fn matvec_plain(weight_oi: &[f32], x_i: &[f32], out_o: &mut [f32]) {
    for (row, out) in weight_oi.chunks_exact(x_i.len().max(1)).zip(out_o.iter_mut()) {
        *out = dot(row, x_i);
    }
}

/// The products of a matrix's rows and many vectors, each element computed as by [`matvec_no_grad`], into rows of `out`
/// that start `stride` elements apart.
///
/// # Safety
/// Each row of `out` must be valid for as many elements as the weight has rows, and not aliased.
pub(super) unsafe fn rows_no_grad(
    weight_oi: &[f32],
    x_ti: &[f32],
    n_in: usize,
    out: *mut f32,
    stride: usize,
) {
    let n_out = weight_oi.len() / n_in.max(1);
    let n = x_ti.len() / n_in.max(1);
    if n == 1 {
        // SAFETY: guaranteed by the caller.
        let out = unsafe { std::slice::from_raw_parts_mut(out, n_out) };
        return matvec_no_grad(weight_oi, x_ti, None, out);
    }
    // SAFETY: the processor has the instructions; the rest is guaranteed by the caller.
    unsafe {
        match simd::level() {
            #[cfg(target_arch = "x86_64")]
            simd::Level::Avx512 => many::all_512(weight_oi, x_ti, n_in, out, stride),
            #[cfg(target_arch = "x86_64")]
            simd::Level::Avx2 => many::all_256(weight_oi, x_ti, n_in, out, stride),
            simd::Level::Portable => {
                for (row, weight) in weight_oi.chunks_exact(n_in).enumerate() {
                    for (t, x) in x_ti.chunks_exact(n_in).enumerate() {
                        *out.add(t * stride + row) = dot(weight, x);
                    }
                }
            }
        }
    }
}

/// The dot product, summed in lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; simd::LANES];
    for (a, b) in a.chunks(simd::LANES).zip(b.chunks(simd::LANES)) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane = a.fma::<{ simd::PORTABLE_FMA }>(*b, *lane);
        }
    }
    simd::join(lanes)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::kernel::simd::{LANES, join};

    /// The prefetch distance of a kernel within its row, in elements; the hardware prefetcher stops at each page.
    const AHEAD: usize = 512;

    /// # Safety
    /// The processor has AVX-512, and `weight` has `out.len()` rows of `x.len()`.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn matvec_512(weight: &[f32], x: &[f32], out: &mut [f32]) {
        let n = x.len();
        for (row, out) in weight.chunks_exact(n.max(1)).zip(out) {
            let mut sums = _mm512_setzero_ps();
            let mut i = 0;
            while i + LANES <= n {
                // SAFETY: i + LANES <= n, so both loads stay inside; a prefetch may point anywhere.
                unsafe {
                    let at = row.as_ptr().add(i);
                    _mm_prefetch(at.wrapping_add(AHEAD) as *const i8, _MM_HINT_T0);
                    sums = _mm512_fmadd_ps(_mm512_loadu_ps(at), _mm512_loadu_ps(x.as_ptr().add(i)), sums);
                }
                i += LANES;
            }
            let mut lanes = [0.0f32; LANES];
            // SAFETY: there is room for sixteen elements.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
            rest(&mut lanes, &row[i..], &x[i..]);
            *out = join(lanes);
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and `weight` has `out.len()` rows of `x.len()`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn matvec_256(weight: &[f32], x: &[f32], out: &mut [f32]) {
        let n = x.len();
        for (row, out) in weight.chunks_exact(n.max(1)).zip(out) {
            let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
            let mut i = 0;
            while i + LANES <= n {
                // SAFETY: i + LANES <= n, so all loads stay inside; a prefetch may point anywhere.
                unsafe {
                    let (at, x) = (row.as_ptr().add(i), x.as_ptr().add(i));
                    _mm_prefetch(at.wrapping_add(AHEAD) as *const i8, _MM_HINT_T0);
                    low = _mm256_fmadd_ps(_mm256_loadu_ps(at), _mm256_loadu_ps(x), low);
                    high = _mm256_fmadd_ps(_mm256_loadu_ps(at.add(8)), _mm256_loadu_ps(x.add(8)), high);
                }
                i += LANES;
            }
            // SAFETY: the processor has AVX2.
            *out = unsafe { joined_256(low, high, &row[i..], &x[i..]) };
        }
    }

    /// The sum of sixteen lanes, as [`join`] adds them, with the products after the last complete block.
    ///
    /// # Safety
    /// The processor has AVX2.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn joined_256(low: __m256, high: __m256, row: &[f32], x: &[f32]) -> f32 {
        if row.is_empty() {
            // The fold of `join`, in registers: eight lanes, four, two, one.
            let eight = _mm256_add_ps(low, high);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)));
        }
        let mut lanes = [0.0f32; LANES];
        // SAFETY: there is room for eight elements in each half.
        unsafe {
            _mm256_storeu_ps(lanes.as_mut_ptr(), low);
            _mm256_storeu_ps(lanes.as_mut_ptr().add(8), high);
        }
        rest(&mut lanes, row, x);
        join(lanes)
    }

    /// The products after the last complete block, one in each lane.
    #[inline(always)]
    fn rest(lanes: &mut [f32; LANES], row: &[f32], x: &[f32]) {
        for (lane, (a, b)) in lanes.iter_mut().zip(row.iter().zip(x)) {
            *lane = a.mul_add(*b, *lane);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod many;

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    /// All forms return the same bits as the one chosen for this processor, for one vector and for many.
    #[test]
    fn all_forms_are_bit_identical() {
        let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        for (o, i) in [(1, 1), (3, 15), (5, 16), (4, 33), (7, 200), (2, 768)] {
            for n in [1, 2, 3, 5, 8, 13] {
                let number = |n: usize| ((n * 7919 + 13) % 1000) as f32 / 500.0 - 1.0;
                let (weight, x): (Vec<f32>, Vec<f32>) =
                    ((0..o * i).map(number).collect(), (0..n * i).map(|n| number(n + 5)).collect());
                let rows = x.chunks_exact(i);
                let plain: Vec<f32> = rows
                    .clone()
                    .flat_map(|x| {
                        let mut out = vec![0.0; o];
                        matvec_plain(&weight, x, &mut out);
                        out
                    })
                    .collect();
                let mut forms = Vec::new();
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    let (mut one, mut all) = (vec![f32::NAN; n * o], vec![f32::NAN; n * o]);
                    // SAFETY: the processor has AVX2 and FMA; rows of `o` elements.
                    unsafe {
                        rows.clone()
                            .zip(one.chunks_exact_mut(o))
                            .for_each(|(x, out)| x86::matvec_256(&weight, x, out));
                        many::all_256(&weight, &x, i, all.as_mut_ptr(), o);
                    }
                    forms.extend([one, all]);
                }
                if is_x86_feature_detected!("avx512f") {
                    let (mut one, mut all) = (vec![f32::NAN; n * o], vec![f32::NAN; n * o]);
                    // SAFETY: the processor has AVX-512; rows of `o` elements.
                    unsafe {
                        rows.zip(one.chunks_exact_mut(o))
                            .for_each(|(x, out)| x86::matvec_512(&weight, x, out));
                        many::all_512(&weight, &x, i, all.as_mut_ptr(), o);
                    }
                    forms.extend([one, all]);
                }
                assert!(forms.iter().all(|form| bits(form) == bits(&plain)), "{o} x {i}, {n} vectors");
            }
        }
    }
}

//! Matrix times vector, and the attention of one query, for AVX-512, AVX2 and everything else.
//!
//! A matrix is read once, row after row, so that memory sees one stream of addresses a thread: several rows side by
//! side would be as many streams, and slower.
#![allow(unsafe_code)]

use crate::kernel::simd;
use crate::softmax::cpu::forward_rows as softmax_rows;

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

/// `softmax(scale · q kᵀ) v` of one query head over the keys that a cache holds.
///
/// `scores` is room for one number a key.
///
/// # Shape
/// q `[k]`, keys and values `[s, k]` → `[k]`.
///
/// # Gradient
/// None.
pub fn attend_no_grad(
    q_k: &[f32],
    keys_sk: &[f32],
    values_sk: &[f32],
    scale: f32,
    scores: &mut [f32],
    out_k: &mut [f32],
) {
    matvec_no_grad(keys_sk, q_k, None, scores);
    scores.iter_mut().for_each(|score| *score *= scale);
    softmax_rows(scores, scores.len().max(1));
    out_k.fill(0.0);
    for (weight, value) in scores.iter().zip(values_sk.chunks_exact(out_k.len().max(1))) {
        for (out, value) in out_k.iter_mut().zip(value) {
            *out += weight * value;
        }
    }
}

/// The sum of products, in lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    simd::reduce2(a, b, |sum, a, b| sum + a * b)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use crate::kernel::simd::{LANES, join};

    /// How far ahead of its row a kernel asks memory, in numbers; the hardware alone stops at each page.
    const AHEAD: usize = 512;

    /// # Safety
    /// The processor has AVX-512, and `weight` holds `out.len()` rows of `x.len()`.
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
            // SAFETY: there is room for sixteen numbers.
            unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
            rest(&mut lanes, &row[i..], &x[i..]);
            *out = join(lanes);
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA, and `weight` holds `out.len()` rows of `x.len()`.
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
            let mut lanes = [0.0f32; LANES];
            // SAFETY: there is room for eight numbers in each half.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), low);
                _mm256_storeu_ps(lanes.as_mut_ptr().add(8), high);
            }
            rest(&mut lanes, &row[i..], &x[i..]);
            *out = join(lanes);
        }
    }

    /// The products after the last whole block, one in each lane.
    #[inline(always)]
    fn rest(lanes: &mut [f32; LANES], row: &[f32], x: &[f32]) {
        for (lane, (a, b)) in lanes.iter_mut().zip(row.iter().zip(x)) {
            *lane = a.mul_add(*b, *lane);
        }
    }
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use super::*;

    /// Whichever form this processor takes, the others are right, too: AVX2's bits are those of AVX-512, and the plain
    /// form differs by the rounding of its products alone.
    #[test]
    fn every_form_gives_the_same_sums() {
        for (o, i) in [(1, 1), (3, 15), (5, 16), (4, 33), (7, 200), (2, 768)] {
            let number = |n: usize| ((n * 7919 + 13) % 1000) as f32 / 500.0 - 1.0;
            let (weight, x): (Vec<f32>, Vec<f32>) =
                ((0..o * i).map(number).collect(), (0..i).map(|n| number(n + 5)).collect());
            let mut plain = vec![0.0; o];
            matvec_plain(&weight, &x, &mut plain);
            let mut forms = Vec::new();
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                let mut out = vec![f32::NAN; o];
                // SAFETY: the processor has AVX2 and FMA.
                unsafe { x86::matvec_256(&weight, &x, &mut out) };
                forms.push(out);
            }
            if is_x86_feature_detected!("avx512f") {
                let mut out = vec![f32::NAN; o];
                // SAFETY: the processor has AVX-512.
                unsafe { x86::matvec_512(&weight, &x, &mut out) };
                forms.push(out);
            }
            assert!(forms.windows(2).all(|pair| pair[0] == pair[1]), "{o} x {i}");
            for out in forms {
                assert!(out.iter().zip(&plain).all(|(a, b)| (a - b).abs() < 1e-4), "{o} x {i}");
            }
        }
    }
}

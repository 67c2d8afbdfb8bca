//! Matrix times vector, and the attention of one query, for AVX2 and for everything else.
#![allow(unsafe_code)]

use super::activation::exp_shifted;

/// Lanes of partial sums: the order of a sum is the same in both forms.
const LANES: usize = 16;

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
    if has_avx2() {
        // SAFETY: the processor has AVX2 and FMA.
        unsafe { avx2::matvec(weight_oi, x_i, out_o) };
        add_bias(bias_o, out_o);
        return;
    }
    for (row, out) in weight_oi.chunks_exact(x_i.len().max(1)).zip(out_o.iter_mut()) {
        *out = dot(row, x_i);
    }
    add_bias(bias_o, out_o);
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
    let sum = exp_shifted(scores);
    out_k.fill(0.0);
    for (weight, value) in scores.iter().zip(values_sk.chunks_exact(out_k.len().max(1))) {
        for (out, value) in out_k.iter_mut().zip(value) {
            *out += weight * value;
        }
    }
    out_k.iter_mut().for_each(|out| *out /= sum);
}

fn add_bias(bias: Option<&[f32]>, out: &mut [f32]) {
    for (out, bias) in out.iter_mut().zip(bias.unwrap_or_default()) {
        *out += bias;
    }
}

/// The sum of products in [`LANES`] partial sums.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_blocks, b_blocks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a_blocks.zip(b_blocks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().sum::<f32>() + tail
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::*;

    /// Rows worked on at once: as many streams of memory in flight.
    const ROWS: usize = 4;

    /// # Safety
    /// The processor has AVX2 and FMA, and `weight` holds `out.len()` rows of `x.len()`.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn matvec(weight: &[f32], x: &[f32], out: &mut [f32]) {
        let n = x.len();
        let full = out.len() / ROWS * ROWS;
        for first in (0..full).step_by(ROWS) {
            // SAFETY: rows first..first + ROWS lie inside the weight.
            let sums = unsafe { rows::<ROWS>(weight.as_ptr().add(first * n), x) };
            out[first..first + ROWS].copy_from_slice(&sums);
        }
        for (row, out) in out.iter_mut().enumerate().skip(full) {
            // SAFETY: the row lies inside the weight.
            *out = unsafe { rows::<1>(weight.as_ptr().add(row * n), x) }[0];
        }
    }

    /// The dot products of `R` rows that follow each other with `x`, each in the same order whatever `R` is.
    ///
    /// # Safety
    /// As [`matvec`]; `weight` points at `R · x.len()` numbers.
    #[target_feature(enable = "avx2,fma")]
    unsafe fn rows<const R: usize>(weight: *const f32, x: &[f32]) -> [f32; R] {
        let n = x.len();
        let mut low = [_mm256_setzero_ps(); R];
        let mut high = [_mm256_setzero_ps(); R];
        let mut i = 0;
        while i + 16 <= n {
            // SAFETY: i + 16 <= n, so both loads of x and those of each row stay inside them.
            unsafe {
                let x_low = _mm256_loadu_ps(x.as_ptr().add(i));
                let x_high = _mm256_loadu_ps(x.as_ptr().add(i + 8));
                for r in 0..R {
                    let row = weight.add(r * n + i);
                    // A few lines ahead of the four streams: the hardware alone stops at each page.
                    _mm_prefetch(row.wrapping_add(256) as *const i8, _MM_HINT_T0);
                    low[r] = _mm256_fmadd_ps(_mm256_loadu_ps(row), x_low, low[r]);
                    high[r] = _mm256_fmadd_ps(_mm256_loadu_ps(row.add(8)), x_high, high[r]);
                }
            }
            i += 16;
        }
        std::array::from_fn(|r| {
            let mut lanes = [0.0f32; 8];
            // SAFETY: there is room for eight numbers.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(low[r], high[r])) };
            let mut sum: f32 = lanes.iter().sum();
            for (j, x) in x.iter().enumerate().skip(i) {
                // SAFETY: j < n, inside the row.
                sum += unsafe { *weight.add(r * n + j) } * x;
            }
            sum
        })
    }
}

//! Attention of one query over cached keys, in float32 or bfloat16.

use super::matvec_no_grad;
use crate::kernel::Float;
use crate::kernel::bfloat16::{self, widened};
use crate::kernel::simd::{LANES, join, multiversion};
use crate::softmax::cpu::forward_rows as softmax_rows;
use half::bf16;

/// Keys or values, one after another.
#[derive(Clone, Copy)]
pub enum Held<'a> {
    /// In float32.
    Floats(&'a [f32]),
    /// In bfloat16.
    Halves(&'a [bf16]),
}

impl<'a> Held<'a> {
    /// The values of a range.
    pub fn part(self, range: std::ops::Range<usize>) -> Self {
        match self {
            Self::Floats(all) => Self::Floats(&all[range]),
            Self::Halves(all) => Self::Halves(&all[range]),
        }
    }
}

/// `softmax(scale · q kᵀ) v` of one query head over the cached keys.
///
/// `scores` is a work buffer of one value per key.
///
/// # Shape
/// q `[k]`, keys and values `[s, k]` → `[k]`.
///
/// # Gradient
/// None.
pub fn attend_no_grad(
    q_k: &[f32],
    keys_sk: Held<'_>,
    values_sk: Held<'_>,
    scale: f32,
    scores: &mut [f32],
    out_k: &mut [f32],
) {
    match keys_sk {
        Held::Floats(keys_sk) => matvec_no_grad(keys_sk, q_k, None, scores),
        Held::Halves(keys_sk) => score_halves::<f32>(keys_sk, q_k, scores),
    }
    scores.iter_mut().for_each(|score| *score *= scale);
    softmax_rows(scores, scores.len().max(1));
    match values_sk {
        Held::Floats(values_sk) => {
            out_k.fill(0.0);
            for (weight, value) in scores.iter().zip(values_sk.chunks_exact(out_k.len().max(1))) {
                for (out, value) in out_k.iter_mut().zip(value) {
                    *out += weight * value;
                }
            }
        }
        Held::Halves(values_sk) => weigh_halves::<f32>(values_sk, scores, out_k),
    }
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
pub fn to_halves_no_grad(x: &[f32], out: &mut [bf16]) {
    bfloat16::round(x, out);
}

multiversion! {
    fn score_halves = score_halves_body(keys: &[bf16], q: &[f32], scores: &mut [f32]);
    fn weigh_halves = weigh_halves_body(values: &[bf16], weights: &[f32], out: &mut [f32]);
}

#[inline(always)]
fn score_halves_body<T: Float, const FMA: bool>(keys: &[bf16], q: &[f32], scores: &mut [f32]) {
    for (key, score) in keys.chunks_exact(q.len().max(1)).zip(scores) {
        let mut lanes = [0.0f32; LANES];
        let ((keys, key_rest), (qs, q_rest)) = (key.as_chunks::<LANES>(), q.as_chunks::<LANES>());
        for (key, q) in keys.iter().zip(qs) {
            for lane in 0..LANES {
                lanes[lane] = q[lane].fma::<FMA>(widened(key[lane]), lanes[lane]);
            }
        }
        for (lane, (key, q)) in lanes.iter_mut().zip(key_rest.iter().zip(q_rest)) {
            *lane = q.fma::<FMA>(widened(*key), *lane);
        }
        *score = join(lanes);
    }
}

#[inline(always)]
fn weigh_halves_body<T: Float, const FMA: bool>(values: &[bf16], weights: &[f32], out: &mut [f32]) {
    let k = out.len().max(1);
    let (chunks, rest) = out.as_chunks_mut::<{ 2 * LANES }>();
    let n_whole = chunks.len() * 2 * LANES;
    for (number, out) in chunks.iter_mut().enumerate() {
        let (mut low, mut high) = ([0.0f32; LANES], [0.0f32; LANES]);
        for (weight, value) in weights.iter().zip(values.chunks_exact(k)) {
            let value = &value[number * 2 * LANES..][..2 * LANES];
            for lane in 0..LANES {
                low[lane] = weight.fma::<FMA>(widened(value[lane]), low[lane]);
            }
            for lane in 0..LANES {
                high[lane] = weight.fma::<FMA>(widened(value[LANES + lane]), high[lane]);
            }
        }
        out[..LANES].copy_from_slice(&low);
        out[LANES..].copy_from_slice(&high);
    }
    rest.fill(0.0);
    if !rest.is_empty() {
        for (weight, value) in weights.iter().zip(values.chunks_exact(k)) {
            for (out, value) in rest.iter_mut().zip(&value[n_whole..]) {
                *out = weight.fma::<FMA>(widened(*value), *out);
            }
        }
    }
}

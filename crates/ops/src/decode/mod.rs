//! What one token needs on its way through a model: matrix times vector, one query's attention, norms, activations.
//!
//! Plain slices of float32, no autograd, no tensors: with one token at a time the work is to read every weight once, as
//! fast as memory gives them. A [`Team`] of threads shares out rows of a matrix or heads, never the terms of a sum, so
//! the bits don't depend on how many there are.

mod activation;
mod kernel;
mod team;

pub use activation::{gelu_tanh_no_grad, relu2_no_grad, swiglu_no_grad};
use kernel::{LANES, folded};
pub use kernel::{attend_no_grad, matvec_no_grad};
pub use team::Team;

/// `y = (x − mean) / √(variance + eps) · weight + bias` of one vector (as [`crate::layer_norm`]).
pub fn layer_norm_no_grad(x: &[f32], weight: &[f32], bias: &[f32], eps: f64, out: &mut [f32]) {
    let n = x.len() as f32;
    let mean = sum_of(x, |v| v) / n;
    let variance = sum_of(x, |v| (v - mean) * (v - mean)) / n;
    let scale = 1.0 / (variance + eps as f32).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        *out = (x[i] - mean) * scale * weight[i] + bias[i];
    }
}

/// `y = x / √(mean(x²) + eps) · weight` of one vector (as [`crate::rms_norm`]).
pub fn rms_norm_no_grad(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
    let square = sum_of(x, |v| v * v) / x.len() as f32;
    let scale = 1.0 / (square + eps as f32).sqrt();
    for (i, out) in out.iter_mut().enumerate() {
        *out = x[i] * scale * weight[i];
    }
}

/// Turns each head of one token by its place's angles, halves against each other (as [`crate::rotary()`]).
///
/// # Shape
/// x [h · k], cos and sin [k/2].
pub fn rotary_no_grad(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    for head in x.chunks_exact_mut(2 * half) {
        let (first, second) = head.split_at_mut(half);
        for i in 0..half {
            let (a, b) = (first[i], second[i]);
            first[i] = a * cos[i] - b * sin[i];
            second[i] = b * cos[i] + a * sin[i];
        }
    }
}

/// `Σ f(x)` in lanes: one sum after the other would wait for itself.
fn sum_of(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder().iter();
    for block in blocks {
        lanes.iter_mut().zip(block).for_each(|(lane, x)| *lane += f(*x));
    }
    rest.fold(folded(&lanes), |sum, x| sum + f(*x))
}

#[cfg(test)]
mod tests;

//! What one token needs on its way through a model: matrix times vector, one query's attention, norms, activations.
//!
//! Plain slices of float32, no autograd, no tensors: with one token at a time the work is to read every weight once, as
//! fast as memory gives them. A [`Team`] of threads shares out rows of a matrix or heads, never the terms of a sum, so
//! the bits don't depend on how many there are.

mod activation;
mod kernel;
mod team;

use crate::norm::cpu::forward_rows;
use crate::rotary::cpu::rotate;
pub use activation::{activate_no_grad, gate_no_grad};
pub use kernel::{attend_no_grad, matvec_no_grad};
pub use team::Team;

/// `y = (x − mean) / √(variance + eps) · weight + bias` of one vector (as [`crate::layer_norm`]).
pub fn layer_norm_no_grad(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f64, out: &mut [f32]) {
    forward_rows(x, weight, bias, eps as f32, true, out, &mut [0.0], &mut [0.0]);
}

/// `y = x / √(mean(x²) + eps) · weight` of one vector (as [`crate::rms_norm`]).
pub fn rms_norm_no_grad(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
    forward_rows(x, weight, None, eps as f32, false, out, &mut [0.0], &mut [0.0]);
}

/// Rotates each head of one token by the angles of its position, halves against each other (as [`crate::rotary()`]).
///
/// # Shape
/// x `[h · k]`, cos and sin `[r]` with r ≤ k/2.
pub fn rotary_no_grad(x: &mut [f32], k: usize, cos: &[f32], sin: &[f32]) {
    let (stride, half) = (x.len(), cos.len());
    if let (Some(heads @ 1..), 1..) = (stride.checked_div(k), half) {
        rotate(cos, sin, x, stride, heads, (k, half), false);
    }
}

#[cfg(test)]
mod tests;

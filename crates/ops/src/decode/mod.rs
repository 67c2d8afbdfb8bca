//! Token decoding kernels for the CPU: matrix-vector products, single-query attention, norms, activations.
//!
//! Plain slices of float32, without autograd or tensors: the task is to read every weight once, at memory speed, for
//! one token or for many. Weights are float32 in place, or [`Packed`] in a smaller type. A [`Team`] of threads divides
//! rows of a matrix or heads, never the terms of a sum, so the bits don't depend on the number of threads, nor those of
//! one token on the other tokens.

mod activation;
mod attention;
mod kernel;
mod packed;
mod project;

pub use crate::kernel::lines::Arena;
pub use crate::kernel::team::Team;
use crate::norm::cpu::forward_rows;
use crate::rotary::cpu::rotate;
pub use activation::{activate_no_grad, gate_no_grad};
pub use attention::{Held, attend_no_grad, to_halves_no_grad};
pub use kernel::matvec_no_grad;
pub use packed::{BlockRows, Packed, PackedType, Rows};
pub use project::{Inputs, Side, Weight, project_gated_no_grad, project_no_grad};

/// `y = (x − mean) / √(variance + eps) · weight + bias` of one vector (as [`crate::layer_norm`]).
pub fn layer_norm_no_grad(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f64, out: &mut [f32]) {
    forward_rows(x, weight, bias, eps as f32, true, out, &mut [0.0], &mut [0.0]);
}

/// `y = x / √(mean(x²) + eps) · weight` of one vector (as [`crate::rms_norm`]).
pub fn rms_norm_no_grad(x: &[f32], weight: &[f32], eps: f64, out: &mut [f32]) {
    forward_rows(x, weight, None, eps as f32, false, out, &mut [0.0], &mut [0.0]);
}

/// Rotates each head of one token by the angles of its position, pairing the head's halves (as [`crate::rotary()`]).
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

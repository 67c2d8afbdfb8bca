//! Activations of plain slices, by the training kernels.

use crate::activation::Activation;
use crate::activation::cpu::{gate_in_place, in_place};

/// `x ← f(x)` for each element (as [`Activation::apply`]).
pub fn activate_no_grad(f: Activation, x: &mut [f32]) {
    in_place(f, x);
}

/// `up ← f(gate) · up` for each element, up to the shorter length.
pub fn gate_no_grad(f: Activation, gate: &[f32], up: &mut [f32]) {
    gate_in_place(f, gate, up);
}

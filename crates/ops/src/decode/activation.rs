//! Activations of plain slices, by the kernels of training.

use crate::activation::Activation;
use crate::activation::cpu::{gate_in_place, in_place};

/// `x ← f(x)` for each element (as [`Activation::apply`]).
pub fn activate_no_grad(f: Activation, x: &mut [f32]) {
    in_place(f, x);
}

/// `up ← f(gate) · up` for each element, of as many as there are in both.
pub fn gate_no_grad(f: Activation, gate: &[f32], up: &mut [f32]) {
    gate_in_place(f, gate, up);
}

/// `x ← gelu(x)`, tanh form (as [`crate::gelu_tanh`]).
pub fn gelu_tanh_no_grad(x: &mut [f32]) {
    activate_no_grad(Activation::GeluTanh, x);
}

/// `x ← relu(x)²` (as [`crate::relu2`]).
pub fn relu2_no_grad(x: &mut [f32]) {
    activate_no_grad(Activation::Relu2, x);
}

/// `up ← silu(gate) · up` (as [`crate::swiglu`]).
pub fn swiglu_no_grad(gate: &[f32], up: &mut [f32]) {
    gate_no_grad(Activation::Silu, gate, up);
}

//! Activations of plain slices, in a form that compilers turn into vector instructions.

/// `eˣ` to about 1e-7 of itself: `2ⁿ · p(r)` with `x = n ln 2 + r`, p the Taylor polynomial of degree 7.
#[inline(always)]
fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E).round();
    // ln 2 in two parts, so that the remainder loses no bits.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// `x ← gelu(x)`, tanh form, by `½(1 + tanh u) = 1 / (1 + exp(−2u))` (as [`crate::gelu_tanh`]).
pub fn gelu_tanh_no_grad(x: &mut [f32]) {
    const ROOT: f32 = 0.797_884_6;
    for x in x {
        let u = ROOT * (*x + 0.044_715 * *x * *x * *x);
        *x /= 1.0 + exp(-2.0 * u);
    }
}

/// `x ← relu(x)²` (as [`crate::relu2`]).
pub fn relu2_no_grad(x: &mut [f32]) {
    for x in x {
        *x = x.max(0.0) * x.max(0.0);
    }
}

/// `up ← silu(gate) · up` (as [`crate::swiglu`]).
pub fn swiglu_no_grad(gate: &[f32], up: &mut [f32]) {
    for (gate, up) in gate.iter().zip(up) {
        *up *= gate / (1.0 + exp(-gate));
    }
}

/// `x ← exp(x − max)`; their sum.
pub(super) fn exp_shifted(x: &mut [f32]) -> f32 {
    let greatest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = exp(*x - greatest));
    x.iter().sum()
}

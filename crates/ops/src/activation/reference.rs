//! The activations in plain candle operations.

use candle_core::{Result, Tensor};

/// `√(2/π)` of GELU's tanh form.
pub(crate) const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;
/// The coefficient of the cubic term in GELU's tanh form.
pub(crate) const GELU_CUBIC: f64 = 0.044_715;

/// [`crate::gelu_tanh`], written out: candle's own `gelu` has a backward pass of only six digits.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    let inner = ((x + (x.sqr()? * x)?.affine(GELU_CUBIC, 0.0)?)? * SQRT_2_OVER_PI)?;
    (x * inner.tanh()?.affine(0.5, 0.5)?)?.contiguous()
}

/// [`crate::gelu_erf`].
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    x * x.affine(std::f64::consts::FRAC_1_SQRT_2, 0.0)?.erf()?.affine(0.5, 0.5)?
}

/// [`crate::silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    x.silu()
}

/// [`crate::relu2`].
pub fn relu2(x: &Tensor) -> Result<Tensor> {
    x.relu()?.sqr()
}

/// [`crate::relu`].
pub fn relu(x: &Tensor) -> Result<Tensor> {
    x.relu()
}

/// [`crate::swiglu`].
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    silu(gate)? * up
}

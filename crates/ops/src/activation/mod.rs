//! Activations, element by element: GELU in both forms, SiLU, squared ReLU, and the gated SwiGLU.

pub(crate) mod reference;

use candle_core::{Result, Tensor};

/// GELU by tanh: `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`
/// ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415); GPT-2's `gelu_new`).
///
/// # Shape
/// Any; the result has the same.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    reference::gelu_tanh(x)
}

/// GELU itself: `x Φ(x) = x/2 (1 + erf(x/√2))` ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)).
///
/// # Shape
/// Any; the result has the same.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    reference::gelu_erf(x)
}

/// SiLU: `x σ(x)` ([Elfwing and others 2017](https://arxiv.org/abs/1702.03118)).
///
/// # Shape
/// Any; the result has the same.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    reference::silu(x)
}

/// Squared ReLU: `max(x, 0)²` ([So and others 2021](https://arxiv.org/abs/2109.08668)).
///
/// # Shape
/// Any; the result has the same.
pub fn relu2(x: &Tensor) -> Result<Tensor> {
    reference::relu2(x)
}

/// SwiGLU: `silu(gate) · up` ([Shazeer 2020](https://arxiv.org/abs/2002.05202), without its projections).
///
/// # Shape
/// Both arguments and the result have the same.
///
/// # Errors
/// Where the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    reference::swiglu(gate, up)
}

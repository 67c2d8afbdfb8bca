//! Elementwise activations: GELU in both forms, SiLU, ReLU and its square, and the gated SwiGLU.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor, bail};
use cpu::{activate, gated};

/// The activations by name, for operations that contain one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// [`gelu_tanh`].
    GeluTanh,
    /// [`gelu_erf`].
    GeluErf,
    /// [`silu`].
    Silu,
    /// [`relu2`].
    Relu2,
    /// [`relu`].
    Relu,
}

impl Activation {
    /// The activation of each element.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        if fits(&[x]) { by_dtype!(x, activate(self, x)) } else { self.reference(x) }
    }

    /// The same in plain candle operations.
    pub(crate) fn reference(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::GeluTanh => reference::gelu_tanh(x),
            Self::GeluErf => reference::gelu_erf(x),
            Self::Silu => reference::silu(x),
            Self::Relu2 => reference::relu2(x),
            Self::Relu => reference::relu(x),
        }
    }
}

/// GELU in its tanh form: `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`
/// ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415); GPT-2's `gelu_new`).
///
/// # Shape
/// Any; the result has the same.
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    Activation::GeluTanh.apply(x)
}

/// GELU in its exact form: `x Φ(x) = x/2 (1 + erf(x/√2))`
/// ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)).
///
/// # Shape
/// Any; the result has the same.
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    Activation::GeluErf.apply(x)
}

/// SiLU: `x σ(x)` ([Elfwing and others 2017](https://arxiv.org/abs/1702.03118)).
///
/// # Shape
/// Any; the result has the same.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Activation::Silu.apply(x)
}

/// Squared ReLU: `max(x, 0)²` ([So and others 2021](https://arxiv.org/abs/2109.08668)).
///
/// # Shape
/// Any; the result has the same.
pub fn relu2(x: &Tensor) -> Result<Tensor> {
    Activation::Relu2.apply(x)
}

/// ReLU: `max(x, 0)` ([Fukushima 1969](https://doi.org/10.1109/TSSC.1969.300225)).
///
/// # Shape
/// Any; the result has the same.
///
/// # Gradient
/// 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Activation::Relu.apply(x)
}

/// SwiGLU: `silu(gate) · up` ([Shazeer 2020](https://arxiv.org/abs/2002.05202), without its projections).
///
/// # Shape
/// Both arguments and the result have the same.
///
/// # Errors
/// Returns an error if the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        bail!("swiglu: gate {:?} and up {:?} differ in shape", gate.dims(), up.dims());
    }
    if fits(&[gate, up]) {
        by_dtype!(gate, gated(Activation::Silu, gate, up))
    } else {
        reference::swiglu(gate, up)
    }
}

//! A linear projection with a low-rank adapter.

pub(crate) mod cpu;
pub(crate) mod reference;

use candle_core::{Result, Tensor};

use super::reference::shapes;
use crate::blocks::widened;
use crate::dropout::Dropout;
use crate::kernel::{by_dtype, fits};
use crate::parts::Linear;
use cpu::node;

/// `y = x Wᵀ + s · dropout(x) Aᵀ Bᵀ + b`; with a magnitude `y = m/‖V‖ ∘ (x Wᵀ + s · dropout(x) Aᵀ Bᵀ) + b`, where
/// `V = W + s B A` and the norm is that of each row. A projection without an adapter is [`crate::linear()`].
///
/// With dropout the magnitude applies to `W` and `B A` alike, as without.
///
/// # Shape
/// x `[b, .., i]`, weight `[o, i]`, A `[r, i]`, B `[o, r]`, magnitude and bias `[o]` → `[b, .., o]`.
///
/// # Gradient
/// For x and each parameter; `‖V‖` is treated as a constant, as in the paper (section 4.3).
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn adapted_linear(
    x_xi: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let (_, i, o) = shapes(x_xi, projection.weight, projection.bias)?;
    let Some(adapter) = projection.adapter else {
        return crate::linear(x_xi, projection.weight, projection.bias);
    };
    adapter.check((o, i))?;
    dropout.map_or(Ok(()), Dropout::check)?;
    let mut inputs = vec![x_xi];
    inputs.extend(projection.inputs());
    if fits(&inputs) {
        by_dtype!(x_xi, node(x_xi, projection, dropout, &inputs))
    } else {
        reference::adapted_linear(x_xi, projection, dropout)
    }
}

/// The merged weight of a projection with its adapter: `W + s B A`, or `m/‖V‖ ∘ V` with a magnitude; without an adapter
/// `W`.
///
/// # Shape
/// `[o, i]`.
///
/// # Gradient
/// None: the result is not on the tape.
///
/// # Errors
/// Returns an error if the widths don't match.
pub fn merged_no_grad(projection: Linear<&Tensor>) -> Result<Tensor> {
    let weight = projection.weight.detach();
    let Some(adapter) = projection.adapter else { return Ok(weight) };
    adapter.check(weight.dims2()?)?;
    let weight = widened(&weight, adapter.a.dtype())?;
    let low = adapter.b.detach().matmul(&adapter.a.detach())?;
    let whole = (weight + low.affine(adapter.scale, 0.0)?)?;
    match adapter.magnitude {
        Some(magnitude) => {
            let gain = (magnitude.detach() / reference::row_norms(&whole)?)?;
            whole.broadcast_mul(&gain.unsqueeze(1)?)
        }
        None => Ok(whole),
    }
}

impl Linear<&Tensor> {
    /// `x Wᵀ + b` with the adapter's contribution, without dropout.
    ///
    /// # Errors
    /// Returns an error if the widths don't match.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        adapted_linear(x, *self, None)
    }

    /// The projection in plain candle operations, with the dropout of its adapter.
    pub(crate) fn reference(&self, x: &Tensor, dropout: Option<&Dropout>) -> Result<Tensor> {
        reference::adapted_linear(x, *self, dropout)
    }
}

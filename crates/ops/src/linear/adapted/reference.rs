//! A projection with an adapter in plain candle operations.

use candle_core::{D, Result, Tensor};

use super::super::reference::linear;
use crate::dropout::Dropout;
use crate::dropout::reference::dropout as drop_some;
use crate::parts::Linear;

/// [`crate::adapted_linear`].
pub fn adapted_linear(
    x_xi: &Tensor,
    projection: Linear<&Tensor>,
    dropout: Option<&Dropout>,
) -> Result<Tensor> {
    let Some(adapter) = projection.adapter else {
        return linear(x_xi, projection.weight, projection.bias);
    };
    let dropped = match adapter.dropout(dropout) {
        Some(rule) => drop_some(x_xi, &rule)?,
        None => x_xi.clone(),
    };
    let low = linear(&linear(&dropped, adapter.a, None)?, adapter.b, None)?;
    let y = (linear(x_xi, projection.weight, None)? + low.affine(adapter.scale, 0.0)?)?;
    let y = match adapter.magnitude {
        Some(magnitude) => {
            let low = adapter.b.detach().matmul(&adapter.a.detach())?;
            let norms = row_norms(&(projection.weight.detach() + low.affine(adapter.scale, 0.0)?)?)?;
            y.broadcast_mul(&(magnitude / norms)?)?
        }
        None => y,
    };
    projection.bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(bias))
}

/// The Euclidean norm of each row.
pub(super) fn row_norms(x_oi: &Tensor) -> Result<Tensor> {
    x_oi.sqr()?.sum(D::Minus1)?.sqrt()
}

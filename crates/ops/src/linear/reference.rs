//! The linear projection in plain candle operations.

use candle_core::{Result, Tensor, bail};

/// Checks the shapes and returns (shape of x without its last dimension, i, o).
pub(crate) fn shapes(
    x_xi: &Tensor,
    weight_oi: &Tensor,
    bias_o: Option<&Tensor>,
) -> Result<(Vec<usize>, usize, usize)> {
    let (o, i) = weight_oi.dims2()?;
    let Some((&last, lead)) = x_xi.dims().split_last() else {
        bail!("linear: x is a scalar; it needs a last dimension of {i}")
    };
    if last != i {
        bail!("linear: x {:?} ends in {last}, but weight {:?} needs {i}", x_xi.dims(), weight_oi.dims());
    }
    if let Some(bias_o) = bias_o
        && bias_o.dims() != [o]
    {
        bail!("linear: bias {:?} does not fit weight {:?}; expected [{o}]", bias_o.dims(), weight_oi.dims());
    }
    Ok((lead.to_vec(), i, o))
}

/// [`crate::linear()`].
pub fn linear(x_xi: &Tensor, weight_oi: &Tensor, bias_o: Option<&Tensor>) -> Result<Tensor> {
    let (mut shape, i, o) = shapes(x_xi, weight_oi, bias_o)?;
    let rows: usize = shape.iter().product();
    shape.push(o);
    let y = x_xi.reshape((rows, i))?.matmul(&weight_oi.t()?)?;
    let y = match bias_o {
        Some(bias_o) => y.broadcast_add(bias_o)?,
        None => y,
    };
    y.reshape(shape)
}

//! The norms in plain candle operations.

use candle_core::{D, Result, Tensor, bail};

/// Checks that weight and bias are as wide as x.
pub(crate) fn check(op: &str, x_xd: &Tensor, weight_d: &Tensor, bias_d: Option<&Tensor>) -> Result<()> {
    for (name, tensor) in [("weight", Some(weight_d)), ("bias", bias_d)] {
        if let Some(tensor) = tensor
            && (x_xd.rank() == 0 || tensor.dims() != &x_xd.dims()[x_xd.rank() - 1..])
        {
            bail!("{op}: {name} {:?} does not fit the last dimension of x {:?}", tensor.dims(), x_xd.dims());
        }
    }
    Ok(())
}

/// [`crate::layer_norm`].
pub fn layer_norm(x_xd: &Tensor, weight_d: &Tensor, bias_d: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    check("layer_norm", x_xd, weight_d, bias_d)?;
    let centered = x_xd.broadcast_sub(&x_xd.mean_keepdim(D::Minus1)?)?;
    let variance = centered.sqr()?.mean_keepdim(D::Minus1)?;
    let normed = centered.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let scaled = normed.broadcast_mul(weight_d)?;
    match bias_d {
        Some(bias_d) => scaled.broadcast_add(bias_d),
        None => Ok(scaled),
    }
}

/// [`crate::rms_norm`].
pub fn rms_norm(x_xd: &Tensor, weight_d: &Tensor, eps: f64) -> Result<Tensor> {
    check("rms_norm", x_xd, weight_d, None)?;
    let mean_square = x_xd.sqr()?.mean_keepdim(D::Minus1)?;
    x_xd.broadcast_div(&(mean_square + eps)?.sqrt()?)?.broadcast_mul(weight_d)
}

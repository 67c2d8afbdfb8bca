//! One vector for a whole row: the mean of its tokens' hidden states.

use candle_core::{Result, Tensor};

use crate::Input;

/// The mean of the hidden states of each row's real tokens, the sentence embedding of
/// [Reimers and Gurevych 2019](https://arxiv.org/abs/1908.10084), sec. 3: `Σ_t keep_t h_t / Σ_t keep_t`.
///
/// A row of padding alone gives zeros.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// When `hidden` is not that of `input`.
pub fn mean_pooled(hidden: &Tensor, input: &Input) -> Result<Tensor> {
    let Some(keep) = &input.keep else { return hidden.mean(1) };
    let (b, t, _) = hidden.dims3()?;
    if keep.len() != b * t {
        candle_core::bail!("mean_pooled: {} marks of padding for {b} rows of {t} tokens", keep.len());
    }
    let shares: Vec<f64> = keep
        .chunks_exact(t)
        .flat_map(|row| {
            let n_real = row.iter().filter(|real| **real != 0).count().max(1) as f64;
            row.iter().map(move |real| if *real == 0 { 0.0 } else { n_real.recip() })
        })
        .collect();
    let shares = Tensor::from_vec(shares, (b, 1, t), hidden.device())?.to_dtype(hidden.dtype())?;
    shares.matmul(&hidden.contiguous()?)?.squeeze(1)
}

/// Vectors of length 1 in the same directions, so that products are cosines.
///
/// # Shape
/// `[b, d]` to the same.
///
/// # Errors
/// Those of the device.
pub fn normalized(x_bd: &Tensor) -> Result<Tensor> {
    let norm = x_bd.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
    x_bd.broadcast_div(&norm)
}

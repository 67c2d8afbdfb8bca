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

/// The hidden state of each row's last real token: the last whose id is not `pad_id`, where one is known (as transformers'
/// classifiers on decoders have it), else the last that the input keeps.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, 1, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// When `hidden` is not that of `input`.
pub(crate) fn last_vectors(hidden: &Tensor, input: &Input, pad_id: Option<u32>) -> Result<Tensor> {
    let (b, t, d) = hidden.dims3()?;
    if input.ids.dims() != [b, t] {
        candle_core::bail!("the last of {t} tokens of {b} rows, but the ids are {:?}", input.ids.dims());
    }
    let real: Vec<bool> = match (pad_id, &input.keep) {
        (Some(pad_id), _) => {
            let ids: Vec<u32> = input.ids.flatten_all()?.to_vec1()?;
            ids.into_iter().map(|id| id != pad_id).collect()
        }
        (None, Some(keep)) => keep.iter().map(|keep| *keep != 0).collect(),
        (None, None) => vec![true; b * t],
    };
    let last =
        |(row, real): (usize, &[bool])| (row * t + real.iter().rposition(|real| *real).unwrap_or(0)) as u32;
    let rows: Vec<u32> = real.chunks_exact(t.max(1)).enumerate().map(last).collect();
    let rows = Tensor::from_vec(rows, b, hidden.device())?;
    hidden.reshape((b * t, d))?.index_select(&rows, 0)?.unsqueeze(1)
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

//! Pooling: one vector per row, computed from its tokens' hidden states.

use candle_core::{DType, Result, Tensor};

use crate::Input;

/// The mean of the hidden states of each row's real tokens, the sentence embedding of
/// [Reimers and Gurevych 2019](https://arxiv.org/abs/1908.10084), sec. 3: `Σ_t keep_t h_t / Σ_t keep_t`.
///
/// A row with only padding yields zeros.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// Returns an error if `hidden` doesn't belong to `input`.
pub fn mean_pooled(hidden: &Tensor, input: &Input) -> Result<Tensor> {
    if input.padding_mask.is_none() {
        return hidden.mean(1);
    }
    weighted_sums(hidden, input, &|n| vec![(n.max(1) as f64).recip(); n])
}

/// `Σ_i w_i h_i` over the real tokens of each row; `weights(n)` returns the weights of n tokens.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// Returns an error if `hidden` doesn't belong to `input`.
pub(crate) fn weighted_sums(
    hidden: &Tensor,
    input: &Input,
    weights: &dyn Fn(usize) -> Vec<f64>,
) -> Result<Tensor> {
    let (b, t, _) = hidden.dims3()?;
    let mut shares = vec![0.0; b * t];
    for (row, real) in real_tokens(hidden, input)?.chunks_exact(t.max(1)).enumerate() {
        let places: Vec<usize> = (0..t).filter(|place| real[*place]).collect();
        for (place, weight) in places.iter().zip(weights(places.len())) {
            shares[row * t + place] = weight;
        }
    }
    let shares = Tensor::from_vec(shares, (b, 1, t), hidden.device())?.to_dtype(hidden.dtype())?;
    shares.matmul(&hidden.contiguous()?)?.squeeze(1)
}

/// Which tokens are not padding, row after row.
fn real_tokens(hidden: &Tensor, input: &Input) -> Result<Vec<bool>> {
    let (b, t, _) = hidden.dims3()?;
    match &input.padding_mask {
        None => Ok(vec![true; b * t]),
        Some(padding_mask) if padding_mask.len() == b * t => {
            Ok(padding_mask.iter().map(|real| *real != 0).collect())
        }
        Some(padding_mask) => {
            candle_core::bail!(
                "pooling: a padding mask of {} entries for {b} rows of {t} tokens",
                padding_mask.len()
            )
        }
    }
}

/// The largest value of each channel over the real tokens of each row.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, d]`.
///
/// # Gradient
/// For the hidden states: of the largest value where it first occurs.
///
/// # Errors
/// Returns an error if `hidden` doesn't belong to `input`.
pub(crate) fn max_pooled(hidden: &Tensor, input: &Input) -> Result<Tensor> {
    let (b, t, d) = hidden.dims3()?;
    let real = real_tokens(hidden, input)?;
    let values: Vec<f64> = hidden.detach().flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
    let mut places = vec![0u32; b * d];
    for row in 0..b {
        for channel in 0..d {
            let mut greatest = f64::NEG_INFINITY;
            for place in (0..t).filter(|place| real[row * t + place]) {
                let value = values[(row * t + place) * d + channel];
                if value > greatest {
                    (greatest, places[row * d + channel]) = (value, place as u32);
                }
            }
        }
    }
    let places = Tensor::from_vec(places, (b, 1, d), hidden.device())?;
    hidden.contiguous()?.gather(&places, 1)?.squeeze(1)
}

/// The hidden state of each row's first real token.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, 1, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// Returns an error if `hidden` doesn't belong to `input`.
pub(crate) fn first_vectors(hidden: &Tensor, input: &Input) -> Result<Tensor> {
    let real = real_tokens(hidden, input)?;
    vectors_at(hidden, &real, |real| real.iter().position(|real| *real))
}

/// The vector at one position of each row of `[b, t, d]`: `[b, 1, d]`.
fn vectors_at(hidden: &Tensor, real: &[bool], pick: impl Fn(&[bool]) -> Option<usize>) -> Result<Tensor> {
    let (b, t, d) = hidden.dims3()?;
    let place = |(row, real): (usize, &[bool])| (row * t + pick(real).unwrap_or(0)) as u32;
    let rows: Vec<u32> = real.chunks_exact(t.max(1)).enumerate().map(place).collect();
    let rows = Tensor::from_vec(rows, b, hidden.device())?;
    hidden.reshape((b * t, d))?.index_select(&rows, 0)?.unsqueeze(1)
}

/// The hidden state of each row's last real token: the last whose id is not `pad_id`, if that is set (as in
/// transformers' classifiers on decoders), else the last that the padding mask keeps.
///
/// # Shape
/// Hidden `[b, t, d]` to `[b, 1, d]`.
///
/// # Gradient
/// For the hidden states.
///
/// # Errors
/// Returns an error if `hidden` doesn't belong to `input`.
pub(crate) fn last_vectors(hidden: &Tensor, input: &Input, pad_id: Option<u32>) -> Result<Tensor> {
    let (b, t, _) = hidden.dims3()?;
    if input.ids.dims() != [b, t] {
        candle_core::bail!("pooling: {b} rows of {t} tokens, but the ids are {:?}", input.ids.dims());
    }
    let real: Vec<bool> = match pad_id {
        Some(pad_id) => {
            let ids: Vec<u32> = input.ids.flatten_all()?.to_vec1()?;
            ids.into_iter().map(|id| id != pad_id).collect()
        }
        None => real_tokens(hidden, input)?,
    };
    vectors_at(hidden, &real, |real| real.iter().rposition(|real| *real))
}

/// Vectors of length 1 in the same directions, whose products are cosines.
///
/// # Shape
/// `[b, d]` to the same.
///
/// # Errors
/// Returns an error if an operation fails.
pub fn normalized(x_bd: &Tensor) -> Result<Tensor> {
    let norm = x_bd.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?;
    x_bd.broadcast_div(&norm)
}

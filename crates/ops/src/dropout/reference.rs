//! Dropout in plain candle operations: a multiplication by a mask.

use crate::Dropout;
use candle_core::{Result, Tensor};

/// [`crate::dropout()`].
pub fn dropout(x: &Tensor, dropout: &Dropout) -> Result<Tensor> {
    dropout.check()?;
    if dropout.p == 0.0 || x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let rows = x.dims().first().copied().unwrap_or(1);
    let width = x.elem_count() / rows;
    let threshold = dropout.threshold();
    let mut factors = vec![0u8; rows * width];
    for (row, factors) in factors.chunks_exact_mut(width).enumerate() {
        let mut stream = dropout.row(row);
        factors.iter_mut().for_each(|f| *f = u8::from(stream.next_u32() >= threshold));
    }
    x * Tensor::from_vec(factors, x.shape(), x.device())?.to_dtype(x.dtype())?.affine(dropout.scale(), 0.0)?
}

/// The factors of attention weights [b, h, t, s]; query `i` is at `past + i`.
pub(crate) fn weight_factors(
    (b, h, t, s): (usize, usize, usize, usize),
    past: usize,
    dropout: &Dropout,
    like: &Tensor,
) -> Result<Tensor> {
    let threshold = dropout.threshold();
    let mut factors = Vec::with_capacity(b * h * t * s);
    for row in 0..b {
        let mut stream = dropout.row(row);
        for head in 0..h {
            for query in 0..t {
                Dropout::seek_weights(&mut stream, head, past + query, 0);
                factors.extend((0..s).map(|_| u8::from(stream.next_u32() >= threshold)));
            }
        }
    }
    Tensor::from_vec(factors, (b, h, t, s), like.device())?
        .to_dtype(like.dtype())?
        .affine(dropout.scale(), 0.0)
}

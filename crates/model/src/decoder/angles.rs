//! The rotary angles of a decoder.

use candle_core::{Result, Tensor};

/// Cosines and sines of rotary angles, `[context_len][n_pair]` each.
pub(super) struct Angles {
    pub(super) cos: Vec<f32>,
    pub(super) sin: Vec<f32>,
    pub(super) n_pair: usize,
}

impl Angles {
    pub(super) fn of((cos, sin): (&Tensor, &Tensor)) -> Result<Self> {
        Ok(Self {
            n_pair: cos.dim(1)?,
            cos: cos.flatten_all()?.to_vec1()?,
            sin: sin.flatten_all()?.to_vec1()?,
        })
    }
}

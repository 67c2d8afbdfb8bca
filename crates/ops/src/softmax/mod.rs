//! Softmax over the last dimension.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor};
use cpu::node;

/// `y_c = exp(x_c − max) / Σ exp(x − max)` over the last dimension.
///
/// # Shape
/// [.., n] → [.., n].
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    match x.dims().last() {
        Some(&width) if width > 0 && fits(&[x]) => by_dtype!(x, node(x, width)),
        _ => reference::softmax(x),
    }
}

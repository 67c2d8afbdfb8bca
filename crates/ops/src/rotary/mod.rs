//! Rotary position embedding.

pub(crate) mod cpu;
pub(crate) mod reference;

use crate::kernel::{by_dtype, fits};
use candle_core::{Result, Tensor};
use cpu::node;

/// Rotates each pair (x_c, x_{c+k/2}) of a head by its position's angle: `(x₁ cos − x₂ sin, x₂ cos + x₁ sin)`
/// ([Su and others 2021](https://arxiv.org/abs/2104.09864), with the halves of a head as the pairs, as in Llama's
/// weights). Tables of r < k/2 angles rotate only the first 2r channels, pairing c with c + r.
///
/// # Shape
/// x [b, t, h, k], cos and sin [positions, r] with r ≤ k/2, positions u32 [b, t] → [b, t, h, k]. Without `positions`
/// the index in the sequence is the row of the tables.
///
/// # Gradient
/// For x only: the tables are constants.
///
/// # Errors
/// Returns an error if the shapes don't match, or a position is beyond the tables.
pub fn rotary(x_bthk: &Tensor, cos: &Tensor, sin: &Tensor, positions: Option<&Tensor>) -> Result<Tensor> {
    if fits(&[x_bthk, cos, sin]) {
        by_dtype!(x_bthk, node(x_bthk, cos, sin, positions))
    } else {
        reference::rotary(x_bthk, cos, sin, positions)
    }
}

//! The state that the blocks of one kind share in a forward pass.

use candle_core::Tensor;
use vulpes_ops::{Mask, RotaryTables};

/// The state that the blocks of one kind share in a forward pass: the attention mask, the rotary angles, and the biases
/// on the scores.
pub(crate) struct Context<'a> {
    /// The tokens' ids, `[b, t]`.
    pub(crate) ids: Tensor,
    pub(crate) mask: Mask,
    pub(crate) rotary: Option<RotaryTables<'a>>,
    /// Added to the scores, `[h, t, s]`.
    pub(crate) bias: Option<Tensor>,
}

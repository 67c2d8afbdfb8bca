//! What the blocks of one kind share in one forward pass.

use candle_core::Tensor;
use vulpes_ops::{Mask, RotaryTables};

/// What the blocks of one kind share in one forward pass: who may look at whom, by what queries and keys are rotated, and
/// what is added to their scores.
pub(crate) struct Context<'a> {
    pub(crate) mask: Mask,
    pub(crate) rotary: Option<RotaryTables<'a>>,
    /// Added to the scores, `[h, t, s]`.
    pub(crate) bias: Option<Tensor>,
}

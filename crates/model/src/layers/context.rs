//! What the blocks of one kind share in one forward pass.

use vulpes_ops::{Mask, RotaryTables};

/// What the blocks of one kind share in one forward pass: who may look at whom, and by what queries and keys are
/// rotated.
pub(crate) struct Context<'a> {
    pub(crate) mask: Mask,
    pub(crate) rotary: Option<RotaryTables<'a>>,
}

//! The input of a decoder.

use super::row::DecoderRow;

/// The next tokens of a row.
pub struct Feed<'r> {
    /// The row.
    pub row: &'r mut DecoderRow,
    /// Its next tokens.
    pub ids: &'r [u32],
    /// Which logits to compute.
    pub wanted: Wanted,
}

/// The tokens of a [`Feed`] for which next-token logits are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// None of them.
    None,
    /// The last one.
    Last,
    /// All of them.
    All,
}

//! The input of a transformer: token ids with positions, types, padding mask and documents.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

/// A batch of rows of token ids, as a transformer reads it.
///
/// # Shape
/// `ids`, `positions`, `token_types`: `[b, t]`, u32.
#[derive(Clone, Debug)]
pub struct Input {
    /// Token ids.
    pub ids: Tensor,
    /// Each token's position; `None` = 0, 1, 2, … from the row's start (or from the cache's end).
    pub positions: Option<Tensor>,
    /// Each token's type (segment); `None` = 0.
    pub token_types: Option<Tensor>,
    /// Padding mask: 1 for a real token, 0 for padding, `[b · s]` (s = t, or with a cache its tokens and these); `None`
    /// = no padding.
    pub padding_mask: Option<Arc<[u8]>>,
    /// A document number for each token, `[b · t]`: attention stays within a document. `None` = one document per row.
    pub segments: Option<Arc<[u32]>>,
}

impl Input {
    /// `rows` rows of `ids.len() / rows` tokens each, without padding.
    ///
    /// # Errors
    /// Returns an error if `rows` doesn't divide the number of ids.
    pub fn new(ids: &[u32], rows: usize, device: &Device) -> Result<Self> {
        if rows == 0 || !ids.len().is_multiple_of(rows) {
            candle_core::bail!("{} ids can't be split into {rows} rows of equal length", ids.len());
        }
        let ids = Tensor::from_slice(ids, (rows, ids.len() / rows), device)?;
        Ok(Self { ids, positions: None, token_types: None, padding_mask: None, segments: None })
    }

    /// The same input with positions, `[b · t]`.
    ///
    /// # Errors
    /// Returns an error if the numbers of positions and ids differ.
    pub fn with_positions(mut self, positions: &[u32]) -> Result<Self> {
        self.positions = Some(Tensor::from_slice(positions, self.ids.dims2()?, self.ids.device())?);
        Ok(self)
    }

    /// The same input with token types, `[b · t]`.
    ///
    /// # Errors
    /// Returns an error if the numbers of types and ids differ.
    pub fn with_token_types(mut self, token_types: &[u32]) -> Result<Self> {
        self.token_types = Some(Tensor::from_slice(token_types, self.ids.dims2()?, self.ids.device())?);
        Ok(self)
    }

    /// The same input with a padding mask: 1 for a real token, 0 for padding.
    pub fn with_padding_mask(mut self, padding_mask: Arc<[u8]>) -> Self {
        self.padding_mask = Some(padding_mask);
        self
    }

    /// The same input with document numbers; attention doesn't cross documents.
    pub fn with_segments(mut self, segments: Arc<[u32]>) -> Self {
        self.segments = Some(segments);
        self
    }
}

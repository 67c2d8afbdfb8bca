//! Keys and values of the tokens that a model has read, so that it need not read them again.

use candle_core::{Result, Tensor};

/// Keys and values of every layer for the tokens read so far.
///
/// # Shape
/// For each layer `[b, s, g, k]`: rows, tokens so far, key/value heads, head width.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<Option<(Tensor, Tensor)>>,
}

impl KvCache {
    /// An empty cache for `n_layer` layers.
    pub fn new(n_layer: usize) -> Self {
        Self { layers: vec![None; n_layer] }
    }

    /// How many tokens the cache holds.
    pub fn len(&self) -> usize {
        match self.layers.first() {
            Some(Some((key, _))) => key.dims().get(1).copied().unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether nothing was read yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the keys and values of new tokens to a layer, and returns all of that layer's.
    pub(crate) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        let Some(slot) = self.layers.get_mut(layer) else {
            candle_core::bail!(
                "the cache has {} layers; the model asks for layer {layer}",
                self.layers.len()
            );
        };
        let both = match slot.take() {
            Some((old_key, old_value)) => {
                (Tensor::cat(&[&old_key, key], 1)?, Tensor::cat(&[&old_value, value], 1)?)
            }
            None => (key.clone(), value.clone()),
        };
        *slot = Some(both.clone());
        Ok(both)
    }
}

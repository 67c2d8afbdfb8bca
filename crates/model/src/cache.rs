//! Keys and values of the tokens that a model has read, so that it need not read them again.

use candle_core::{Result, Tensor};

/// Keys and values of every layer for the tokens read so far; of a windowed layer only those still in its window.
///
/// # Shape
/// For each layer `[b, s, g, k]`: rows, tokens held, key/value heads, head width.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<Layer>,
    n_seen: usize,
}

/// What is held of one layer.
#[derive(Clone, Debug, Default)]
struct Layer {
    held: Option<(Tensor, Tensor)>,
    window: Option<usize>,
}

impl KvCache {
    /// An empty cache for `n_layer` layers that holds everything.
    pub fn new(n_layer: usize) -> Self {
        Self { layers: vec![Layer::default(); n_layer], n_seen: 0 }
    }

    /// An empty cache for a model of this config: no layer holds more than its window lets a query see.
    pub fn of(config: &crate::ModelConfig) -> Self {
        let layer = |layer| Layer { held: None, window: config.layer_kind(layer).window };
        Self { layers: (0..config.n_layer).map(layer).collect(), n_seen: 0 }
    }

    /// How many tokens the cache holds: of the layer that holds the most.
    pub fn len(&self) -> usize {
        (0..self.layers.len()).map(|layer| self.len_of(layer)).max().unwrap_or(0)
    }

    /// How many tokens one layer holds.
    pub(crate) fn len_of(&self, layer: usize) -> usize {
        self.layer(layer).map_or(0, |(key, _)| key.dims().get(1).copied().unwrap_or(0))
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many tokens were read, held or not: the next token's position.
    pub fn n_seen(&self) -> usize {
        self.n_seen
    }

    /// The keys and values of one layer, `[b, s, g, k]` each; none before anything was read.
    pub fn layer(&self, layer: usize) -> Option<(&Tensor, &Tensor)> {
        self.layers.get(layer)?.held.as_ref().map(|(key, value)| (key, value))
    }

    /// Adds the keys and values of new tokens to a layer, and returns all that their queries may need.
    pub(crate) fn append(&mut self, layer: usize, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        if layer == 0 {
            self.n_seen += key.dim(1)?;
        }
        let n_layer = self.layers.len();
        let Some(Layer { held, window }) = self.layers.get_mut(layer) else {
            candle_core::bail!("the cache has {n_layer} layers; the model asks for layer {layer}");
        };
        let both = match held.take() {
            Some((old_key, old_value)) => {
                (Tensor::cat(&[&old_key, key], 1)?, Tensor::cat(&[&old_value, value], 1)?)
            }
            None => (key.clone(), value.clone()),
        };
        // The next query sees itself and window - 1 before it.
        let len = both.0.dim(1)?;
        let kept = window.map_or(len, |window| len.min(window.saturating_sub(1)));
        let end = |x: &Tensor| {
            if kept == len { Ok(x.clone()) } else { x.narrow(1, len - kept, kept)?.contiguous() }
        };
        *held = Some((end(&both.0)?, end(&both.1)?));
        Ok(both)
    }
}

//! Keys and values of one row, layer after layer.

use candle_core::{DType, Result, bail};

use crate::cache::KvCache;
use crate::config::ModelConfig;

/// What one row has read: its keys and values, of windowed layers the last of them.
#[derive(Clone, Debug)]
pub struct DecoderRow {
    pub(super) layers: Vec<Ring>,
    /// Tokens read.
    pub(super) n_seen: usize,
}

/// Keys and values of one layer, `[g][slot][k]` each: token n is in slot n modulo the number of slots.
#[derive(Clone, Debug)]
pub(super) struct Ring {
    pub(super) keys: Vec<f32>,
    pub(super) values: Vec<f32>,
    pub(super) n_slot: usize,
}

impl DecoderRow {
    /// A row of such a model that has read nothing.
    pub(super) fn empty(config: &ModelConfig) -> Self {
        let ring = |layer| {
            let window = config.layer_kind(layer).window.unwrap_or(usize::MAX);
            let n_slot = window.min(config.context_len).max(1);
            let n = config.n_kv_head * n_slot * config.d_head;
            Ring { keys: vec![0.0; n], values: vec![0.0; n], n_slot }
        };
        Self { layers: (0..config.n_layer).map(ring).collect(), n_seen: 0 }
    }

    /// What row `row` of a cache holds.
    ///
    /// # Errors
    /// Returns an error if the cache is empty or another model's.
    pub(super) fn of_cache(config: &ModelConfig, cache: &KvCache, row: usize) -> Result<Self> {
        let mut taken = Self { n_seen: cache.n_seen(), ..Self::empty(config) };
        for (layer, ring) in taken.layers.iter_mut().enumerate() {
            let Some((keys, values)) = cache.layer(layer) else {
                bail!("the cache holds nothing of layer {layer}");
            };
            for (from, to) in [(keys, &mut ring.keys), (values, &mut ring.values)] {
                let from = from.get(row)?.to_dtype(DType::F32)?.to_vec3::<f32>()?;
                let held = from.len();
                for (n, token) in from.iter().enumerate().skip(held.saturating_sub(ring.n_slot)) {
                    let slot = (cache.n_seen() - held + n) % ring.n_slot;
                    if token.len() != config.n_kv_head || token.iter().any(|k| k.len() != config.d_head) {
                        bail!("the cache is that of another model");
                    }
                    for (group, numbers) in token.iter().enumerate() {
                        let at = (group * ring.n_slot + slot) * config.d_head;
                        to[at..at + config.d_head].copy_from_slice(numbers);
                    }
                }
            }
        }
        Ok(taken)
    }
}

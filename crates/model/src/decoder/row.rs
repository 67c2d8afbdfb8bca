//! Keys and values of one row, layer after layer.

use candle_core::{DType, Result, bail};
use half::bf16;
use vulpes_ops::decode::{Held, to_halves_no_grad};

use crate::cache::KvCache;
use crate::config::ModelConfig;

/// The state of one row: its keys and values, of windowed layers only the last of them.
#[derive(Debug)]
pub struct DecoderRow {
    pub(super) layers: Vec<Ring>,
    /// The number of tokens read.
    pub(super) n_seen: usize,
}

/// Keys and values of one layer, `[g][slot][k]` each: token n is in slot n modulo the number of slots.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) keys: Numbers,
    pub(super) values: Numbers,
    pub(super) n_slot: usize,
    /// The width of a head.
    k: usize,
}

impl Clone for DecoderRow {
    /// Copies what was read: slots that are still empty take no memory in either.
    fn clone(&self) -> Self {
        let ring = |Ring { keys, values, n_slot, k }: &Ring| {
            let (stretch, n_held) = (n_slot * k, self.n_seen.min(*n_slot) * k);
            Ring {
                keys: keys.copy(stretch, n_held),
                values: values.copy(stretch, n_held),
                n_slot: *n_slot,
                k: *k,
            }
        };
        Self { layers: self.layers.iter().map(ring).collect(), n_seen: self.n_seen }
    }
}

/// Values that are written once and read at every later token.
#[derive(Debug)]
pub(super) enum Numbers {
    Floats(Vec<f32>),
    /// bfloat16.
    Halves(Vec<bf16>),
}

impl Numbers {
    fn zeros(n: usize, halves: bool) -> Self {
        if halves { Self::Halves(vec![bf16::ZERO; n]) } else { Self::Floats(vec![0.0; n]) }
    }

    /// The first `n_held` values of each `stretch`, and zeros.
    fn copy(&self, stretch: usize, n_held: usize) -> Self {
        fn copied<T: Copy>(from: &[T], mut to: Vec<T>, stretch: usize, n_held: usize) -> Vec<T> {
            for (from, to) in from.chunks(stretch.max(1)).zip(to.chunks_mut(stretch.max(1))) {
                to[..n_held].copy_from_slice(&from[..n_held]);
            }
            to
        }
        match self {
            Self::Floats(from) => Self::Floats(copied(from, vec![0.0; from.len()], stretch, n_held)),
            Self::Halves(from) => Self::Halves(copied(from, vec![bf16::ZERO; from.len()], stretch, n_held)),
        }
    }

    pub(super) fn write(&mut self, at: usize, numbers: &[f32]) {
        let range = at..at + numbers.len();
        match self {
            Self::Floats(held) => held[range].copy_from_slice(numbers),
            Self::Halves(held) => to_halves_no_grad(numbers, &mut held[range]),
        }
    }

    pub(super) fn held(&self) -> Held<'_> {
        match self {
            Self::Floats(held) => Held::Floats(held),
            Self::Halves(held) => Held::Halves(held),
        }
    }
}

impl DecoderRow {
    /// An empty row of such a model, its keys and values in float32 or, with `halves`, in bfloat16.
    pub(super) fn empty(config: &ModelConfig, halves: bool) -> Self {
        let ring = |layer| {
            let window = config.layer_kind(layer).window.unwrap_or(usize::MAX);
            let n_slot = window.min(config.context_len).max(1);
            let n = config.n_kv_head * n_slot * config.d_head;
            let (keys, values) = (Numbers::zeros(n, halves), Numbers::zeros(n, halves));
            Ring { keys, values, n_slot, k: config.d_head }
        };
        Self { layers: (0..config.n_layer).map(ring).collect(), n_seen: 0 }
    }

    /// The number of tokens read.
    pub fn n_seen(&self) -> usize {
        self.n_seen
    }

    /// Whether `n` more tokens can be read and taken back again: no layer overwrites earlier tokens for them.
    pub fn can_take_back(&self, n: usize) -> bool {
        self.layers.iter().all(|ring| self.n_seen + n <= ring.n_slot)
    }

    /// Forgets the last tokens, so that `n_seen` are left. Valid only if [`DecoderRow::can_take_back`] returned true
    /// before they were read.
    pub fn take_back(&mut self, n_seen: usize) {
        self.n_seen = self.n_seen.min(n_seen);
    }

    /// The keys and values that row `row` of a cache holds.
    ///
    /// # Errors
    /// Returns an error if the cache is empty or belongs to another model.
    pub(super) fn of_cache(config: &ModelConfig, cache: &KvCache, row: usize) -> Result<Self> {
        let mut taken = Self { n_seen: cache.n_seen(), ..Self::empty(config, false) };
        for (layer, ring) in taken.layers.iter_mut().enumerate() {
            let Some((keys, values)) = cache.layer(layer) else {
                bail!("the cache has no tokens of layer {layer}");
            };
            for (from, to) in [(keys, &mut ring.keys), (values, &mut ring.values)] {
                let from = from.get(row)?.to_dtype(DType::F32)?.to_vec3::<f32>()?;
                let held = from.len();
                for (n, token) in from.iter().enumerate().skip(held.saturating_sub(ring.n_slot)) {
                    let slot = (cache.n_seen() - held + n) % ring.n_slot;
                    if token.len() != config.n_kv_head || token.iter().any(|k| k.len() != config.d_head) {
                        bail!("the cache belongs to another model");
                    }
                    for (group, numbers) in token.iter().enumerate() {
                        to.write((group * ring.n_slot + slot) * config.d_head, numbers);
                    }
                }
            }
        }
        Ok(taken)
    }
}

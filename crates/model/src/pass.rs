//! The options and state of one forward pass: dropout, probe, KV cache, recomputation.

use vulpes_ops::Dropout;
use vulpes_random::Key;

use crate::cache::KvCache;
use crate::probe::{Probe, Site};

/// The state of one forward pass: dropout, probe, KV cache.
///
/// The default is plain inference.
#[derive(Default)]
pub struct Pass<'a> {
    /// Enables dropout: the step's key, and the index of the batch's first row within the step.
    pub dropout: Option<(Key, u64)>,
    /// Receives the intermediate values that it wants.
    pub probe: Option<&'a mut dyn Probe>,
    /// Keys and values of the tokens before these; the pass adds its own.
    pub cache: Option<&'a mut KvCache>,
    /// Whether the backward pass recomputes the inside of each block instead of keeping it: less memory, bit-identical
    /// results.
    pub recompute: bool,
    /// The dropout probability on the adapters' inputs while `dropout` is set; the model sets it.
    pub adapter_dropout: f64,
}

impl<'a> Pass<'a> {
    /// A pass for inference.
    pub fn inference() -> Self {
        Self::default()
    }

    /// A training pass: dropout masks are keyed by `key` and by rows of the step from `first_row` on.
    pub fn training(key: Key, first_row: u64) -> Self {
        Self { dropout: Some((key, first_row)), ..Self::default() }
    }

    /// The same pass, with or without recomputation of its blocks in the backward pass.
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// A pass that shows its intermediate values to `probe`.
    pub fn probed(probe: &'a mut dyn Probe) -> Self {
        Self { probe: Some(probe), ..Self::default() }
    }

    /// A pass that reads and extends `cache`.
    pub fn cached(cache: &'a mut KvCache) -> Self {
        Self { cache: Some(cache), ..Self::default() }
    }

    /// The dropout of one location in the model, `location` of block `layer`, for `vulpes_ops::dropout`; `None` outside
    /// training or if `p` is 0.
    ///
    /// Each row's mask is keyed by the step, the location and the row's index, so that sharding doesn't change it.
    pub fn dropout_at(&self, location: &str, layer: usize, p: f64) -> Option<Dropout> {
        let (key, first_row) = self.dropout.as_ref().filter(|_| p > 0.0)?;
        Some(Dropout { p: p as f32, key: key.with(location).with(&(layer as u64)), first_row: *first_row })
    }

    pub(crate) fn wants(&self, site: Site) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.wants(site))
    }

    /// Shows a value to the probe if it wants it.
    pub(crate) fn record(&mut self, site: Site, value: &candle_core::Tensor) {
        if let Some(probe) = self.probe.as_mut()
            && probe.wants(site)
        {
            probe.record(site, value);
        }
    }
}

/// Computes a value only for the probe, if it wants it.
pub(crate) fn record_with(
    pass: &mut Pass,
    site: Site,
    value: impl FnOnce() -> candle_core::Result<candle_core::Tensor>,
) -> candle_core::Result<()> {
    if pass.wants(site) {
        pass.record(site, &value()?);
    }
    Ok(())
}

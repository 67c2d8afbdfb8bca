//! One way of running a transformer: for its answer, for its gradients, or to look inside.

use vulpes_ops::Dropout;
use vulpes_random::Key;

use crate::cache::KvCache;
use crate::probe::{Probe, Site};

/// How one forward pass is run: with or without dropout, a probe, a cache.
///
/// The default is plain inference.
#[derive(Default)]
pub struct Run<'a> {
    /// Draws dropout's masks: the step's key, and the number of the batch's first row within the step.
    pub dropout: Option<(Key, u64)>,
    /// Sees the intermediate values that it asks for.
    pub probe: Option<&'a mut dyn Probe>,
    /// Keys and values of the tokens before these; the pass adds its own.
    pub cache: Option<&'a mut KvCache>,
    /// Whether the backward pass computes the inside of each block again instead of keeping it: less memory, the same
    /// bits.
    pub recompute: bool,
}

impl<'a> Run<'a> {
    /// A pass for its answer alone.
    pub fn inference() -> Self {
        Self::default()
    }

    /// A training pass: dropout draws from `key`, row `first_row` of the step onwards.
    pub fn training(key: Key, first_row: u64) -> Self {
        Self { dropout: Some((key, first_row)), ..Self::default() }
    }

    /// The same pass with the inside of its blocks kept, or computed again in the backward pass.
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

    /// The dropout of one place of the model; `None` outside training or where `p` is 0.
    pub(crate) fn dropout_at(&self, place: &str, layer: usize, p: f64) -> Option<Dropout> {
        let (key, first_row) = self.dropout.as_ref().filter(|_| p > 0.0)?;
        Some(Dropout { p: p as f32, key: key.with(place).with(&(layer as u64)), first_row: *first_row })
    }

    pub(crate) fn wants(&self, site: Site) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.wants(site))
    }

    /// Shows a value to the probe where it wants it.
    pub(crate) fn record(&mut self, site: Site, value: &candle_core::Tensor) {
        if let Some(probe) = self.probe.as_mut()
            && probe.wants(site)
        {
            probe.record(site, value);
        }
    }
}

/// Shows a value that is made for the probe alone, where it wants it.
pub(crate) fn record_with(
    run: &mut Run,
    site: Site,
    value: impl FnOnce() -> candle_core::Result<candle_core::Tensor>,
) -> candle_core::Result<()> {
    if run.wants(site) {
        run.record(site, &value()?);
    }
    Ok(())
}

//! A model's parameters by name: drawn anew, or read from elsewhere.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Var};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::layers::Layers;

/// A model's parameters, sorted by name.
///
/// The order of the names is the order of every sum over parameters, so that it never depends on chance.
#[derive(Clone, Debug)]
pub struct Parameters(BTreeMap<String, Var>);

impl Parameters {
    /// Fresh parameters: each drawn from a stream keyed by `seed` and its name, in float64, then rounded to `dtype`.
    ///
    /// # Errors
    /// Returns an error if the device has no room, or the config contradicts itself.
    pub fn init(config: &ModelConfig, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let faults = config.faults();
        if !faults.is_empty() {
            return Err(Error::Config(faults));
        }
        let layers = Layers::of(config);
        let drawn =
            layers.leaves().into_iter().map(|spec| Ok((spec.name.clone(), spec.draw(seed, dtype, device)?)));
        Ok(Self(drawn.collect::<Result<_>>()?))
    }

    /// Parameters that come from elsewhere, as read from a file.
    pub fn from_map(parameters: BTreeMap<String, Var>) -> Self {
        Self(parameters)
    }

    /// The parameter of that name.
    ///
    /// # Errors
    /// Returns [`Error::MissingParameter`] if there is none.
    pub fn get(&self, name: &str) -> Result<&Var> {
        self.0.get(name).ok_or_else(|| Error::MissingParameter(name.to_owned()))
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.0.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The number of elements of all of them.
    pub fn numel(&self) -> usize {
        self.0.values().map(|var| var.elem_count()).sum()
    }
}

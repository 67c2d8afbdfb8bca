//! A model's parameters by name: newly initialized, or read from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor, Var};

use crate::config::ModelConfig;
use crate::error::{Error, Result};
use crate::layers::Layers;
use crate::spec::ParameterSpec;

/// A model's parameters, sorted by name.
///
/// The order of the names is the order of every sum over parameters, which keeps sums deterministic.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    vars: BTreeMap<String, Var>,
    /// The names of parameters without gradients.
    frozen: Arc<BTreeSet<String>>,
    /// The specs they were drawn from.
    specs: Arc<Vec<ParameterSpec>>,
}

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
        Self::draw(Layers::of(config).leaves(), seed, dtype, device)
    }

    /// Fresh parameters of these specs, drawn as by [`Parameters::init`].
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn draw<'a>(
        specs: impl IntoIterator<Item = &'a ParameterSpec>,
        seed: u64,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let specs: Vec<ParameterSpec> = specs.into_iter().cloned().collect();
        let drawn = specs.iter().map(|spec| Ok((spec.name.clone(), spec.draw(seed, dtype, device)?)));
        let drawn = drawn.collect::<Result<_>>()?;
        Ok(Self { specs: Arc::new(specs), ..Self::from_map(drawn) })
    }

    /// The specs they were drawn from; empty if they come from elsewhere.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.specs
    }

    /// Parameters from elsewhere, such as a file.
    pub fn from_map(parameters: BTreeMap<String, Var>) -> Self {
        Self { vars: parameters, ..Self::default() }
    }

    /// The same parameters, of which only those that `trainable` names get gradients through [`Parameters::tensor`].
    #[must_use]
    pub fn with_trainable(&self, trainable: &dyn Fn(&str) -> bool) -> Self {
        let frozen = self.vars.keys().filter(|name| !trainable(name)).cloned().collect();
        Self { frozen: Arc::new(frozen), ..self.clone() }
    }

    /// The parameter of that name to compute with: detached from autograd if it is frozen.
    ///
    /// # Errors
    /// Returns an error that names the parameter if there is none.
    pub fn tensor(&self, name: &str) -> candle_core::Result<Tensor> {
        let var = self.get(name).map_err(candle_core::Error::wrap)?;
        Ok(match self.frozen.contains(name) {
            true => var.as_detached_tensor(),
            false => var.as_tensor().clone(),
        })
    }

    /// The parameter of that name.
    ///
    /// # Errors
    /// Returns [`Error::MissingParameter`] if there is none.
    pub fn get(&self, name: &str) -> Result<&Var> {
        self.vars.get(name).ok_or_else(|| Error::MissingParameter(name.to_owned()))
    }

    /// The values of a parameter in the form that operations take, without autograd; for one in blocks
    /// ([`vulpes_ops::of_blocks`]) the matrix.
    ///
    /// # Errors
    /// As [`Parameters::get`].
    pub fn value(&self, name: &str) -> Result<Tensor> {
        let value = self.get(name)?.as_detached_tensor();
        Ok(if value.dtype() == DType::U8 { vulpes_ops::of_blocks(&value)? } else { value })
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// The number of elements of all parameters.
    pub fn numel(&self) -> usize {
        self.vars.values().map(|var| var.elem_count()).sum()
    }
}

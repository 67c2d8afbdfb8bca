//! A plan's model: initialized from the seed or read from folders, with its adapter if one is trained.

use std::path::Path;

use vulpes_model::adapter::AdapterSpec;
use vulpes_model::folder::{self, LoadOptions, Sources};
use vulpes_model::{ParameterSpec, Transformer, adapted_specs};

use super::{Plan, adapter};
use crate::base_model::{BaseModel, sources_named};
use crate::error::Result;

impl Plan {
    /// The model before the first step: initialized from the seed, or read from `train.init_from`; and warnings.
    ///
    /// # Errors
    /// Returns an error if memory runs out or the folder is damaged.
    pub fn init(&self) -> Result<(Transformer, Vec<String>)> {
        let train = &self.config.train;
        if train.is_from_scratch() {
            return Ok((Transformer::init(&self.model, train.seed, self.dtype, &self.device)?, Vec::new()));
        }
        let (transformer, newly_initialized) = self.read(&sources_named(&self.config)?)?;
        let message = format!(
            "not in {}, initialized from the seed: {}",
            train.init_from,
            newly_initialized.join(", ")
        );
        Ok((transformer, if newly_initialized.is_empty() { Vec::new() } else { vec![message] }))
    }

    /// The folders of a checkpoint's model: the checkpoint itself, or the base model and the adapter's checkpoint.
    pub(crate) fn sources_of(&self, checkpoint: &Path) -> Sources {
        let checkpoint = checkpoint.to_path_buf();
        match (&self.adapter, &self.base) {
            (Some(_), Some(base)) => {
                Sources { model: base.sources().model.clone(), adapter: Some(checkpoint) }
            }
            _ => Sources { model: checkpoint, adapter: None },
        }
    }

    /// The model of a checkpoint, on this plan's device and with its head.
    ///
    /// # Errors
    /// Returns an error if the folder is damaged or holds another model.
    pub(crate) fn load(&self, checkpoint: &Path) -> Result<Transformer> {
        Ok(self.read(&self.sources_of(checkpoint))?.0)
    }

    /// The model of these folders, on this plan's device and with its head; and the names of missing parameters.
    fn read(&self, sources: &Sources) -> Result<(Transformer, Vec<String>)> {
        let mut options = LoadOptions {
            device: self.device.clone(),
            dtype: self.dtype,
            head: Some(self.model.head),
            seed: self.config.train.seed,
            narrow: adapter::narrow(&self.config, self.adapter.as_ref()),
            ..LoadOptions::default()
        };
        // What a folder doesn't have (dropout, the spread of initial values) comes from the config.
        let (Some(spec), folder) = (&self.adapter, &sources.model) else {
            options.adapter = sources.adapter.clone();
            let loaded = folder::load_with(&sources.model, &options)?;
            let parameters = loaded.transformer.parameters().clone();
            return Ok((Transformer::from_parameters(&self.model, parameters)?, loaded.newly_initialized));
        };
        let (parameters, newly_initialized) = match &sources.adapter {
            Some(adapter) => {
                let loaded = folder::load_adapted(folder, adapter, &options)?;
                (loaded.transformer.parameters().clone(), loaded.newly_initialized)
            }
            None => {
                let loaded = folder::load_with(folder, &options)?;
                let base =
                    Transformer::from_parameters(&self.model, loaded.transformer.parameters().clone())?;
                let adapted = folder::with_new_adapter(&base, spec.clone(), options.seed)?;
                (adapted.parameters().clone(), loaded.newly_initialized)
            }
        };
        Ok((Transformer::adapted(&self.model, spec.clone(), parameters)?, newly_initialized))
    }

    /// Every parameter, including those of an adapter.
    pub(crate) fn specs(&self) -> Vec<ParameterSpec> {
        adapted_specs(&self.model, self.adapter.as_ref())
    }

    /// The adapter that is trained, and the name of its base model for other programs.
    pub(crate) fn adapter_of(&self) -> Option<(&AdapterSpec, String)> {
        let base = self.base.as_ref().map(BaseModel::name_for_adapters).unwrap_or_default();
        self.adapter.as_ref().map(|adapter| (adapter, base))
    }
}

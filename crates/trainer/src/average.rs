//! The exponential moving average of the weights, which is evaluated and saved in their place.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use vulpes_model::{Model, Parameters};
use vulpes_ops::average;

use crate::error::Result;

/// Prefix of its tensors' names in a checkpoint.
const PREFIX: &str = "ema.";

/// An exponential moving average of the trained parameters ([Polyak and Juditsky
/// 1992](https://doi.org/10.1137/0330046)): `mean ← β mean + (1 − β) x` after each update, with
/// `β = min(decay, (1 + n) / (10 + n))` after n updates, which soon forgets the first weights.
pub(crate) struct Average<M> {
    decay: f64,
    /// The model with averaged weights.
    model: M,
    /// Name, mean and weight of each trained parameter.
    pairs: Vec<(String, Var, Var)>,
}

impl<M: Model> Average<M> {
    /// An average that starts at the current weights.
    ///
    /// # Errors
    /// Returns an error if the device has no memory left.
    pub(crate) fn new(model: &M, trainable: &dyn Fn(&str) -> bool, decay: f64) -> Result<Self> {
        let (mut all, mut pairs) = (BTreeMap::new(), Vec::new());
        for (name, var) in model.parameters().iter() {
            let mut own = var.clone();
            if trainable(name) {
                own = Var::from_tensor(&var.as_tensor().copy()?)?;
                pairs.push((name.to_owned(), own.clone(), var.clone()));
            }
            all.insert(name.to_owned(), own);
        }
        let model = model.with_parameters(Parameters::from_map(all))?.with_trainable(&|_| false)?;
        Ok(Self { decay, model, pairs })
    }

    /// The model with averaged weights.
    pub(crate) fn model(&self) -> &M {
        &self.model
    }

    /// Adds the weights after `updates` updates to the average.
    ///
    /// # Errors
    /// Returns an error if an operation fails.
    pub(crate) fn update(&self, updates: u64) -> Result<()> {
        let n = updates as f64;
        let kept = self.decay.min((1.0 + n) / (10.0 + n));
        for (_, mean, weight) in &self.pairs {
            average(mean.as_tensor(), &weight.as_detached_tensor(), 1.0 - kept)?;
        }
        Ok(())
    }

    /// The means by name, as `ema.NAME`.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.pairs.iter().map(|(name, mean, _)| (format!("{PREFIX}{name}"), mean.as_detached_tensor()))
    }

    /// Restores saved means.
    ///
    /// # Errors
    /// Returns a message if one is missing or doesn't fit.
    pub(crate) fn set(&self, saved: &BTreeMap<String, Tensor>) -> std::result::Result<(), String> {
        for (name, mean, _) in &self.pairs {
            let name = format!("{PREFIX}{name}");
            let tensor = saved.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
            mean.set(tensor).map_err(|error| format!("tensor `{name}`: {error}"))?;
        }
        Ok(())
    }
}

/// Separates the tensors of an average from the others.
pub(crate) fn parted(
    tensors: &BTreeMap<String, Tensor>,
) -> (BTreeMap<String, Tensor>, BTreeMap<String, Tensor>) {
    tensors.clone().into_iter().partition(|(name, _)| name.starts_with(PREFIX))
}

//! AdamW and SGD over named parameters, with state that can be saved by name and read back.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{Tensor, Var};
use vulpes_model::Parameters;
use vulpes_ops::{AdamwItem, AdamwStep, Gradients, SgdStep, adamw_all, sgd};

use crate::config::{OptimizerConfig, OptimizerKind};
use crate::error::{Error, Result};

/// An optimizer and its state.
///
/// Decay acts on parameters of two or more dimensions only: a norm's scale or a bias has no reason to be small.
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    updates: u64,
}

/// One parameter with the rule that updates it.
struct Slot {
    name: String,
    param: Var,
    rule: Rule,
    decays: bool,
}

/// The rule that updates one parameter, with the state that it keeps of it.
enum Rule {
    /// The first and second moment of the gradient.
    Adamw { m: Var, v: Var },
    /// What is left of earlier updates.
    Sgd { velocity: Var },
}

impl Rule {
    const ADAMW: [&str; 2] = ["m", "v"];
    const SGD: [&str; 1] = ["velocity"];

    /// The rule for a parameter, its state all zeros.
    fn new(kind: OptimizerKind, param: &Var) -> candle_core::Result<Self> {
        let zeros = || Var::from_tensor(&param.zeros_like()?);
        Ok(match kind {
            OptimizerKind::Adamw => Self::Adamw { m: zeros()?, v: zeros()? },
            OptimizerKind::Sgd => Self::Sgd { velocity: zeros()? },
        })
    }

    /// The names of the state tensors, as checkpoints hold them.
    fn state_names(kind: OptimizerKind) -> &'static [&'static str] {
        match kind {
            OptimizerKind::Adamw => &Self::ADAMW,
            OptimizerKind::Sgd => &Self::SGD,
        }
    }

    /// The state tensors by name.
    fn state(&self) -> Vec<(&'static str, &Var)> {
        match self {
            Self::Adamw { m, v } => Self::ADAMW.into_iter().zip([m, v]).collect(),
            Self::Sgd { velocity } => Self::SGD.into_iter().zip([velocity]).collect(),
        }
    }
}

impl Slot {
    /// The state tensors by the names that they have on disk, as `m.blocks.0.attention.query.weight`.
    fn state(&self) -> impl Iterator<Item = (String, &Var)> {
        self.rule.state().into_iter().map(|(state, var)| (format!("{state}.{}", self.name), var))
    }
}

impl Optimizer {
    /// A fresh optimizer for those `parameters` that `trainable` names, its state all zeros.
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn new(
        config: &OptimizerConfig,
        parameters: &Parameters,
        trainable: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let slot = |(name, param): (&str, &Var)| -> Result<Slot> {
            let rule = Rule::new(config.kind, param)?;
            Ok(Slot { name: name.to_owned(), param: param.clone(), rule, decays: param.rank() >= 2 })
        };
        let slots = parameters.iter().filter(|(name, _)| trainable(name)).map(slot).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), slots, updates: 0 })
    }

    /// How many numbers the state of one parameter takes, in multiples of the parameter.
    pub fn n_memory(kind: OptimizerKind) -> usize {
        Rule::state_names(kind).len()
    }

    /// Applies one update at rate `lr`, every gradient multiplied by `grad_scale` first.
    ///
    /// # Errors
    /// Returns an error if a parameter has no gradient: the census should have found it.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.updates += 1;
        let o = &self.config;
        let [beta1, beta2] = o.betas;
        let mut items = Vec::with_capacity(self.slots.len());
        for Slot { name, param, rule, decays } in &self.slots {
            let Some(grad) = gradients.get(name) else {
                return Err(Error::Census(format!("parameter `{name}` has no gradient")));
            };
            let weight_decay = if *decays { o.weight_decay } else { 0.0 };
            match rule {
                Rule::Adamw { m, v } => {
                    let (eps, step) = (o.eps, self.updates);
                    let step = AdamwStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale };
                    items.push(AdamwItem { param, m, v, grad, step });
                }
                Rule::Sgd { velocity } => {
                    let step =
                        SgdStep { lr, momentum: o.momentum, weight_decay, grad_scale };
                    sgd(param, velocity, grad, &step)?;
                }
            }
        }
        Ok(adamw_all(&items)?)
    }

    /// How many updates have been applied.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state by name (`m.NAME`, `v.NAME`, `velocity.NAME`), sharing memory with the optimizer.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let all = self.slots.iter().flat_map(Slot::state);
        all.map(|(name, var)| (name, var.as_detached_tensor())).collect()
    }

    /// Takes a saved state over.
    ///
    /// # Errors
    /// Returns an error, in words, if a tensor is missing, has another shape or type than its parameter, or belongs to
    /// no parameter.
    pub fn set_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        updates: u64,
    ) -> std::result::Result<(), String> {
        let mut unknown: BTreeSet<&str> = state.keys().map(String::as_str).collect();
        for (name, var) in self.slots.iter().flat_map(Slot::state) {
            let tensor = state.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
            unknown.remove(name.as_str());
            if tensor.dims() != var.dims() || tensor.dtype() != var.dtype() {
                return Err(format!(
                    "tensor `{name}` is {:?} {:?}, wanted {:?} {:?}",
                    tensor.dtype(),
                    tensor.dims(),
                    var.dtype(),
                    var.dims()
                ));
            }
            var.set(tensor).map_err(|error| format!("tensor `{name}`: {error}"))?;
        }
        if let Some(name) = unknown.first() {
            let others = match unknown.len() - 1 {
                0 => String::new(),
                n => format!(", nor do {n} others"),
            };
            return Err(format!("tensor `{name}` belongs to no parameter that is trained{others}"));
        }
        self.updates = updates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection, Transformer};

    use super::*;

    #[test]
    fn missing_and_unknown_state_is_named() {
        let section = ModelSection { family: Some(Family::Fox), ..ModelSection::default() };
        let config = section.resolve(17, Head::NextToken);
        let model = Transformer::init(&config, 1, DType::F32, &Device::Cpu).unwrap();
        for (kind, name) in [(OptimizerKind::Adamw, "v"), (OptimizerKind::Sgd, "velocity")] {
            let name = format!("{name}.embedding.token.weight");
            let config = OptimizerConfig { kind, ..OptimizerConfig::default() };
            let mut optimizer = Optimizer::new(&config, model.parameters(), &|_| true).unwrap();
            // The state shares memory with the optimizer, and a variable can't be set to itself.
            let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy().unwrap());
            let whole: BTreeMap<String, Tensor> = optimizer.state().into_iter().map(copy).collect();
            assert_eq!(whole.len(), model.parameters().iter().count() * Optimizer::n_memory(kind));
            optimizer.set_state(&whole, 3).unwrap();
            assert_eq!(optimizer.updates(), 3);
            let mut less = whole.clone();
            let tensor = less.remove(&name).unwrap();
            let error = optimizer.set_state(&less, 4).unwrap_err();
            assert_eq!(error, format!("tensor `{name}` is missing"));
            let mut more = whole.clone();
            more.insert("z.other".into(), tensor);
            let error = optimizer.set_state(&more, 4).unwrap_err();
            assert_eq!(error, "tensor `z.other` belongs to no parameter that is trained");
            assert_eq!(optimizer.updates(), 3);
        }
    }
}

//! AdamW and SGD over named parameters, with state that can be saved by name and read back.

use std::collections::BTreeMap;

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

/// One parameter with what the optimizer remembers of it.
struct Slot {
    name: String,
    param: Var,
    /// AdamW's first and second moment, or SGD's velocity.
    memory: Vec<Var>,
}

impl Optimizer {
    /// A fresh optimizer for those `parameters` that `trainable` names, its state all zeros.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn new(
        config: &OptimizerConfig,
        parameters: &Parameters,
        trainable: &dyn Fn(&str) -> bool,
    ) -> Result<Self> {
        let n = Self::names(config.kind).len();
        let slot = |(name, param): (&str, &Var)| -> Result<Slot> {
            let memory =
                (0..n).map(|_| Var::from_tensor(&param.zeros_like()?)).collect::<candle_core::Result<_>>()?;
            Ok(Slot { name: name.to_owned(), param: param.clone(), memory })
        };
        let slots = parameters.iter().filter(|(name, _)| trainable(name)).map(slot).collect::<Result<_>>()?;
        Ok(Self { config: config.clone(), slots, updates: 0 })
    }

    /// How many numbers the state of one parameter takes, in multiples of the parameter.
    pub fn n_memory(kind: OptimizerKind) -> usize {
        Self::names(kind).len()
    }

    fn names(kind: OptimizerKind) -> &'static [&'static str] {
        match kind {
            OptimizerKind::Adamw => &["m", "v"],
            OptimizerKind::Sgd => &["velocity"],
        }
    }

    /// Applies one update at rate `lr`, every gradient multiplied by `grad_scale` first.
    ///
    /// # Errors
    /// When a parameter has no gradient: the census should have found it.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64) -> Result<()> {
        self.updates += 1;
        let o = &self.config;
        let [beta1, beta2] = o.betas;
        let mut items = Vec::with_capacity(self.slots.len());
        for Slot { name, param, memory } in &self.slots {
            let Some(grad) = gradients.get(name) else {
                return Err(Error::Census(format!("parameter `{name}` has no gradient")));
            };
            let weight_decay = if param.rank() >= 2 { o.weight_decay } else { 0.0 };
            match memory.as_slice() {
                [m, v] => {
                    let (eps, step) = (o.eps, self.updates);
                    let step = AdamwStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale };
                    items.push(AdamwItem { param, m, v, grad, step });
                }
                [velocity] => {
                    let step =
                        SgdStep { lr, momentum: o.momentum, nesterov: false, weight_decay, grad_scale };
                    sgd(param, velocity, grad, &step)?;
                }
                _ => return Err(Error::Census(format!("parameter `{name}` has the wrong state"))),
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
        let names = Self::names(self.config.kind);
        let named = |slot: &Slot| {
            let of = |(kind, var): (&&str, &Var)| (format!("{kind}.{}", slot.name), var.as_detached_tensor());
            names.iter().zip(&slot.memory).map(of).collect::<Vec<_>>()
        };
        self.slots.iter().flat_map(named).collect()
    }

    /// Takes a saved state over.
    ///
    /// # Errors
    /// When a tensor is missing, or has another shape or type than its parameter.
    pub fn set_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        updates: u64,
    ) -> std::result::Result<(), String> {
        let names = Self::names(self.config.kind);
        for slot in &self.slots {
            for (kind, var) in names.iter().zip(&slot.memory) {
                let name = format!("{kind}.{}", slot.name);
                let tensor = state.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
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
        }
        let known = self.slots.len() * names.len();
        if state.len() != known {
            return Err(format!("{} tensors instead of {known}", state.len()));
        }
        self.updates = updates;
        Ok(())
    }
}

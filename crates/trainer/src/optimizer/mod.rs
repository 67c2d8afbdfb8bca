//! AdamW, SGD and Muon over named parameters, with state that is saved and restored by name.

mod config;
mod groups;
mod muon;
mod rule;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use candle_core::{DType, Tensor, Var};
use vulpes_model::{ParameterSpec, Parameters, Role};
use vulpes_ops::{
    AdamwItem, AdamwStep, Gradients, MuonStep, Noise, SgdStep, adamw_all, muon as muon_step, sgd,
};
use vulpes_random::Key;

use crate::error::{Error, Result};
use crate::refused::Census;
use crate::slices::Slices;
use rule::Rule;

pub use config::{GradientDtype, OptimizerConfig, OptimizerKind, StateDtype};
pub use groups::{Pace, ParameterGroup, paces};
pub use muon::{MuonConfig, Orthogonal, Scaling};

/// An optimizer and its state.
///
/// Each parameter's role decides which rule updates it and whether decay acts on it ([`Role::decays`]).
pub struct Optimizer {
    config: OptimizerConfig,
    slots: Vec<Slot>,
    /// Of the parameters that a group matches.
    paces: BTreeMap<String, Pace>,
    updates: u64,
    /// The key of the stochastic rounding of the state.
    noise: Key,
}

/// One parameter, or the part of it that this process owns, with the rule that updates it.
struct Slot {
    name: String,
    shape: Vec<usize>,
    /// The elements that are updated here.
    part: Range<usize>,
    /// Those elements, sharing memory with the model; `None` if other processes update all of them.
    owned: Option<Owned>,
    kind: OptimizerKind,
    /// The dtype of the state.
    dtype: DType,
    role: Role,
}

/// The part of a parameter that a process updates: all of it in its shape, or a flat slice.
struct Owned {
    param: Tensor,
    rule: Rule,
}

impl Slot {
    /// The state tensors of the part by the names of the complete ones on disk, such as
    /// `m.blocks.0.attention.query.weight`.
    fn state(&self) -> impl Iterator<Item = (String, &Var)> {
        let of_part = self.owned.iter().flat_map(|owned| owned.rule.state());
        of_part.map(|(state, var)| (format!("{state}.{}", self.name), var))
    }

    /// The part of a tensor of the parameter's shape that is updated here, sharing its memory.
    fn part_of(&self, whole: &Tensor) -> candle_core::Result<Tensor> {
        part_of(whole, &self.part)
    }
}

fn part_of(whole: &Tensor, part: &Range<usize>) -> candle_core::Result<Tensor> {
    if part.len() == whole.elem_count() {
        return Ok(whole.clone());
    }
    whole.flatten_all()?.narrow(0, part.start, part.len())
}

impl Optimizer {
    /// A new optimizer with zero state for the parameters in `specs` that `trainable` selects.
    ///
    /// `owned` returns the elements of a parameter that are updated, and have their state, in this process; all of them
    /// with a single process. `seed` keys the rounding of a bfloat16 state.
    ///
    /// # Errors
    /// Returns an error if a parameter is missing, or the device has no memory left.
    pub fn new(
        config: &OptimizerConfig,
        specs: &[ParameterSpec],
        parameters: &Parameters,
        trainable: &dyn Fn(&str) -> bool,
        owned: &dyn Fn(&ParameterSpec) -> Range<usize>,
        seed: u64,
    ) -> Result<Self> {
        let slot = |spec: &ParameterSpec| -> Result<Slot> {
            let ParameterSpec { name, role, shape, .. } = spec;
            let (param, part) = (parameters.get(name)?, owned(spec));
            let kind = Rule::kind(config, role);
            let dtype = config.state_dtype.of(param.dtype());
            let owned = match part.is_empty() && spec.numel() > 0 {
                true => None,
                false => {
                    let param = part_of(&param.as_detached_tensor(), &part)?.detach();
                    Some(Owned { rule: Rule::new(kind, dtype, &param)?, param })
                }
            };
            Ok(Slot { name: name.clone(), shape: shape.clone(), part, owned, kind, dtype, role: *role })
        };
        let slots =
            specs.iter().filter(|spec| trainable(&spec.name)).map(slot).collect::<Result<Vec<_>>>()?;
        let (paces, noise) = (BTreeMap::new(), Key::new(seed, "optimizer state"));
        Ok(Self { config: config.clone(), slots, paces, updates: 0, noise })
    }

    /// The same optimizer with individual paces for these parameters.
    pub fn with_paces(self, paces: BTreeMap<String, Pace>) -> Self {
        Self { paces, ..self }
    }

    /// Whether a parameter must be updated by a single process: Muon needs the entire matrix.
    pub fn is_undivided(config: &OptimizerConfig, role: &Role) -> bool {
        Rule::kind(config, role) == OptimizerKind::Muon
    }

    /// The number of elements of an optimizer's state for a parameter.
    pub fn state_numel(config: &OptimizerConfig, spec: &ParameterSpec) -> usize {
        spec.numel() * Rule::state_names(Rule::kind(config, &spec.role)).len()
    }

    /// Bytes of the state in this process.
    pub fn bytes(&self) -> usize {
        let all = self.slots.iter().flat_map(Slot::state);
        all.map(|(_, var)| var.elem_count() * var.dtype().size_in_bytes()).sum()
    }

    /// Applies one update with learning rate `lr`; gradients are multiplied by `grad_scale` first, weight decays by
    /// `decay`.
    ///
    /// # Errors
    /// Returns an error if a parameter has no gradient: the census should have found it.
    pub fn step(&mut self, gradients: &Gradients, lr: f64, grad_scale: f64, decay: f64) -> Result<()> {
        self.updates += 1;
        let o = &self.config;
        let [beta1, beta2] = o.betas;
        // Checked for all parameters, also those that other processes update: all continue, or none.
        let mut grads = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let Some(grad) = gradients.get(&slot.name) else {
                let severed = vec![slot.name.clone()];
                return Err(Error::Census(Census { severed, ..Census::default() }));
            };
            grads.push(slot.part_of(grad)?);
        }
        let mut items = Vec::with_capacity(self.slots.len());
        let is_rounded = o.state_dtype == StateDtype::Bfloat16;
        for (Slot { name, part, owned, role, .. }, grad) in self.slots.iter().zip(&grads) {
            let Some(Owned { param, rule }) = owned else { continue };
            let pace = self.paces.get(name).copied().unwrap_or_default();
            let of_role = if role.decays() { o.weight_decay } else { 0.0 };
            let (lr, weight_decay) = (lr * pace.lr, decay * pace.weight_decay.unwrap_or(of_role));
            match rule {
                Rule::Adamw { m, v } => {
                    let (eps, step) = (o.eps, self.updates);
                    let step = AdamwStep { lr, beta1, beta2, eps, weight_decay, step, grad_scale };
                    let noise = match is_rounded {
                        true => {
                            let key = self.noise.with(name.as_str()).with(&self.updates);
                            Noise { key: key.stream().next_u64(), first: part.start as u64 }
                        }
                        false => Noise::default(),
                    };
                    items.push(AdamwItem { param, m, v, grad, step, noise });
                }
                Rule::Sgd { velocity } => {
                    let step = SgdStep { lr, momentum: o.momentum, weight_decay, grad_scale };
                    sgd(param, velocity, grad, &step)?;
                }
                Rule::Muon { momentum } => {
                    let step = o.muon.step(self.updates, lr / o.lr, grad_scale);
                    let weight_decay = decay * pace.weight_decay.unwrap_or(step.weight_decay);
                    muon_step(param, momentum, grad, &MuonStep { weight_decay, ..step })?;
                }
            }
        }
        Ok(adamw_all(&items)?)
    }

    /// The factor by which clipping multiplies gradients of this global norm.
    pub(crate) fn clip_scale(&self, norm: f64) -> f64 {
        let clip = self.config.clip;
        if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 }
    }

    /// The contribution of a gradient to the next update, per unit of learning rate: what `other`, as a small part of
    /// `gradients`, would subtract from the parameters. For AdamW `other / (√v̂ + ε)` with the second moment estimate
    /// after the step; for SGD `other`, and also for Muon, whose update isn't a sum over rows.
    ///
    /// # Errors
    /// Returns an error if a parameter has no gradient, or the device has no memory left.
    pub(crate) fn preconditioned(
        &self,
        name: &str,
        gradients: &Gradients,
        grad_scale: f64,
        other: &Tensor,
    ) -> Result<Tensor> {
        let slot = self.slots.iter().find(|slot| slot.name == name);
        let owned = slot.and_then(|slot| slot.owned.as_ref());
        let (Some(Owned { rule: Rule::Adamw { v, .. }, .. }), Some(grad)) = (owned, gradients.get(name))
        else {
            return Ok(other.clone());
        };
        let [_, beta2] = self.config.betas;
        let correction = 1.0 - beta2.powf((self.updates + 1) as f64);
        let new = grad
            .to_dtype(other.dtype())?
            .affine(grad_scale, 0.0)?
            .sqr()?
            .affine((1.0 - beta2) / correction, 0.0)?;
        let second = (v.as_tensor().to_dtype(other.dtype())?.affine(beta2 / correction, 0.0)? + new)?;
        Ok((other / second.sqrt()?.affine(1.0, self.config.eps)?)?)
    }

    /// The number of updates applied.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The state by name (`m.NAME`, `v.NAME`, `velocity.NAME`), sharing memory with the optimizer.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let all = self.slots.iter().flat_map(Slot::state);
        all.map(|(name, var)| (name, var.as_detached_tensor())).collect()
    }

    /// The complete state by name, collected from the processes ([`Slices::collect`]) on the first one; empty on the
    /// others.
    ///
    /// # Errors
    /// See [`Slices::collect`].
    pub(crate) fn collect(&self, slices: &Slices) -> Result<BTreeMap<String, Tensor>> {
        let mut whole = BTreeMap::new();
        for slot in &self.slots {
            let own: Vec<(&str, &Var)> = slot.owned.iter().flat_map(|owned| owned.rule.state()).collect();
            for (at, state) in Rule::state_names(slot.kind).iter().enumerate() {
                let own = own.get(at).map(|(_, var)| var.as_tensor());
                if let Some(tensor) = slices.collect(&slot.name, &slot.shape, slot.dtype, own)? {
                    whole.insert(format!("{state}.{}", slot.name), tensor);
                }
            }
        }
        Ok(whole)
    }

    /// Restores a saved state.
    ///
    /// # Errors
    /// Returns a message if a tensor is missing, has another shape or dtype than its parameter, or belongs to no
    /// parameter.
    pub fn set_state(
        &mut self,
        state: &BTreeMap<String, Tensor>,
        updates: u64,
    ) -> std::result::Result<(), String> {
        let mut unknown: BTreeSet<&str> = state.keys().map(String::as_str).collect();
        for slot in &self.slots {
            for name in Rule::state_names(slot.kind).iter().map(|state| format!("{state}.{}", slot.name)) {
                let tensor = state.get(&name).ok_or_else(|| format!("tensor `{name}` is missing"))?;
                unknown.remove(name.as_str());
                let Some((_, var)) = slot.state().find(|(known, _)| *known == name) else { continue };
                // A state in the other precision is converted: the resumed run requested it.
                let is_other_precision = [tensor.dtype(), var.dtype()].contains(&DType::BF16);
                let fits = tensor.dtype() == var.dtype() || is_other_precision;
                if tensor.dims() != slot.shape || !fits {
                    return Err(format!(
                        "tensor `{name}` is {:?} {:?}, expected {:?} {:?}",
                        tensor.dtype(),
                        tensor.dims(),
                        var.dtype(),
                        slot.shape
                    ));
                }
                let part = slot.part_of(tensor).and_then(|part| var.set(&part.to_dtype(var.dtype())?));
                part.map_err(|error| format!("tensor `{name}`: {error}"))?;
            }
        }
        if let Some(name) = unknown.first() {
            let others = match unknown.len() - 1 {
                0 => String::new(),
                n => format!(", nor do {n} others"),
            };
            return Err(format!("tensor `{name}` belongs to no trained parameter{others}"));
        }
        self.updates = updates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection, Transformer, parameter_specs};

    use super::*;

    #[test]
    fn missing_and_unknown_state_is_named() {
        let section = ModelSection { family: Some(Family::Fox), ..ModelSection::default() };
        let config = section.resolve(17, Head::NextToken);
        let model = Transformer::init(&config, 1, DType::F32, &Device::Cpu).unwrap();
        for (kind, name) in [
            (OptimizerKind::Adamw, "v.embedding.token.weight"),
            (OptimizerKind::Sgd, "velocity.embedding.token.weight"),
            (OptimizerKind::Muon, "momentum.blocks.0.attention.query.weight"),
        ] {
            let name = name.to_owned();
            let specs = parameter_specs(model.config());
            let config = OptimizerConfig { kind, ..OptimizerConfig::default() };
            let whole = |spec: &ParameterSpec| 0..spec.numel();
            let mut optimizer =
                Optimizer::new(&config, &specs, model.parameters(), &|_| true, &whole, 1).unwrap();
            // The state shares memory with the optimizer, and a variable can't be set to itself.
            let copy = |(name, tensor): (String, Tensor)| (name, tensor.copy().unwrap());
            let whole: BTreeMap<String, Tensor> = optimizer.state().into_iter().map(copy).collect();
            let numel: usize = whole.values().map(Tensor::elem_count).sum();
            let wanted: usize = specs.iter().map(|spec| Optimizer::state_numel(&config, spec)).sum();
            assert_eq!(numel, wanted);
            optimizer.set_state(&whole, 3).unwrap();
            assert_eq!(optimizer.updates(), 3);
            let mut less = whole.clone();
            let tensor = less.remove(&name).unwrap();
            let error = optimizer.set_state(&less, 4).unwrap_err();
            assert_eq!(error, format!("tensor `{name}` is missing"));
            let mut more = whole.clone();
            more.insert("z.other".into(), tensor);
            let error = optimizer.set_state(&more, 4).unwrap_err();
            assert_eq!(error, "tensor `z.other` belongs to no trained parameter");
            assert_eq!(optimizer.updates(), 3);
        }
    }

    /// Tensors of two or more dimensions decay by their role: tables and matrices.
    #[test]
    fn tables_and_matrices_decay_in_every_family() {
        for family in [Family::Fox, Family::Gpt2, Family::Bert, Family::Llama] {
            let section = ModelSection { family: Some(family), ..ModelSection::default() };
            for head in [Head::NextToken, Head::MaskedToken, Head::Classify { n_labels: 3 }] {
                let config = ModelSection { tied_head: Some(false), ..section.clone() }.resolve(17, head);
                for spec in parameter_specs(&config) {
                    assert_eq!(spec.role.decays(), spec.shape.len() >= 2, "{}", spec.name);
                }
            }
        }
    }
}

//! Merges an adapter into the weights of its model.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use vulpes_ops::{Adapter, Linear, merged_no_grad, widened};

use crate::adapter::{ModuleSpec, TOKEN};
use crate::config::Head;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::transformer::Transformer;

impl Transformer {
    /// The same model without an adapter, each adapted weight replaced by its merged value, and without autograd.
    ///
    /// If an adapted table is also the head's, the head keeps the unchanged table and is untied.
    ///
    /// # Errors
    /// Returns an error if the device has no room.
    pub fn merged(&self) -> Result<Self> {
        let Some(spec) = self.adapter() else { return self.without_gradients() };
        let parameters = self.parameters();
        let mut merged: BTreeMap<String, Var> = parameters
            .iter()
            .filter(|(name, _)| !name.contains(".adapter."))
            .map(|(name, var)| (name.to_owned(), var.clone()))
            .collect();
        let mut config = self.config().clone();
        for (name, module) in &spec.modules {
            let key = format!("{name}.weight");
            let weight = parameters.get(&key)?;
            let whole = if name == TOKEN {
                of_table(parameters, name, module)?
            } else {
                of_projection(parameters, name, module)?
            };
            if name == TOKEN && config.tied_head && matches!(config.head, Head::NextToken | Head::MaskedToken)
            {
                config.tied_head = false;
                merged.insert("head.weight".to_owned(), weight.clone());
            }
            merged.insert(key, Var::from_tensor(&whole)?);
        }
        Transformer::from_parameters(&config, Parameters::from_map(merged))?.without_gradients()
    }
}

/// `W + s B A`, or with its magnitude.
fn of_projection(parameters: &Parameters, name: &str, module: &ModuleSpec) -> Result<Tensor> {
    let get = |name: &str| parameters.value(name);
    let magnitude = module.dora.then(|| get(&ModuleSpec::magnitude(name))).transpose()?;
    let (weight, a, b) = (get(&format!("{name}.weight"))?, get(&module.a())?, get(&ModuleSpec::b(name))?);
    let adapter = Adapter { a: &a, b: &b, magnitude: magnitude.as_ref(), scale: module.scale(), draw: 0 };
    Ok(merged_no_grad(Linear { weight: &weight, bias: None, adapter: Some(adapter) })?)
}

/// `W + s (B A)ᵀ`.
fn of_table(parameters: &Parameters, name: &str, module: &ModuleSpec) -> Result<Tensor> {
    let get = |name: &str| parameters.value(name);
    let (weight, a, b) = (get(&format!("{name}.weight"))?, get(&module.a())?, get(&ModuleSpec::b(name))?);
    let low = b.matmul(&a)?.t()?.affine(module.scale(), 0.0)?;
    Ok((widened(&weight, a.dtype())? + low)?.contiguous()?)
}

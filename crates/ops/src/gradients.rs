//! Gradients of named parameters: one buffer each, that backward passes add to.

use candle_core::{DType, Device, Result, Tensor, TensorId, Var, bail};
use std::collections::HashMap;

/// One buffer for each named parameter, which [`backward`] adds to.
///
/// A buffer that nothing ever reached is told apart from one that holds zeros: [`Gradients::get`] gives none, which
/// is how a severed parameter is found.
#[derive(Debug)]
pub struct Gradients {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<TensorId, usize>,
}

#[derive(Debug)]
struct Entry {
    name: String,
    var: Var,
    sum: Option<Tensor>,
}

impl Gradients {
    /// Buffers for these parameters, none reached yet.
    ///
    /// # Errors
    /// Where a name comes twice, or one parameter has two names.
    pub fn new(parameters: &[(String, Var)]) -> Result<Self> {
        let mut gradients = Self { entries: Vec::new(), by_name: HashMap::new(), by_id: HashMap::new() };
        for (index, (name, var)) in parameters.iter().enumerate() {
            if gradients.by_name.insert(name.clone(), index).is_some() {
                bail!("gradients: two parameters are named {name}");
            }
            if let Some(first) = gradients.by_id.insert(var.id(), index) {
                bail!("gradients: {name} is the same parameter as {}; list it once", parameters[first].0);
            }
            gradients.entries.push(Entry { name: name.clone(), var: var.clone(), sum: None });
        }
        Ok(gradients)
    }

    /// The gradient of a parameter; none where no backward pass reached it, or the name is unknown.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries[*self.by_name.get(name)?].sum.as_ref()
    }

    /// Names and gradients in the order of [`Gradients::new`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.sum.as_ref()))
    }

    /// Adds the gradients of `other`, made from the same parameters.
    ///
    /// # Errors
    /// Where `other` has other parameters.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if self.entries.len() != other.entries.len() {
            bail!("gradients: {} parameters can't take those of {}", self.entries.len(), other.entries.len());
        }
        for (to, from) in self.entries.iter_mut().zip(&other.entries) {
            if to.name != from.name {
                bail!("gradients: {} stands where {} should", from.name, to.name);
            }
            if let Some(gradient) = &from.sum {
                to.add(gradient)?;
            }
        }
        Ok(())
    }

    /// Forgets what the buffers hold: after it, nothing has been reached.
    pub fn zero(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.sum = None);
    }
}

impl Entry {
    fn add(&mut self, gradient: &Tensor) -> Result<()> {
        let sum = match &self.sum {
            Some(sum) => (sum + gradient)?,
            None => gradient.force_contiguous()?,
        };
        self.sum = Some(sum.detach());
        Ok(())
    }
}

/// Differentiates `loss` and adds each parameter's gradient to its buffer.
///
/// # Shape
/// A loss is a scalar.
///
/// # Errors
/// Where the loss is no scalar or depends on no parameter, and those of the operations' own backward passes.
pub fn backward(loss: &Tensor, gradients: &mut Gradients) -> Result<()> {
    if loss.rank() != 0 {
        bail!("backward: the loss has shape {:?}; it must be a scalar", loss.dims());
    }
    let store = loss.backward()?;
    for entry in &mut gradients.entries {
        if let Some(gradient) = store.get_id(entry.var.id()) {
            entry.add(gradient)?;
        }
    }
    Ok(())
}

/// The Euclidean norm of all gradients together: `√Σ g²`, summed in float64 in the order of the parameters.
///
/// Buffers that nothing reached count as zero.
///
/// # Errors
/// Those of the device.
pub fn grad_norm(gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.entries.iter().filter_map(|entry| entry.sum.as_ref()) {
        let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        sum += square.to_device(&Device::Cpu)?.to_scalar::<f64>()?;
    }
    Ok(sum.sqrt())
}

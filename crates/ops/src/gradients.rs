//! Gradients of named parameters: one buffer each, that backward passes add to.

use crate::kernel::read::{with, with_mut};
use crate::kernel::{by_dtype, elementwise, fits};
use crate::sink;
use candle_core::{DType, Device, Result, Tensor, TensorId, Var, bail};
use std::collections::HashMap;

/// One buffer for each named parameter, which [`backward`] adds to.
///
/// A buffer that nothing ever reached is told apart from one that holds zeros: [`Gradients::get`] gives none, which
/// is how a severed parameter is found. Buffers are kept and written over from step to step: copy what is to last.
#[derive(Debug)]
pub struct Gradients {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    by_id: HashMap<TensorId, usize>,
}

/// A parameter's buffer.
#[derive(Debug)]
pub(crate) struct Entry {
    name: String,
    var: Var,
    /// Made when it is first reached, and kept after that.
    pub(crate) buffer: Option<Tensor>,
    /// Whether the buffer holds anything of this step.
    pub(crate) reached: bool,
}

impl Entry {
    fn sum(&self) -> Option<&Tensor> {
        self.buffer.as_ref().filter(|_| self.reached)
    }

    fn add(&mut self, gradient: &Tensor) -> Result<()> {
        match &self.buffer {
            Some(buffer) if fits(&[buffer, gradient]) => {
                let reached = self.reached;
                by_dtype!(buffer, write(buffer, gradient, reached))?;
            }
            Some(buffer) if self.reached => self.buffer = Some((buffer + gradient)?.detach()),
            _ => self.buffer = Some(gradient.force_contiguous()?.detach()),
        }
        self.reached = true;
        Ok(())
    }
}

fn write<T: crate::kernel::Float>(buffer: &Tensor, gradient: &Tensor, add: bool) -> Result<()> {
    with(gradient, |gradient: &[T]| {
        with_mut(buffer, |buffer: &mut [T]| {
            if add {
                elementwise::add_to(buffer, gradient);
            } else {
                buffer.copy_from_slice(gradient);
            }
            Ok(())
        })
    })
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
            let entry = Entry { name: name.clone(), var: var.clone(), buffer: None, reached: false };
            gradients.entries.push(entry);
        }
        Ok(gradients)
    }

    /// The gradient of a parameter; none where no backward pass reached it, or the name is unknown.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries[*self.by_name.get(name)?].sum()
    }

    /// Names and gradients in the order of [`Gradients::new`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.sum()))
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
            if let Some(gradient) = from.sum() {
                to.add(gradient)?;
            }
        }
        Ok(())
    }

    /// Forgets what the buffers hold: after it, nothing has been reached. The memory is kept for the next step.
    pub fn zero(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.reached = false);
    }
}

/// Differentiates `loss` and adds each parameter's gradient to its buffer.
///
/// Operations of this crate write the gradients of parameters straight into the buffers; what other operations give
/// is added at the end.
///
/// # Shape
/// A loss is a scalar.
///
/// # Errors
/// Where the loss is no scalar, and those of the operations' own backward passes.
pub fn backward(loss: &Tensor, gradients: &mut Gradients) -> Result<()> {
    if loss.rank() != 0 {
        bail!("backward: the loss has shape {:?}; it must be a scalar", loss.dims());
    }
    let store = sink::with_sink(&mut gradients.entries, &mut gradients.by_id, || loss.backward())?;
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
    fn of<T: crate::kernel::Float>(gradient: &Tensor) -> Result<f64> {
        with(gradient, |gradient: &[T]| Ok(elementwise::sum_of_squares(gradient)))
    }
    let mut sum = 0.0;
    for gradient in gradients.entries.iter().filter_map(Entry::sum) {
        sum += if fits(&[gradient]) {
            by_dtype!(gradient, of(gradient))?
        } else {
            let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
            square.to_device(&Device::Cpu)?.to_scalar::<f64>()?
        };
    }
    Ok(sum.sqrt())
}

//! Gradients of named parameters: one buffer each, accumulated by backward passes.

mod sum;
#[cfg(test)]
mod tests;

use crate::flat::Flat;
use crate::sink::{self, ById, Entry};
use candle_core::{Result, Tensor, Var, bail};
use foldhash::fast::FixedState;
use std::collections::HashMap;

use sum::sum_of_squares;

pub use sum::{grad_norm, sum_gradients, sum_nodes};

/// One buffer for each named parameter, to which [`backward`] adds.
///
/// A buffer that was never reached differs from one that contains zeros: [`Gradients::get`] returns `None` for it,
/// which reveals severed parameters. Buffers are kept and overwritten from step to step: copy values that must last.
#[derive(Debug)]
pub struct Gradients {
    entries: Vec<Entry>,
    by_name: HashMap<String, usize, FixedState>,
    by_id: ById,
}

impl Gradients {
    /// Buffers for these parameters, none reached yet.
    ///
    /// # Errors
    /// Returns an error if a name occurs twice, or one parameter has two names.
    pub fn new(parameters: &[(String, Var)]) -> Result<Self> {
        let mut gradients = Self { entries: Vec::new(), by_name: HashMap::default(), by_id: ById::default() };
        for (index, (name, var)) in parameters.iter().enumerate() {
            if gradients.by_name.insert(name.clone(), index).is_some() {
                bail!("gradients: two parameters are named {name}");
            }
            if let Some(first) = gradients.by_id.insert(var.id(), index) {
                bail!("gradients: {name} is the same parameter as {}; list it once", parameters[first].0);
            }
            let (name, var) = (name.clone(), var.clone());
            gradients.entries.push(Entry { name, var, buffer: None, reached: false, rounded: false });
        }
        Ok(gradients)
    }

    /// The same with buffers in bfloat16: half the memory. An operation computes its gradient in the parameter's dtype,
    /// starting from the buffer's values, and rounds it to the nearest when it is complete.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        self.entries.iter_mut().for_each(|entry| entry.rounded = true);
        self
    }

    /// The gradient of a parameter; `None` if no backward pass reached it, or the name is unknown.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries[*self.by_name.get(name)?].sum()
    }

    /// The names of the gradients that contain an infinity or a NaN.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn not_finite(&self) -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for entry in &self.entries {
            // If float32 values are finite, so is their float64 sum of squares; for float64 values beyond 1e154 it
            // isn't, but neither is the norm of such gradients.
            if let Some(gradient) = entry.sum()
                && !sum_of_squares(gradient)?.is_finite()
            {
                names.push(entry.name.as_str());
            }
        }
        Ok(names)
    }

    /// Names and gradients in the order of [`Gradients::new`].
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Tensor>)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.sum()))
    }

    fn check(&self, other: &Self) -> Result<()> {
        if self.entries.len() != other.entries.len() {
            bail!("gradients: {} parameters can't take those of {}", self.entries.len(), other.entries.len());
        }
        for (to, from) in self.entries.iter().zip(&other.entries) {
            if to.name != from.name {
                bail!("gradients: found {} instead of {}", from.name, to.name);
            }
        }
        Ok(())
    }

    /// Whether each parameter was reached, in the order of [`Gradients::new`].
    pub fn reached(&self) -> Vec<bool> {
        self.entries.iter().map(|entry| entry.reached).collect()
    }

    /// Sets whether each parameter was reached; buffers not reached so far keep the fill of [`Gradients::flat`].
    pub fn set_reached(&mut self, reached: &[bool]) {
        for (entry, reached) in self.entries.iter_mut().zip(reached) {
            entry.reached = *reached && entry.buffer.is_some();
        }
    }

    /// All buffers as one flat array. Buffers that nothing reached contain −0, which is the exact identity of addition,
    /// even for −0.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn flat(&mut self) -> Result<Flat> {
        for entry in self.entries.iter_mut().filter(|entry| !entry.reached) {
            entry.buffer = Some(entry.var.as_detached_tensor().zeros_like()?.neg()?);
        }
        Flat::new(self.entries.iter().filter_map(|entry| entry.buffer.as_ref()))
    }

    /// Clears the buffers: afterwards, nothing has been reached. The memory is kept for the next step; that of rounded
    /// gradients, which should take little, is released, so that a forward pass can use it.
    pub fn zero(&mut self) {
        for entry in &mut self.entries {
            entry.reached = false;
            entry.buffer = entry.buffer.take().filter(|_| !entry.rounded);
        }
    }
}

/// Runs `forward`, whose loss will be multiplied by `scale` and then differentiated into the same buffers
/// ([`backward`]).
///
/// The gradients are bit-identical to those of a forward pass outside of this function. The vocabulary head computes
/// its gradients while it holds the logits, instead of recomputing those; after an error the buffers must be cleared
/// ([`Gradients::zero`]). The parameters of `gradients` stay off candle's tape: the backward pass writes theirs directly.
///
/// # Errors
/// Returns an error if `forward` does. [`backward`] refuses a loss that was multiplied by anything else, and gradients
/// that lack a parameter of the loss; candle's own `backward` can't differentiate such a loss.
pub fn forward_for<R>(
    gradients: &mut Gradients,
    scale: f64,
    forward: impl FnOnce() -> Result<R>,
) -> Result<R> {
    sink::with_sink(&mut gradients.entries, &mut gradients.by_id, || {
        sink::with_promised_scale(scale, forward)
    })
}

/// Differentiates `loss` and adds each parameter's gradient to its buffer.
///
/// Operations of this crate write the gradients of parameters directly into the buffers; those of other operations are
/// added at the end.
///
/// # Shape
/// A loss is a scalar.
///
/// # Errors
/// Returns an error if the loss is not a scalar, or an operation's backward pass fails.
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

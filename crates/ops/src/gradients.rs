//! Gradients of named parameters: one buffer each, that backward passes add to.

use crate::flat::Flat;
use crate::kernel::elementwise::Terms;
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut};
use crate::kernel::{by_dtype, elementwise, fits};
use crate::sink::{self, Entry};
use crate::tree::fold_tree;
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

    /// The names of the gradients that are not finite: that hold an infinity or a NaN.
    ///
    /// # Errors
    /// Those of the device.
    pub fn not_finite(&self) -> Result<Vec<&str>> {
        let mut names = Vec::new();
        for entry in &self.entries {
            // Of float32 numbers that are finite, the float64 sum of squares is, too; of float64 numbers beyond 1e154
            // it isn't, and neither is the norm of such gradients.
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
                bail!("gradients: {} stands where {} should", from.name, to.name);
            }
        }
        Ok(())
    }

    /// Whether each parameter was reached, in the order of [`Gradients::new`].
    pub fn reached(&self) -> Vec<bool> {
        self.entries.iter().map(|entry| entry.reached).collect()
    }

    /// Says of each parameter whether it was reached; what wasn't yet holds what [`Gradients::flat`] made of it.
    pub fn set_reached(&mut self, reached: &[bool]) {
        for (entry, reached) in self.entries.iter_mut().zip(reached) {
            entry.reached = *reached && entry.buffer.is_some();
        }
    }

    /// All buffers as one row of numbers. What nothing reached holds −0, which added to a number leaves each of its
    /// bits as it is, −0 and all.
    ///
    /// # Errors
    /// Those of the device.
    pub fn flat(&mut self) -> Result<Flat> {
        for entry in self.entries.iter_mut().filter(|entry| !entry.reached) {
            entry.buffer = Some(entry.var.as_detached_tensor().zeros_like()?.neg()?);
        }
        Flat::new(self.entries.iter().filter_map(|entry| entry.buffer.as_ref()))
    }

    /// Forgets what the buffers hold: after it, nothing has been reached. The memory is kept for the next step.
    pub fn zero(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.reached = false);
    }
}

/// Runs `forward`, whose loss will be multiplied by `scale` and then differentiated into the same buffers ([`backward`]).
///
/// The gradients are those of a forward pass outside of this, bit for bit. The vocabulary head makes its own while it
/// holds the logits, instead of computing those a second time; after an error the buffers have to be cleared
/// ([`Gradients::zero`]).
///
/// # Errors
/// Those of `forward`; [`backward`] refuses a loss that was multiplied by anything else.
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

/// Adds the gradients of `others` to those of `first`, along the fixed tree of [`fold_tree`], and gives the norm of the
/// sum ([`grad_norm`]), in one pass over memory.
///
/// # Errors
/// Where they were made from other parameters than `first`, and those of the device.
pub fn sum_gradients(first: &mut Gradients, others: &[Gradients]) -> Result<f64> {
    let others: Vec<(usize, &Gradients)> = (1..).zip(others).collect();
    sum_nodes((0, first), &others, 1 + others.len())
}

/// [`sum_gradients`] where some are sums of several leaves already: each is a node of the tree of `n_leaves` leaves and
/// comes with the number of its first leaf, in order.
///
/// # Errors
/// Those of [`sum_gradients`].
pub fn sum_nodes(
    (own_leaf, first): (usize, &mut Gradients),
    others: &[(usize, &Gradients)],
    n_leaves: usize,
) -> Result<f64> {
    if others.is_empty() {
        return grad_norm(first);
    }
    // A node stands in the tree where its first leaf would stand alone.
    others.iter().try_for_each(|(_, other)| first.check(other))?;
    let mut work = Vec::new();
    for (at, entry) in first.entries.iter_mut().enumerate() {
        let of_others = others.iter().filter_map(|(leaf, other)| Some((*leaf, other.entries[at].sum()?)));
        let mut terms: Vec<(usize, &Tensor)> = of_others.collect();
        let mut own = own_leaf;
        if !entry.reached && !terms.is_empty() {
            let (leaf, gradient) = terms.remove(0);
            entry.add(gradient)?;
            own = leaf;
        }
        let (leaves, terms): (Vec<usize>, Vec<&Tensor>) = terms.into_iter().unzip();
        work.push(Work { leaves: [vec![own], leaves].concat(), terms });
    }
    let all: Vec<&Tensor> = first.entries.iter().filter_map(Entry::sum).collect();
    let terms = work.iter().flat_map(|work| work.terms.iter().copied());
    if fits(&all.iter().copied().chain(terms).collect::<Vec<_>>()) {
        let work: Vec<(&Tensor, Work)> =
            first.entries.iter().zip(work).filter_map(|(entry, work)| Some((entry.sum()?, work))).collect();
        return by_dtype!(all[0], sum_fast(&work, n_leaves)).map(f64::sqrt);
    }
    for (entry, Work { leaves, terms }) in first.entries.iter_mut().zip(work) {
        let Some(sum) = entry.sum().cloned() else { continue };
        let mut nodes: Vec<Option<Tensor>> = vec![None; n_leaves];
        for (leaf, value) in leaves.into_iter().zip(std::iter::once(&sum).chain(terms)) {
            nodes[leaf] = Some(value.clone());
        }
        entry.buffer = fold_tree(nodes, |a, b| Ok::<_, candle_core::Error>((a + b)?.detach()))?;
    }
    grad_norm(first)
}

/// What is to be added to a buffer: the leaf that the buffer is and those of the terms, and the terms.
struct Work<'a> {
    leaves: Vec<usize>,
    terms: Vec<&'a Tensor>,
}

/// Adds everything up, and gives the sum of squares of the sums.
fn sum_fast<T: crate::kernel::Float>(work: &[(&Tensor, Work)], n_leaves: usize) -> Result<f64> {
    let mut of_each = Vec::with_capacity(work.len());
    let most = work.iter().map(|(_, work)| 1 + work.terms.len()).max().unwrap_or(1);
    for work in work.chunks((MOST_AT_ONCE / most).max(1)) {
        let sums: Vec<&Tensor> = work.iter().map(|(sum, _)| *sum).collect();
        let terms: Vec<&Tensor> = work.iter().flat_map(|(_, work)| work.terms.iter().copied()).collect();
        // Where each one's terms begin.
        let begins: Vec<usize> = work
            .iter()
            .scan(0, |next, (_, work)| Some(std::mem::replace(next, *next + work.terms.len())))
            .collect();
        of_each.extend(with_all_mut(&sums, |sums: &mut [&mut [T]]| {
            with_all(&terms, |terms: &[&[T]]| {
                let of = |at: usize| {
                    let Work { leaves, terms: of_this } = &work[at].1;
                    Terms { leaves, values: &terms[begins[at]..begins[at] + of_this.len()], n_leaves }
                };
                Ok(elementwise::sum_up(sums, of))
            })
        })?);
    }
    Ok(of_each.iter().sum())
}

/// The Euclidean norm of all gradients together: `√Σ g²`, summed in float64 in the order of the parameters.
///
/// Buffers that nothing reached count as zero.
///
/// # Errors
/// Those of the device.
pub fn grad_norm(gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.entries.iter().filter_map(Entry::sum) {
        sum += sum_of_squares(gradient)?;
    }
    Ok(sum.sqrt())
}

/// `Σ g²` of one gradient.
fn sum_of_squares(gradient: &Tensor) -> Result<f64> {
    fn of<T: crate::kernel::Float>(gradient: &Tensor) -> Result<f64> {
        with(gradient, |gradient: &[T]| Ok(elementwise::sum_of_squares(gradient)))
    }
    if fits(&[gradient]) {
        by_dtype!(gradient, of(gradient))
    } else {
        let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        square.to_device(&Device::Cpu)?.to_scalar::<f64>()
    }
}

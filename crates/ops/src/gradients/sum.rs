//! The sum of several shards' gradients, and the norm.

use candle_core::{DType, Device, Result, Tensor};
use half::bf16;

use super::Gradients;
use crate::kernel::elementwise::Terms;
use crate::kernel::read::{MOST_AT_ONCE, with, with_all, with_all_mut};
use crate::kernel::{bfloat16, by_dtype, elementwise, fits};
use crate::sink::{self, Entry};
use crate::tree::fold_tree;

/// Adds the gradients of `others` to those of `first`, along the fixed tree of [`fold_tree`], and returns the norm of
/// the sum ([`grad_norm`]), in one pass over memory.
///
/// # Errors
/// Returns an error if they belong to other parameters than `first`, or the device fails.
pub fn sum_gradients(first: &mut Gradients, others: &[Gradients]) -> Result<f64> {
    let others: Vec<(usize, &Gradients)> = (1..).zip(others).collect();
    sum_nodes((0, first), &others, 1 + others.len())
}

/// As [`sum_gradients`], if some are already sums of several leaves: each is a node of the tree of `n_leaves` leaves,
/// given with the index of its first leaf, in order.
///
/// # Errors
/// As [`sum_gradients`].
pub fn sum_nodes(
    (own_leaf, first): (usize, &mut Gradients),
    others: &[(usize, &Gradients)],
    n_leaves: usize,
) -> Result<f64> {
    if others.is_empty() {
        return grad_norm(first);
    }
    // A node is at its first leaf's position in the tree.
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
    if first.entries.iter().any(|entry| entry.rounded) {
        for (entry, Work { leaves, terms }) in first.entries.iter().zip(work) {
            let Some(sum) = entry.sum() else { continue };
            let mut nodes: Vec<Option<&Tensor>> = vec![None; n_leaves];
            for (leaf, value) in leaves.into_iter().zip(std::iter::once(sum).chain(terms)) {
                nodes[leaf] = Some(value);
            }
            // The left one of two is the buffer of `first`, or one that is no longer needed.
            fold_tree(nodes, |a, b| sink::add_rounded(a, b).map(|()| a))?;
        }
        return grad_norm(first);
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

/// The addends of a buffer: the buffer's own leaf and those of the terms, and the terms.
struct Work<'a> {
    leaves: Vec<usize>,
    terms: Vec<&'a Tensor>,
}

/// Adds everything up, and returns the sum of squares of the sums.
fn sum_fast<T: crate::kernel::Float>(work: &[(&Tensor, Work)], n_leaves: usize) -> Result<f64> {
    let mut of_each = Vec::with_capacity(work.len());
    let most = work.iter().map(|(_, work)| 1 + work.terms.len()).max().unwrap_or(1);
    for work in work.chunks((MOST_AT_ONCE / most).max(1)) {
        let sums: Vec<&Tensor> = work.iter().map(|(sum, _)| *sum).collect();
        let terms: Vec<&Tensor> = work.iter().flat_map(|(_, work)| work.terms.iter().copied()).collect();
        // The start of each one's terms.
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
/// Returns an error if the device fails.
pub fn grad_norm(gradients: &Gradients) -> Result<f64> {
    let mut sum = 0.0;
    for gradient in gradients.entries.iter().filter_map(Entry::sum) {
        sum += sum_of_squares(gradient)?;
    }
    Ok(sum.sqrt())
}

/// `Σ g²` of one gradient.
pub(super) fn sum_of_squares(gradient: &Tensor) -> Result<f64> {
    fn of<T: crate::kernel::Float>(gradient: &Tensor) -> Result<f64> {
        with(gradient, |gradient: &[T]| Ok(elementwise::sum_of_squares(gradient)))
    }
    if fits(&[gradient]) {
        by_dtype!(gradient, of(gradient))
    } else if gradient.dtype() == DType::BF16 && gradient.device().is_cpu() {
        with(gradient, |gradient: &[bf16]| Ok(bfloat16::sum_of_squares(gradient)))
    } else {
        let square = gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        square.to_device(&Device::Cpu)?.to_scalar::<f64>()
    }
}

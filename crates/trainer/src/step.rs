//! The gradients of a step: shards of rows on separate threads, summed in an order fixed by the config.
//!
//! micro-batches → each cut into the same shards of rows → each shard runs on its own tape with its own [`Gradients`] →
//! they are summed along one fixed tree ([`TreeSum`]) whose leaves are the shards of all micro-batches, in order. The
//! numbers of threads and processes only decide where a shard runs, so they can't change a bit. Every process has all
//! rows of the step, and therefore knows the numbers of rows and targets.
//!
//! The loss is the sum over all target tokens of the step divided by their number: accumulation, padding and shards
//! don't change the weight of any token.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Var};
use rayon::{ThreadPool, ThreadPoolBuilder};
use vulpes_collective::{Processes, leaves_of};
use vulpes_data::Batch;
use vulpes_model::{Model, Transformer};
use vulpes_ops::threads::{Precision, with_kernel_threads};
use vulpes_ops::{CrossEntropyOptions, Gradients, TreeSum, fold_tree, sum_gradients};
use vulpes_random::Key;

use crate::contrast::Contrast;
use crate::error::{Error, Result};
use crate::optimizer::GradientDtype;
use crate::shard::{Divisor, Shard, Workers};
use crate::slices::{Made, Slices};

/// The stack of a thread that trains: candle's backward pass recurses once per operation.
pub const STACK_BYTES: usize = 256 << 20;

/// The minimum tokens of a shard, to keep its matrix products large.
const SHARD_TOKENS: usize = 384;

/// The maximum number of shards chosen by default.
const MAX_SHARDS: usize = 8;

/// The maximum number of elements of all shards' gradients together, by default.
const MAX_SHARD_VALUES: usize = 128 << 20;

/// The default of `train.shards`, the number of shards of a micro-batch: decided by the sizes alone, never by the
/// number of threads.
pub fn default_shards(batch_rows: usize, context_len: usize, n_parameters: usize, device: &Device) -> usize {
    if !device.is_cpu() {
        return 1;
    }
    let by_tokens = batch_rows.saturating_mul(context_len) / SHARD_TOKENS;
    let by_memory = MAX_SHARD_VALUES / n_parameters.max(1);
    by_tokens.min(by_memory).min(MAX_SHARDS).clamp(1, batch_rows.max(1))
}

/// The number of parameters from which a step of one shard is worth distributing over threads; reruns of a smaller
/// model run in parallel instead, one thread each.
pub const LARGE: usize = 1 << 20;

/// The options of a step's gradients.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads; the results are bit-identical for any number.
    pub n_threads: usize,
    /// The processes that share the leaves; the results are bit-identical for any number.
    pub processes: Processes,
    /// The probability mass spread over all classes.
    pub label_smoothing: f64,
    /// The precision of the factors of matrix products.
    pub precision: Precision,
    /// Whether the activations of each block are recomputed in the backward pass instead of kept: the same bits.
    pub recompute: bool,
    /// The dtype in which gradients are kept.
    pub gradient_dtype: GradientDtype,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// The contrastive loss, if the objective uses it.
    pub contrast: Option<Contrast>,
    /// The parameters that are not divided among processes.
    pub undivided: BTreeSet<String>,
    /// The factor of each label's loss; empty = all equal.
    pub class_weights: Vec<f64>,
}

/// Computes the gradients of a step.
pub struct Stepper<M = Transformer> {
    model: M,
    pub(crate) parameters: Vec<(String, Var)>,
    slices: Slices,
    /// The sum of the last step.
    total: Option<Gradients>,
    /// Free buffers.
    free: Vec<Gradients>,
    /// The threads of a step; `None` = the calling thread.
    pool: Option<Arc<ThreadPool>>,
    pub(crate) options: StepOptions,
}

/// The loss of one step's batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLoss {
    /// Mean over the targets.
    pub loss: f64,
    /// The number of targets.
    pub n_targets: usize,
    /// Real tokens read.
    pub n_tokens: usize,
}

/// The number of a process's `n_leaves` leaves that run in parallel: all shards of a single micro-batch; of several, at
/// most one per thread, since each holds its own gradients.
fn at_once(n_leaves: usize, n_shards: usize, n_threads: usize) -> usize {
    if n_leaves <= n_shards { n_leaves.max(1) } else { n_shards.min(n_threads).max(1) }
}

/// The maximum sets of gradients that a process holds at a time while it computes `leaves` of the tree of `n_leaves`.
pub fn n_gradients(leaves: Range<usize>, n_leaves: usize, n_shards: usize, n_threads: usize) -> usize {
    let width = at_once(leaves.len(), n_shards, n_threads);
    let mut tree = TreeSum::new(n_leaves);
    let mut most = 1;
    for first in leaves.clone().step_by(width) {
        let wave = first..leaves.end.min(first + width);
        most = most.max(tree.n_kept() + wave.len());
        for leaf in wave {
            let Ok(()) = tree.push(leaf..leaf + 1, (), |(), ()| Ok::<_, Infallible>(()));
        }
    }
    most
}

/// What all shards of a step share.
pub(crate) fn shard<'a, M: Model>(
    model: &'a M,
    options: &'a StepOptions,
    step: u64,
    batches: &[Batch],
    divisor: Divisor,
) -> Shard<'a, M> {
    Shard {
        model,
        options: CrossEntropyOptions {
            label_smoothing: options.label_smoothing,
            weights: options.class_weights.as_slice().into(),
            ..CrossEntropyOptions::default()
        },
        dropout: Key::new(options.seed, "dropout").with(&step),
        recompute: options.recompute,
        first_row: batches.first().map_or(0, |batch| batch.first_row),
        divisor,
    }
}

/// `n` empty sets of gradients, free buffers first.
fn sets(
    free: &mut Vec<Gradients>,
    parameters: &[(String, Var)],
    dtype: GradientDtype,
    n: usize,
) -> candle_core::Result<Vec<Gradients>> {
    let new = || match (free.pop(), dtype) {
        (Some(free), _) => Ok(free),
        (None, GradientDtype::Full) => Gradients::new(parameters),
        (None, GradientDtype::Bfloat16) => Gradients::new(parameters).map(Gradients::rounded),
    };
    let mut sets = std::iter::repeat_with(new).take(n).collect::<candle_core::Result<Vec<_>>>()?;
    sets.iter_mut().for_each(Gradients::zero);
    Ok(sets)
}

/// The workers for leaves of which at most `width` run in parallel.
pub(crate) fn workers<'a>(pool: Option<&'a ThreadPool>, options: &StepOptions, width: usize) -> Workers<'a> {
    let StepOptions { n_threads, precision, .. } = *options;
    Workers { pool, kernel_threads: (n_threads / n_threads.min(width)).max(1), n_threads, precision }
}

impl<M: Model> Stepper<M> {
    /// Prepares the gradients of the parameters that `trainable` selects.
    ///
    /// # Errors
    /// Returns an error if the threads can't be started, or a contrastive loss would span several processes.
    pub fn new(model: &M, trainable: &dyn Fn(&str) -> bool, options: StepOptions) -> Result<Self> {
        let size = options.processes.size();
        if options.contrast.is_some() && size > 1 {
            return Err(Error::PairsOfProcesses { size });
        }
        if options.gradient_dtype == GradientDtype::Bfloat16 && size > 1 {
            return Err(Error::RoundedOfProcesses { size });
        }
        let (n_shards, n_threads) = (options.n_shards.max(1), options.n_threads.max(1));
        let model = model.with_trainable(trainable)?;
        let all = model.parameters().iter().filter(|(name, _)| trainable(name));
        let parameters: Vec<(String, Var)> = all.map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let slices = Slices::new(&options.processes, &parameters, &options.undivided)?;
        let is_large = n_shards > 1 || model.parameters().numel() >= LARGE;
        let pool = (n_threads > 1 && is_large && model.device().is_cpu()).then(|| {
            let name = |i| format!("step-{i}");
            ThreadPoolBuilder::new().num_threads(n_threads).stack_size(STACK_BYTES).thread_name(name).build()
        });
        let pool = pool.transpose().map_err(|source| Error::Threads { n_threads, source })?;
        let options = StepOptions { n_shards, n_threads, ..options };
        let (total, free, pool) = (None, Vec::new(), pool.map(Arc::new));
        Ok(Self { model, parameters, slices, total, free, pool, options })
    }

    /// Computes loss and gradients of step `step` over its micro-batches, and the gradients' global norm. Each of
    /// several processes has the gradients of its slice.
    ///
    /// # Errors
    /// Returns an error if no row has a target, there are more processes than shards, or an operation fails on any
    /// process.
    pub fn gradients(&mut self, step: u64, batches: &[Batch]) -> Result<(StepLoss, f64, &Gradients)> {
        self.gradients_over(step, batches, self.divisor(batches))
    }

    /// The divisor of the losses of a step on `batches`.
    pub(crate) fn divisor(&self, batches: &[Batch]) -> Divisor {
        Divisor::of(batches, &self.options.class_weights)
    }

    /// [`Stepper::gradients`] with a given `divisor`, although the batches may have fewer targets; without any targets,
    /// every gradient is zero.
    ///
    /// # Errors
    /// See [`Stepper::gradients`].
    pub(crate) fn gradients_over(
        &mut self,
        step: u64,
        batches: &[Batch],
        divisor: Divisor,
    ) -> Result<(StepLoss, f64, &Gradients)> {
        if divisor.n_targets == 0 {
            return Err(Error::NoTarget { step });
        }
        let processes = self.options.processes.clone();
        let contrast = self.options.contrast;
        // A shard of pairs is one leaf across all micro-batches: they share one loss.
        let n_leaves = self.options.n_shards * if contrast.is_some() { 1 } else { batches.len() };
        if processes.size() > n_leaves {
            return Err(vulpes_collective::Error::TooMany { size: processes.size(), n_leaves }.into());
        }
        let made = match contrast {
            None => self.make_leaves(step, batches, (n_leaves, divisor)),
            Some(contrast) => self.make_pairs(contrast, step, batches, divisor),
        };
        let (made, report) = self.slices.report(made)?;
        let sum =
            fold_tree(report.losses.into_iter().map(Some), |a, b| Ok::<_, Error>(a + b))?.unwrap_or(0.0);
        let add_up = || self.slices.sum(n_leaves, made.nodes, &report.reached);
        let (norm, mut total, others) = with_kernel_threads(self.options.n_threads, add_up)?;
        if batches.iter().all(|batch| batch.n_targets() == 0) {
            total.flat()?;
            total.set_reached(&vec![true; self.parameters.len()]);
        }
        self.free.extend(others);
        self.free.extend(self.total.take());
        let n_tokens = batches.iter().map(Batch::n_tokens).sum();
        let loss = StepLoss { loss: sum / divisor.weight, n_targets: divisor.n_targets, n_tokens };
        Ok((loss, norm, self.total.insert(total)))
    }

    /// Runs this process's leaves, and sums neighbors in the tree as soon as both are done; a single process leaves the
    /// last ones to be summed in one pass with everything else.
    fn make_leaves(
        &mut self,
        step: u64,
        batches: &[Batch],
        (n_leaves, divisor): (usize, Divisor),
    ) -> Result<Made> {
        let StepOptions { n_shards, n_threads, processes, gradient_dtype, .. } = self.options.clone();
        // The last step's buffers are reused.
        self.free.extend(self.total.take());
        let shard = shard(&self.model, &self.options, step, batches, divisor);
        let own = leaves_of(processes.rank(), processes.size(), n_leaves);
        let width = at_once(own.len(), n_shards, n_threads);
        let mut losses = Vec::with_capacity(own.len());
        let mut tree = TreeSum::new(n_leaves);
        let mut last = Vec::new();
        for first in own.clone().step_by(width) {
            let leaves = first..own.end.min(first + width);
            let mut sets = sets(&mut self.free, &self.parameters, gradient_dtype, leaves.len())?;
            let run = |at: usize, set: &mut Gradients| {
                let leaf = leaves.start + at;
                shard.run(&batches[leaf / n_shards], leaf % n_shards, n_shards, set)
            };
            let pool = self.pool.as_deref().filter(|_| leaves.len() > 1);
            losses.extend(workers(pool, &self.options, width).on_each(&mut sets, &run)?);
            if processes.is_alone() && leaves.end == own.end {
                last = leaves.map(|leaf| leaf..leaf + 1).zip(sets).collect();
                break;
            }
            for (leaf, set) in leaves.zip(sets) {
                tree.push(leaf..leaf + 1, set, |left: &mut Gradients, right| {
                    with_kernel_threads(n_threads, || sum_gradients(left, std::slice::from_ref(&right)))?;
                    self.free.push(right);
                    Ok::<_, Error>(())
                })?;
            }
        }
        let nodes = tree.into_nodes().into_iter().chain(last).collect();
        Ok(Made { losses, nodes })
    }

    /// Runs the shards of a contrastive step, each across all micro-batches.
    fn make_pairs(
        &mut self,
        contrast: Contrast,
        step: u64,
        batches: &[Batch],
        divisor: Divisor,
    ) -> Result<Made> {
        let n_shards = self.options.n_shards;
        self.free.extend(self.total.take());
        let mut sets = sets(&mut self.free, &self.parameters, self.options.gradient_dtype, n_shards)?;
        let workers = workers(self.pool.as_deref().filter(|_| n_shards > 1), &self.options, n_shards);
        let shard = shard(&self.model, &self.options, step, batches, divisor);
        let losses = vec![contrast.run(&shard, batches, &mut sets, &workers)?];
        let nodes = sets.into_iter().enumerate().map(|(leaf, set)| (leaf..leaf + 1, set)).collect();
        Ok(Made { losses, nodes })
    }

    /// Releases the memory of the step's gradients if they are kept in bfloat16, for an evaluation or a checkpoint.
    pub(crate) fn release_rounded(&mut self) {
        if self.options.gradient_dtype == GradientDtype::Bfloat16 {
            self.total.iter_mut().for_each(Gradients::zero);
        }
    }

    /// Releases the memory of an evaluation's logits if gradients are kept in bfloat16: a checkpoint may follow.
    pub(crate) fn release_pages(&self) {
        if self.options.gradient_dtype == GradientDtype::Bfloat16 {
            vulpes_ops::release_pages();
        }
    }

    /// The processes' slices of the trained parameters.
    pub(crate) fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The processes that share the step.
    pub(crate) fn processes(&self) -> &Processes {
        &self.options.processes
    }

    /// The model that is trained.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The threads of a step, if there are several: a caller that runs an entire step on them avoids waking them for
    /// each part.
    pub(crate) fn pool(&self) -> Option<Arc<ThreadPool>> {
        self.pool.clone()
    }

    /// The threads on which batches can be evaluated in parallel, if there are several, and the number of threads of a
    /// kernel then.
    pub(crate) fn side_by_side(&self) -> (Option<&ThreadPool>, usize) {
        let StepOptions { n_shards, n_threads, .. } = self.options;
        match self.pool.as_deref().filter(|_| n_shards > 1) {
            Some(pool) => (Some(pool), (n_threads / n_threads.min(n_shards)).max(1)),
            None => (None, n_threads),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_gradient_sets_is_bounded() {
        // A single micro-batch: all its shards; further ones: those on the threads, and a few nodes.
        assert_eq!(n_gradients(0..8, 8, 8, 2), 8);
        assert_eq!(n_gradients(0..1, 1, 1, 2), 1);
        assert_eq!(n_gradients(0..40, 40, 1, 2), 6);
        assert_eq!(n_gradients(0..32, 32, 8, 2), 6);
        assert_eq!(n_gradients(10..20, 40, 1, 1), 5);
        assert_eq!(n_gradients(0..4, 8, 8, 1), 4);
    }

    #[test]
    fn the_default_number_of_shards_follows_the_sizes() {
        let shards = |rows, len, n| default_shards(rows, len, n, &Device::Cpu);
        assert_eq!(shards(16, 16, 2_000), 1);
        assert_eq!(shards(12, 64, 800_000), 2);
        assert_eq!(shards(4, 256, 10_000_000), 2);
        assert_eq!(shards(64, 256, 10_000_000), 8);
        assert_eq!(shards(64, 1024, 124_000_000), 1);
        assert_eq!(shards(1, 4096, 1_000), 1);
    }
}

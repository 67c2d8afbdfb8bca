//! One step's gradients: shards of rows on threads of their own, summed in an order that the config alone decides.
//!
//! micro-batches → each cut into the same shards of rows → each shard runs on a tape and with [`Gradients`] of its own →
//! they are added along one fixed tree ([`TreeSum`]) whose leaves are the shards of all micro-batches, in order. The
//! numbers of threads and of processes decide only who runs which shard, so they can't change a bit. Every process has
//! all rows of the step, and so knows their number and that of their targets without asking.
//!
//! The loss is the sum over the target tokens of the whole step divided by their number: neither accumulation nor
//! padding nor shards weigh any token differently.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Var};
use rayon::{ThreadPool, ThreadPoolBuilder};
use vulpes_collective::{Processes, leaves_of};
use vulpes_data::Batch;
use vulpes_model::Transformer;
use vulpes_ops::threads::{Precision, with_kernel_threads};
use vulpes_ops::{CrossEntropyOptions, Gradients, TreeSum, fold_tree, sum_gradients};
use vulpes_random::Key;

use crate::contrast::Contrast;
use crate::error::{Error, Result};
use crate::shard::{Shard, Workers};
use crate::slices::{Made, Slices};

/// The stack of a thread that trains: candle's backward pass recurses once per operation.
pub const STACK_BYTES: usize = 256 << 20;

/// Tokens that a shard should have at least, to keep its matrix products large.
const SHARD_TOKENS: usize = 384;

/// The most shards that are chosen where the config doesn't say.
const MAX_SHARDS: usize = 8;

/// The most numbers that all shards' gradients may hold together, where the config doesn't say.
const MAX_SHARD_VALUES: usize = 128 << 20;

/// How many shards a micro-batch is cut into where `train.shards` doesn't say: by the sizes alone, never by the
/// number of threads.
pub fn default_shards(batch_rows: usize, context_len: usize, n_parameters: usize, device: &Device) -> usize {
    if !device.is_cpu() {
        return 1;
    }
    let by_tokens = batch_rows.saturating_mul(context_len) / SHARD_TOKENS;
    let by_memory = MAX_SHARD_VALUES / n_parameters.max(1);
    by_tokens.min(by_memory).min(MAX_SHARDS).clamp(1, batch_rows.max(1))
}

/// Numbers of a model from which on a step of one shard is worth handing to other threads.
const LARGE: usize = 1 << 20;

/// What decides how a step's gradients are computed.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads; any number gives the same bits.
    pub n_threads: usize,
    /// The processes that share the leaves; any number gives the same bits.
    pub processes: Processes,
    /// The probability mass that is spread over all classes.
    pub label_smoothing: f64,
    /// What the factors of the projections' matrix products are rounded to.
    pub precision: Precision,
    /// Whether the inside of each block is computed again in the backward pass instead of kept: the same bits.
    pub recompute: bool,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// For pairs of texts that are told from the others of the step.
    pub contrast: Option<Contrast>,
}

/// What computes the gradients of a step.
pub struct Stepper {
    transformer: Transformer,
    parameters: Vec<(String, Var)>,
    slices: Slices,
    /// The sum of the last step.
    total: Option<Gradients>,
    /// Buffers that no step is using.
    free: Vec<Gradients>,
    /// The threads of a step; `None` is the one that asks for it.
    pool: Option<Arc<ThreadPool>>,
    options: StepOptions,
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

/// How many of a process's `n_leaves` leaves run side by side: all shards of a single micro-batch; of several, no more
/// than there are threads, for each holds gradients of its own.
fn at_once(n_leaves: usize, n_shards: usize, n_threads: usize) -> usize {
    if n_leaves <= n_shards { n_leaves.max(1) } else { n_shards.min(n_threads).max(1) }
}

/// The most sets of gradients that a process holds at one time, which makes `leaves` of the tree of `n_leaves`.
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
fn shard<'a>(
    transformer: &'a Transformer,
    options: &StepOptions,
    step: u64,
    batches: &[Batch],
    n_targets: usize,
) -> Shard<'a> {
    Shard {
        transformer,
        options: CrossEntropyOptions {
            label_smoothing: options.label_smoothing,
            ..CrossEntropyOptions::default()
        },
        dropout: Key::new(options.seed, "dropout").with(&step),
        recompute: options.recompute,
        first_row: batches.first().map_or(0, |batch| batch.first_row),
        n_targets,
    }
}

/// `n` sets of gradients that hold nothing, those first that no step is using.
fn sets(
    free: &mut Vec<Gradients>,
    parameters: &[(String, Var)],
    n: usize,
) -> candle_core::Result<Vec<Gradients>> {
    let new = || free.pop().map_or_else(|| Gradients::new(parameters), Ok);
    let mut sets = std::iter::repeat_with(new).take(n).collect::<candle_core::Result<Vec<_>>>()?;
    sets.iter_mut().for_each(Gradients::zero);
    Ok(sets)
}

/// Who runs leaves of which `width` at most run side by side.
fn workers<'a>(pool: Option<&'a ThreadPool>, options: &StepOptions, width: usize) -> Workers<'a> {
    let StepOptions { n_threads, precision, .. } = *options;
    Workers { pool, kernel_threads: (n_threads / n_threads.min(width)).max(1), n_threads, precision }
}

impl Stepper {
    /// Prepares the gradients of the parameters that `trainable` names.
    ///
    /// # Errors
    /// Returns an error if the threads can't be started, or pairs of texts would have to be told from those of other
    /// processes.
    pub fn new(
        transformer: &Transformer,
        trainable: &dyn Fn(&str) -> bool,
        options: StepOptions,
    ) -> Result<Self> {
        let size = options.processes.size();
        if options.contrast.is_some() && size > 1 {
            return Err(Error::PairsOfProcesses { size });
        }
        let (n_shards, n_threads) = (options.n_shards.max(1), options.n_threads.max(1));
        let transformer = transformer.with_trainable(trainable)?;
        let all = transformer.parameters().iter().filter(|(name, _)| trainable(name));
        let parameters: Vec<(String, Var)> = all.map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let slices = Slices::new(&options.processes, &parameters)?;
        let is_large = n_shards > 1 || transformer.parameters().numel() >= LARGE;
        let pool = (n_threads > 1 && is_large && transformer.device().is_cpu()).then(|| {
            let name = |i| format!("step-{i}");
            ThreadPoolBuilder::new().num_threads(n_threads).stack_size(STACK_BYTES).thread_name(name).build()
        });
        let pool = pool.transpose().map_err(|source| Error::Threads { n_threads, source })?;
        let options = StepOptions { n_shards, n_threads, ..options };
        let (total, free, pool) = (None, Vec::new(), pool.map(Arc::new));
        Ok(Self { transformer, parameters, slices, total, free, pool, options })
    }

    /// Computes loss and gradients of step `step` over its micro-batches, and the gradients' global norm. Of several
    /// processes each has the gradients of its own slice.
    ///
    /// # Errors
    /// When no row has a target, there are more processes than shards, or an operation fails on one of them.
    pub fn gradients(&mut self, step: u64, batches: &[Batch]) -> Result<(StepLoss, f64, &Gradients)> {
        let n_targets: usize = batches.iter().map(Batch::n_targets).sum();
        if n_targets == 0 {
            return Err(Error::NoTarget { step });
        }
        let processes = self.options.processes.clone();
        let contrast = self.options.contrast;
        // A shard of pairs is one leaf through all micro-batches: their loss is one.
        let n_leaves = self.options.n_shards * if contrast.is_some() { 1 } else { batches.len() };
        if processes.size() > n_leaves {
            return Err(vulpes_collective::Error::TooMany { size: processes.size(), n_leaves }.into());
        }
        let made = match contrast {
            None => self.make_leaves(step, batches, (n_leaves, n_targets)),
            Some(contrast) => self.make_pairs(contrast, step, batches, n_targets),
        };
        let (made, report) = self.slices.report(made)?;
        let sum =
            fold_tree(report.losses.into_iter().map(Some), |a, b| Ok::<_, Error>(a + b))?.unwrap_or(0.0);
        let add_up = || self.slices.sum(n_leaves, made.nodes, &report.reached);
        let (norm, total, others) = with_kernel_threads(self.options.n_threads, add_up)?;
        self.free.extend(others);
        self.free.extend(self.total.take());
        let n_tokens = batches.iter().map(Batch::n_tokens).sum();
        let loss = StepLoss { loss: sum / n_targets as f64, n_targets, n_tokens };
        Ok((loss, norm, self.total.insert(total)))
    }

    /// Runs this process's leaves, and adds up those that are neighbors in the tree as soon as both are there; the last
    /// ones of a process that is alone are left as they are, to be added in one pass with all else.
    fn make_leaves(
        &mut self,
        step: u64,
        batches: &[Batch],
        (n_leaves, n_targets): (usize, usize),
    ) -> Result<Made> {
        let StepOptions { n_shards, n_threads, processes, .. } = self.options.clone();
        // What the last step left behind serves again.
        self.free.extend(self.total.take());
        let shard = shard(&self.transformer, &self.options, step, batches, n_targets);
        let own = leaves_of(processes.rank(), processes.size(), n_leaves);
        let width = at_once(own.len(), n_shards, n_threads);
        let mut losses = Vec::with_capacity(own.len());
        let mut tree = TreeSum::new(n_leaves);
        let mut last = Vec::new();
        for first in own.clone().step_by(width) {
            let leaves = first..own.end.min(first + width);
            let mut sets = sets(&mut self.free, &self.parameters, leaves.len())?;
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

    /// Runs the shards of a step of pairs, each through all micro-batches.
    fn make_pairs(
        &mut self,
        contrast: Contrast,
        step: u64,
        batches: &[Batch],
        n_targets: usize,
    ) -> Result<Made> {
        let n_shards = self.options.n_shards;
        self.free.extend(self.total.take());
        let mut sets = sets(&mut self.free, &self.parameters, n_shards)?;
        let workers = workers(self.pool.as_deref().filter(|_| n_shards > 1), &self.options, n_shards);
        let shard = shard(&self.transformer, &self.options, step, batches, n_targets);
        let losses = vec![contrast.run(&shard, batches, &mut sets, &workers)?];
        let nodes = sets.into_iter().enumerate().map(|(leaf, set)| (leaf..leaf + 1, set)).collect();
        Ok(Made { losses, nodes })
    }

    /// The processes' slices of what is learned.
    pub(crate) fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The processes that share the step.
    pub(crate) fn processes(&self) -> &Processes {
        &self.options.processes
    }

    /// The model that is trained.
    pub fn transformer(&self) -> &Transformer {
        &self.transformer
    }

    /// The threads of a step, where there are several: whoever does a whole step among them saves waking them up for
    /// each of its parts.
    pub(crate) fn pool(&self) -> Option<Arc<ThreadPool>> {
        self.pool.clone()
    }

    /// The threads on which batches can be evaluated side by side, where there are several, and those of a kernel then.
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
    fn few_sets_of_gradients_are_held_at_a_time() {
        // A single micro-batch: all its shards; further ones: those on the threads, and a few nodes.
        assert_eq!(n_gradients(0..8, 8, 8, 2), 8);
        assert_eq!(n_gradients(0..1, 1, 1, 2), 1);
        assert_eq!(n_gradients(0..40, 40, 1, 2), 6);
        assert_eq!(n_gradients(0..32, 32, 8, 2), 6);
        assert_eq!(n_gradients(10..20, 40, 1, 1), 5);
        assert_eq!(n_gradients(0..4, 8, 8, 1), 4);
    }

    #[test]
    fn the_default_follows_the_sizes() {
        let shards = |rows, len, n| default_shards(rows, len, n, &Device::Cpu);
        assert_eq!(shards(16, 16, 2_000), 1);
        assert_eq!(shards(12, 64, 800_000), 2);
        assert_eq!(shards(4, 256, 10_000_000), 2);
        assert_eq!(shards(64, 256, 10_000_000), 8);
        assert_eq!(shards(64, 1024, 124_000_000), 1);
        assert_eq!(shards(1, 4096, 1_000), 1);
    }
}

//! One step's gradients: shards of rows on threads of their own, summed in an order that the config alone decides.
//!
//! micro-batches → each cut into the same shards of rows → shard `i` runs through all micro-batches on one tape a
//! piece, adding into its own [`Gradients`] → the shards' gradients are added along one fixed tree ([`fold_tree`]). The number
//! of threads decides only which thread runs which shard, so it can't change a bit.
//!
//! The loss is the sum over the target tokens of the whole step divided by their number: neither accumulation nor
//! padding nor shards weigh any token differently.

use std::sync::Arc;

use candle_core::{Device, Var};
use rayon::{ThreadPool, ThreadPoolBuilder};
use vulpes_data::{Batch, Rank};
use vulpes_model::Transformer;
use vulpes_ops::threads::{Precision, with_kernel_threads};
use vulpes_ops::{CrossEntropyOptions, Gradients, fold_tree, sum_gradients};
use vulpes_random::Key;

use crate::contrast::Contrast;
use crate::error::{Error, Result};
use crate::shard::{Shard, Workers};

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
#[derive(Clone, Copy, Debug)]
pub struct StepOptions {
    /// Shards of a micro-batch.
    pub n_shards: usize,
    /// Threads; any number gives the same bits.
    pub n_threads: usize,
    /// The probability mass that is spread over all classes.
    pub label_smoothing: f64,
    /// What the factors of the projections' matrix products are rounded to.
    pub precision: Precision,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// For pairs of texts that are told from the others of the step.
    pub contrast: Option<Contrast>,
}

/// What computes the gradients of a step.
pub struct Stepper {
    transformer: Transformer,
    shards: Vec<Gradients>,
    /// The threads of a step; `None` is the one that asks for it.
    pool: Option<Arc<ThreadPool>>,
    /// Threads of a kernel where shards run, and where they have ended.
    kernel_threads: usize,
    n_threads: usize,
    options: CrossEntropyOptions,
    precision: Precision,
    seed: u64,
    rank: Rank,
    contrast: Option<Contrast>,
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

impl Stepper {
    /// Prepares a set of gradients a shard for the parameters that `trainable` names.
    ///
    /// `rank` is the one whose batches ([`vulpes_data::Batches`]) are given to [`Stepper::gradients`].
    ///
    /// # Errors
    /// Returns an error if the threads can't be started, or pairs of texts would have to be told from those of other ranks.
    pub fn new(
        transformer: &Transformer,
        trainable: &dyn Fn(&str) -> bool,
        options: StepOptions,
        rank: Rank,
    ) -> Result<Self> {
        let StepOptions { n_shards, n_threads, label_smoothing, precision, seed, contrast } = options;
        if contrast.is_some() && rank.of > 1 {
            return Err(Error::PairsOfRanks { n_ranks: rank.of });
        }
        let transformer = transformer.with_trainable(trainable)?;
        let all = transformer.parameters().iter().filter(|(name, _)| trainable(name));
        let parameters: Vec<(String, Var)> = all.map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let shards =
            (0..n_shards.max(1)).map(|_| Gradients::new(&parameters)).collect::<candle_core::Result<_>>()?;
        let workers = n_threads.min(n_shards).max(1);
        let is_large = n_shards > 1 || transformer.parameters().numel() >= LARGE;
        let pool = (n_threads > 1 && is_large && transformer.device().is_cpu()).then(|| {
            let name = |i| format!("step-{i}");
            ThreadPoolBuilder::new().num_threads(n_threads).stack_size(STACK_BYTES).thread_name(name).build()
        });
        let pool = pool.transpose().map_err(|source| Error::Threads { n_threads, source })?;
        Ok(Self {
            transformer,
            shards,
            pool: pool.map(Arc::new),
            kernel_threads: (n_threads / workers).max(1),
            n_threads,
            options: CrossEntropyOptions { label_smoothing, ..CrossEntropyOptions::default() },
            precision,
            seed,
            rank,
            contrast,
        })
    }

    /// Computes loss and gradients of step `step` over its micro-batches, and the gradients' global norm.
    ///
    /// # Errors
    /// When no row has a target, or an operation fails.
    pub fn gradients(&mut self, step: u64, batches: &[Batch]) -> Result<(StepLoss, f64, &Gradients)> {
        let n_targets: usize = batches.iter().map(Batch::n_targets).sum();
        if n_targets == 0 {
            return Err(Error::NoTarget { step });
        }
        let n_shards = self.shards.len();
        let shard = Shard {
            transformer: &self.transformer,
            options: self.options,
            dropout: Key::new(self.seed, "dropout").with(&step),
            first_row: batches.first().map_or(0, |batch| step_row(batch, self.rank)),
            n_targets,
        };
        let workers = Workers {
            pool: self.pool.as_deref().filter(|_| n_shards > 1),
            kernel_threads: self.kernel_threads,
            n_threads: self.n_threads,
            precision: self.precision,
        };
        self.shards.iter_mut().for_each(Gradients::zero);
        let sum = match &self.contrast {
            None => {
                let run =
                    |index: usize, gradients: &mut Gradients| shard.run(index, n_shards, batches, gradients);
                let sums: Vec<_> = workers.on_each(&mut self.shards, &run)?.into_iter().map(Some).collect();
                fold_tree(sums, |a, b| Ok::<_, Error>(a + b))?.unwrap_or(0.0)
            }
            Some(contrast) => contrast.run(&shard, batches, &mut self.shards, &workers)?,
        };
        let mut norm = 0.0;
        if let Some((first, others)) = self.shards.split_first_mut() {
            norm = with_kernel_threads(self.n_threads, || sum_gradients(first, others))?;
        }
        let n_tokens = batches.iter().map(Batch::n_tokens).sum();
        let loss = StepLoss { loss: sum / n_targets as f64, n_targets, n_tokens };
        Ok((loss, norm, &self.shards[0]))
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

    /// The same, where shards run on them side by side.
    pub(crate) fn shard_pool(&self) -> Option<&ThreadPool> {
        self.pool.as_deref().filter(|_| self.shards.len() > 1)
    }

    /// How many threads a kernel may use where shards run.
    pub(crate) fn kernel_threads(&self) -> usize {
        self.kernel_threads
    }
}

/// The number of the step's first row, which is rank 0's: before `batch`, the first of this rank, stand one of as many
/// rows for each rank below it.
fn step_row(batch: &Batch, rank: Rank) -> u64 {
    batch.first_row.saturating_sub(batch.rows as u64 * rank.rank)
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use vulpes_data::{Batches, Cursor, DataConfig, DataKind, Dataset, ObjectiveConfig, OpenOptions};
    use vulpes_model::config::Family;
    use vulpes_model::{Head, ModelSection};

    use super::*;

    #[test]
    fn ranks_draw_masks_of_their_own_and_together_those_of_one_rank() {
        let data = DataConfig { kind: DataKind::Synthetic, ..DataConfig::default() };
        let options = OpenOptions { vocab_size: Some(17), ..OpenOptions::new(8, 7) };
        let dataset = Arc::new(Dataset::open(&data, &ObjectiveConfig::default(), &options).unwrap());
        let section = ModelSection {
            family: Some(Family::Fox),
            context_len: Some(8),
            dropout: Some(0.5),
            ..ModelSection::default()
        };
        let config = section.resolve(17, Head::NextToken);
        let model = Transformer::init(&config, 1, DType::F64, &Device::Cpu).unwrap();
        // The second step of two rows a rank; made-up rows are the same in every batch, so that only masks can differ.
        let sum = |rank: Rank, n: usize| {
            let mut batches = Batches::new(dataset.clone(), Cursor { epoch: 0, index: 4 }, 2, rank);
            let batches: Vec<Batch> = (0..n).map(|_| batches.next_batch().unwrap()).collect();
            let precision = Precision::Float32;
            let (label_smoothing, contrast) = (0.0, None);
            let options =
                StepOptions { n_shards: 2, n_threads: 1, label_smoothing, precision, seed: 3, contrast };
            let mut stepper = Stepper::new(&model, &|_| true, options, rank).unwrap();
            let (loss, _, _) = stepper.gradients(1, &batches).unwrap();
            loss.loss * loss.n_targets as f64
        };
        let (first, second) = (sum(Rank { rank: 0, of: 2 }, 1), sum(Rank { rank: 1, of: 2 }, 1));
        let whole = sum(Rank::default(), 2);
        assert_ne!(first, second, "both ranks drew the same masks");
        assert!((first + second - whole).abs() < 1e-9 * whole.abs(), "{first} + {second} is not {whole}");
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

//! Shards of a step's rows: their threads, their rows, and their forward passes.

use std::ops::Range;

use candle_core::Device;
use rayon::ThreadPool;
use vulpes_data::Batch;
use vulpes_model::{Input, Model, Pass};
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward, forward_for};
use vulpes_random::Key;

/// The threads that run a step's shards.
pub(crate) struct Workers<'a> {
    pub(crate) pool: Option<&'a ThreadPool>,
    pub(crate) kernel_threads: usize,
    pub(crate) n_threads: usize,
    pub(crate) precision: Precision,
}

impl Workers<'_> {
    /// Applies `work` to each shard's index and gradients, each on one thread; returns the results in the order of the
    /// shards.
    ///
    /// # Errors
    /// Returns the first error in that order.
    pub(crate) fn on_each<T: Send>(
        &self,
        shards: &mut [Gradients],
        work: &(dyn Fn(usize, &mut Gradients) -> candle_core::Result<T> + Sync),
    ) -> candle_core::Result<Vec<T>> {
        let one = |index: usize, gradients: &mut Gradients| {
            let work = || work(index, gradients);
            with_kernel_threads(self.kernel_threads, || with_precision(self.precision, work))
        };
        let Some(pool) = self.pool else {
            return shards.iter_mut().enumerate().map(|(index, shard)| one(index, shard)).collect();
        };
        let mut found: Vec<Option<candle_core::Result<T>>> = shards.iter().map(|_| None).collect();
        pool.scope(|scope| {
            for ((index, gradients), found) in shards.iter_mut().enumerate().zip(&mut found) {
                let one = &one;
                scope.spawn(move |_| *found = Some(one(index, gradients)));
            }
        });
        found.into_iter().flatten().collect()
    }

    /// Does `work` on all threads, while no shard runs.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        with_kernel_threads(self.n_threads, work)
    }
}

/// What all shards of a step share.
pub(crate) struct Shard<'a, M> {
    pub(crate) model: &'a M,
    pub(crate) options: CrossEntropyOptions,
    pub(crate) dropout: Key,
    /// Whether the activations of blocks are recomputed in the backward pass.
    pub(crate) recompute: bool,
    /// The index of the first row: dropout is keyed by the row of the step, so no two shards draw the same masks.
    pub(crate) first_row: u64,
    pub(crate) divisor: Divisor,
}

/// The divisor of a step's losses.
#[derive(Clone, Copy, Debug)]
pub struct Divisor {
    pub(crate) n_targets: usize,
    /// The total weight of the targets: their number, or the sum of their labels' weights.
    pub(crate) weight: f64,
}

impl Divisor {
    pub(crate) fn of(batches: &[Batch], class_weights: &[f64]) -> Self {
        let n_targets = batches.iter().map(Batch::n_targets).sum();
        if class_weights.is_empty() {
            return Self { n_targets, weight: n_targets as f64 };
        }
        let of = |target: &i64| usize::try_from(*target).ok().and_then(|label| class_weights.get(label));
        let all = batches.iter().flat_map(|batch| batch.targets.iter());
        Self { n_targets, weight: all.filter_map(of).sum::<f64>().max(f64::MIN_POSITIVE) }
    }
}

impl<M: Model> Shard<'_, M> {
    /// The training pass of the rows of `part`, with dropout masks that don't depend on how the step is cut.
    pub(crate) fn training(&self, part: &Batch) -> Pass<'static> {
        let pass = Pass::training(self.dropout.clone(), part.first_row - self.first_row);
        pass.with_recompute(self.recompute)
    }

    /// Runs shard `index` of the `n` of a micro-batch; returns the sum of its losses.
    pub(crate) fn run(
        &self,
        batch: &Batch,
        index: usize,
        n: usize,
        gradients: &mut Gradients,
    ) -> candle_core::Result<f64> {
        let part = batch.slice(shard_rows(batch.rows, index, n));
        if part.n_targets() == 0 {
            return Ok(0.0);
        }
        let input = input(&part, &self.model.device())?;
        let mut pass = self.training(&part);
        let scale = 1.0 / self.divisor.weight;
        let loss = forward_for(gradients, scale, || {
            self.model.loss_on(&input, &part.targets, &self.options, &mut pass)
        })?;
        backward(&loss.sum.affine(scale, 0.0)?, gradients)?;
        scalar(&loss.sum)
    }
}

/// The rows of shard `index` of `n`: as even as possible, the larger ones first.
pub(crate) fn shard_rows(rows: usize, index: usize, n: usize) -> Range<usize> {
    let (each, more) = (rows / n, rows % n);
    let start = index * each + index.min(more);
    start..start + each + usize::from(index < more)
}

/// Converts a batch to the model's input.
///
/// # Errors
/// Returns an error if the device has no memory left.
pub(crate) fn input(batch: &Batch, device: &Device) -> candle_core::Result<Input> {
    let mut input = Input::new(&batch.ids, batch.rows, device)?;
    if let Some(positions) = &batch.positions {
        input = input.with_positions(positions)?;
    }
    if let Some(types) = &batch.token_types {
        input = input.with_token_types(types)?;
    }
    if let Some(keep) = &batch.padding_mask {
        input = input.with_padding_mask(keep.clone());
    }
    if let Some(segments) = &batch.segments {
        input = input.with_segments(segments.clone());
    }
    Ok(input)
}

/// A scalar tensor's value.
pub(crate) fn scalar(tensor: &candle_core::Tensor) -> candle_core::Result<f64> {
    tensor.to_dtype(candle_core::DType::F64)?.to_scalar::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_all_rows_once() {
        for rows in 0..20 {
            for n in 1..8 {
                let mut next = 0;
                for index in 0..n {
                    let shard = shard_rows(rows, index, n);
                    assert_eq!(shard.start, next);
                    assert!(shard.len().abs_diff(rows / n) <= 1);
                    next = shard.end;
                }
                assert_eq!(next, rows);
            }
        }
    }
}

//! Shards of a step's rows: who runs them, which rows they are, and what runs through them.

use std::ops::Range;

use candle_core::Device;
use rayon::ThreadPool;
use vulpes_data::Batch;
use vulpes_model::{Input, Run, Transformer};
use vulpes_ops::threads::{Precision, with_kernel_threads, with_precision};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward, forward_for};
use vulpes_random::Key;

/// Who does the work of a step's shards.
pub(crate) struct Workers<'a> {
    pub(crate) pool: Option<&'a ThreadPool>,
    pub(crate) kernel_threads: usize,
    pub(crate) n_threads: usize,
    pub(crate) precision: Precision,
}

impl Workers<'_> {
    /// What `work` makes of each shard's number and gradients, each shard on one thread, in the order of the shards.
    ///
    /// # Errors
    /// The first error, in that order.
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

    /// Does `work` where no shard runs, on all threads.
    pub(crate) fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        with_kernel_threads(self.n_threads, work)
    }
}

/// What is the same for all shards of a step.
pub(crate) struct Shard<'a> {
    pub(crate) transformer: &'a Transformer,
    pub(crate) options: CrossEntropyOptions,
    pub(crate) dropout: Key,
    /// Whether the inside of blocks is computed again in the backward pass.
    pub(crate) recompute: bool,
    /// The number of the step's first row: dropout is keyed by the row of the step, so that no two shards draw the same
    /// masks.
    pub(crate) first_row: u64,
    pub(crate) n_targets: usize,
}

impl Shard<'_> {
    /// How the rows of `part` are run: with dropout masks that are theirs however the step is cut.
    pub(crate) fn training(&self, part: &Batch) -> Run<'static> {
        let run = Run::training(self.dropout.clone(), part.first_row - self.first_row);
        run.with_recompute(self.recompute)
    }

    /// Runs shard `index` of the `n` of a micro-batch; the sum of its losses.
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
        let input = input(&part, self.transformer.device())?;
        let mut run = self.training(&part);
        let scale = 1.0 / self.n_targets as f64;
        let loss = forward_for(gradients, scale, || {
            let hidden = self.transformer.forward(&input, &mut run)?;
            let hidden = self.transformer.read_by_head(&hidden, &input)?;
            self.transformer.loss(&hidden, &part.targets, &self.options, &run)
        })?;
        backward(&loss.sum.affine(scale, 0.0)?, gradients)?;
        scalar(&loss.sum)
    }
}

/// The rows of shard `index` of `n`: as even as can be, the larger ones first.
pub(crate) fn shard_rows(rows: usize, index: usize, n: usize) -> Range<usize> {
    let (each, more) = (rows / n, rows % n);
    let start = index * each + index.min(more);
    start..start + each + usize::from(index < more)
}

/// A batch as the model reads it.
///
/// # Errors
/// When the device has no room.
pub(crate) fn input(batch: &Batch, device: &Device) -> candle_core::Result<Input> {
    let mut input = Input::new(&batch.ids, batch.rows, device)?;
    if let Some(positions) = &batch.positions {
        input = input.with_positions(positions)?;
    }
    if let Some(types) = &batch.token_types {
        input = input.with_token_types(types)?;
    }
    if let Some(keep) = &batch.keep {
        input = input.with_keep(keep.clone());
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

//! One shard of a micro-batch: its rows through the model, forward and back.

use std::ops::Range;

use candle_core::Device;
use vulpes_data::Batch;
use vulpes_model::{Input, Run, Transformer};
use vulpes_ops::{CrossEntropyOptions, Gradients, backward, forward_for};
use vulpes_random::Key;

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
        let run = Run::training(self.dropout.clone(), part.first_row - self.first_row);
        let mut run = run.with_recompute(self.recompute);
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
fn shard_rows(rows: usize, index: usize, n: usize) -> Range<usize> {
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

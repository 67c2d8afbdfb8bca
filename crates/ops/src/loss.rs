//! A loss: a differentiable sum, and the number of targets in it.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

/// A summed loss and the number of targets in it: `sum / count` is the mean.
///
/// Sum and count are separate because a batch may be split into shards: the sums of the shards divided by the count of
/// the entire batch give the same loss for any sharding and any padding.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The sum over the targets that are not ignored, a scalar.
    pub sum: Tensor,
    /// The number of those targets.
    pub count: usize,
}

impl Loss {
    /// The mean over the targets; zero if there are none.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn mean(&self) -> Result<Tensor> {
        self.sum.affine(1.0 / self.count.max(1) as f64, 0.0)
    }
}

/// The options of [`crate::cross_entropy()`] and [`crate::lm_head()`].
#[derive(Clone, Debug, PartialEq)]
pub struct CrossEntropyOptions {
    /// The target that is ignored: −100, as in PyTorch.
    pub ignore_index: i64,
    /// The share ε of the target's probability that is spread over the entire vocabulary
    /// ([Szegedy and others 2016](https://arxiv.org/abs/1512.00567)), from 0 to 1.
    pub label_smoothing: f64,
    /// The weight of each target's loss, by target; empty = all 1. The count remains the number of targets.
    pub weights: Arc<[f64]>,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        Self { ignore_index: -100, label_smoothing: 0.0, weights: Arc::default() }
    }
}

impl CrossEntropyOptions {
    /// The weight of this target's loss.
    #[inline(always)]
    pub(crate) fn weight(&self, target: i64) -> f64 {
        self.weights.get(target as usize).copied().unwrap_or(1.0)
    }

    /// Checks targets against the vocabulary and returns how many count.
    pub(crate) fn count(&self, op: &str, rows: usize, vocabulary: usize, targets: &[i64]) -> Result<usize> {
        if targets.len() != rows {
            bail!("{op}: {} targets for {rows} rows of logits; each row needs one", targets.len());
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            bail!("{op}: label_smoothing = {} is not in 0..=1", self.label_smoothing);
        }
        if !(self.weights.is_empty() || self.weights.len() == vocabulary) {
            bail!("{op}: {} weights for {vocabulary} classes; each needs one", self.weights.len());
        }
        let mut count = 0;
        for (row, &target) in targets.iter().enumerate() {
            if target == self.ignore_index {
                continue;
            }
            if usize::try_from(target).map_or(true, |target| target >= vocabulary) {
                bail!(
                    "{op}: target {target} of row {row} is neither in 0..{vocabulary} nor the ignored {}",
                    self.ignore_index
                );
            }
            count += 1;
        }
        Ok(count)
    }
}

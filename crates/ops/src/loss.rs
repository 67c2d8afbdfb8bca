//! What a loss is: a sum that can be differentiated, and how many targets it is the sum over.

use candle_core::{Result, Tensor, bail};

/// A summed loss and the number of targets in it: `sum / count` is the mean.
///
/// Kept apart because a batch may be cut into shards: the sums of the shards divided by the count of the whole batch
/// give the same loss for any cut and any padding.
#[derive(Clone, Debug)]
pub struct Loss {
    /// The sum over the targets that are not ignored, a scalar.
    pub sum: Tensor,
    /// How many targets that was.
    pub count: usize,
}

impl Loss {
    /// The mean over the targets; zero where there are none.
    ///
    /// # Errors
    /// Those of the division on the device.
    pub fn mean(&self) -> Result<Tensor> {
        self.sum.affine(1.0 / self.count.max(1) as f64, 0.0)
    }
}

/// How [`crate::cross_entropy()`] and [`crate::lm_head()`] count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropyOptions {
    /// The target that stands for "not counted": −100, PyTorch's.
    pub ignore_index: i64,
    /// The share ε of the target's probability that is spread over the whole vocabulary
    /// ([Szegedy and others 2016](https://arxiv.org/abs/1512.00567)), from 0 to 1.
    pub label_smoothing: f64,
}

impl Default for CrossEntropyOptions {
    fn default() -> Self {
        Self { ignore_index: -100, label_smoothing: 0.0 }
    }
}

impl CrossEntropyOptions {
    /// Checks targets against the vocabulary and says how many count.
    pub(crate) fn count(&self, op: &str, rows: usize, vocabulary: usize, targets: &[i64]) -> Result<usize> {
        if targets.len() != rows {
            bail!("{op}: {} targets for {rows} rows of logits; each row needs one", targets.len());
        }
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            bail!("{op}: label_smoothing = {} is not in 0..=1", self.label_smoothing);
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

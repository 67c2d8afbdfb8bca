//! Detects loss spikes.
//!
//! The rule: with the running mean of the losses so far, `m ← 0.98 m + 0.02 loss` (bias-corrected as Adam's moments
//! are), a loss greater than `train.spike_factor · m` is a spike, once the mean contains `train.spike_after` losses. A
//! spike doesn't enter the mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KEPT: f64 = 0.98;

/// What to do when the loss spikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSpike {
    /// Apply the step nevertheless.
    Keep,
    /// Drop the step's update, count it, and continue.
    Skip,
    /// Stop before the update is applied.
    Stop,
}

/// The rule for spikes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpikeRule {
    /// What to do on a spike.
    pub then: OnSpike,
    /// A loss this many times the running mean is a spike.
    pub factor: f64,
    /// The minimum number of losses in the mean.
    pub after: u64,
}

/// The running mean of the losses; part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeMean {
    /// The mean before bias correction.
    pub mean: f64,
    /// The number of losses in it.
    pub n_steps: u64,
}

impl SpikeMean {
    /// Returns whether `loss` is a spike; otherwise adds it to the mean.
    pub fn is_spike(&mut self, loss: f64, rule: &SpikeRule) -> bool {
        if self.n_steps >= rule.after.max(1) && loss > rule.factor * self.corrected() {
            return true;
        }
        self.mean = KEPT * self.mean + (1.0 - KEPT) * loss;
        self.n_steps += 1;
        false
    }

    /// The bias-corrected mean; 0 if there are no losses.
    pub fn corrected(&self) -> f64 {
        let n = i32::try_from(self.n_steps).unwrap_or(i32::MAX);
        if n == 0 { 0.0 } else { self.mean / (1.0 - KEPT.powi(n)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: SpikeRule = SpikeRule { then: OnSpike::Keep, factor: 3.0, after: 5 };

    #[test]
    fn a_spike_is_distinguished_from_noise_and_from_the_first_steps() {
        let mut mean = SpikeMean::default();
        assert!(!mean.is_spike(2.0, &RULE));
        assert!((mean.corrected() - 2.0).abs() < 1e-12);
        assert!(!mean.is_spike(100.0, &RULE), "too early to tell");
        let mut mean = SpikeMean::default();
        assert!((0..10).all(|i| !mean.is_spike(2.0 + 0.1 * f64::from(i % 3), &RULE)));
        let before = mean;
        assert!(mean.is_spike(7.0, &RULE));
        assert_eq!(mean, before);
        assert!(!mean.is_spike(5.0, &RULE));
    }
}

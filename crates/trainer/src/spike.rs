//! When a loss counts as a leap.
//!
//! The rule: with the running mean of the losses so far, `m ← 0.98 m + 0.02 loss` (its start corrected as Adam's
//! moments are), a loss greater than `train.spike_factor · m` is a leap, once `train.spike_after` losses went into
//! the mean. A leap doesn't enter the mean.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const KEPT: f64 = 0.98;

/// What to do when the loss leaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnSpike {
    /// Apply the step all the same.
    Keep,
    /// Drop the step's update, count it, and go on.
    Skip,
    /// Stop before the update is applied.
    Stop,
}

/// The rule of leaps, and what follows one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpikeRule {
    /// What a leap does.
    pub then: OnSpike,
    /// A loss this many times the running mean is a leap.
    pub factor: f64,
    /// So many losses must have gone into the mean before.
    pub after: u64,
}

/// The running mean of the losses; part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeMean {
    /// The mean before its start is corrected.
    pub mean: f64,
    /// How many losses went into it.
    pub n_steps: u64,
}

impl SpikeMean {
    /// Whether `loss` is a leap; if it is none, it enters the mean.
    pub fn is_leap(&mut self, loss: f64, rule: &SpikeRule) -> bool {
        if self.n_steps >= rule.after.max(1) && loss > rule.factor * self.corrected() {
            return true;
        }
        self.mean = KEPT * self.mean + (1.0 - KEPT) * loss;
        self.n_steps += 1;
        false
    }

    /// The mean of the losses that went into it; 0 where there are none.
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
    fn a_leap_is_told_from_noise_and_from_the_beginning() {
        let mut mean = SpikeMean::default();
        assert!(!mean.is_leap(2.0, &RULE));
        assert!((mean.corrected() - 2.0).abs() < 1e-12);
        assert!(!mean.is_leap(100.0, &RULE), "too early to tell");
        let mut mean = SpikeMean::default();
        assert!((0..10).all(|i| !mean.is_leap(2.0 + 0.1 * f64::from(i % 3), &RULE)));
        let before = mean;
        assert!(mean.is_leap(7.0, &RULE));
        assert_eq!(mean, before);
        assert!(!mean.is_leap(5.0, &RULE));
    }
}

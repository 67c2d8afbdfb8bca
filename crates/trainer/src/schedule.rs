//! The learning rate at each step: a climb, then the schedule's way down.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The learning rate's way through the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// `lr` throughout.
    Constant,
    /// Half a cosine from `lr` to `min_lr` ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1608.03983)).
    Cosine,
    /// A straight line from `lr` to `min_lr`.
    Linear,
    /// Warm-up, stable, decay: `lr`, then a straight line to `min_lr` over the last `decay_steps`
    /// ([Hu et al. 2024](https://arxiv.org/abs/2404.06395)).
    Wsd,
}

/// `[schedule]`: the learning rate over the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The way down.
    pub kind: ScheduleKind,
    /// Steps over which the rate climbs to `optimizer.lr`.
    pub warmup_steps: u64,
    /// The rate at the end.
    pub min_lr: f64,
    /// wsd: steps of the decay; a fifth of all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// The step at which `min_lr` is reached; `train.steps` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_steps: 0,
            min_lr: 0.0,
            decay_steps: None,
            total_steps: None,
        }
    }
}

/// The learning rate as a function of the step alone.
///
/// With warm-up `w`, total `n`, height `lr` and end `m`, step `s = 1, 2, …, n` has
/// - `lr · s / w` for `s ≤ w`;
/// - then, with `r = (s - w) / (n - w)`: constant `lr`; linear `lr + (m - lr) r`; cosine
///   `m + (lr - m) (1 + cos π r) / 2`; wsd `lr` until the last `d` steps, then a straight line to `m`;
/// - `m` beyond step `n` (constant: `lr`).
///
/// # Examples
/// ```
/// use vulpes_trainer::{Schedule, ScheduleConfig, ScheduleKind};
/// let config = ScheduleConfig { kind: ScheduleKind::Linear, warmup_steps: 2, ..Default::default() };
/// let schedule = Schedule::new(&config, 1.0, 6);
/// let rates: Vec<f64> = (1..=6).map(|step| schedule.lr(step)).collect();
/// assert_eq!(rates, [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    lr: f64,
    min_lr: f64,
    warmup_steps: u64,
    decay_steps: u64,
    total_steps: u64,
}

impl Schedule {
    /// The schedule that the config describes, for a run of `steps` steps at height `lr`.
    pub fn new(config: &ScheduleConfig, lr: f64, steps: u64) -> Self {
        let total_steps = config.total_steps.unwrap_or(steps);
        let after_warmup = total_steps.saturating_sub(config.warmup_steps);
        let decay_steps = match config.kind {
            ScheduleKind::Wsd => config.decay_steps.unwrap_or(total_steps / 5).min(after_warmup),
            _ => after_warmup,
        };
        Self {
            kind: config.kind,
            lr,
            min_lr: config.min_lr,
            warmup_steps: config.warmup_steps,
            decay_steps,
            total_steps,
        }
    }

    /// The learning rate of `step`, counted from 1.
    pub fn lr(&self, step: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps as f64;
        }
        let into_decay = (step + self.decay_steps).saturating_sub(self.total_steps).min(self.decay_steps);
        let r = if self.decay_steps == 0 { 1.0 } else { into_decay as f64 / self.decay_steps as f64 };
        match self.kind {
            ScheduleKind::Constant => self.lr,
            ScheduleKind::Cosine => {
                self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * r))
            }
            ScheduleKind::Wsd if self.decay_steps == 0 => self.lr,
            ScheduleKind::Linear | ScheduleKind::Wsd => self.lr + (self.min_lr - self.lr) * r,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(
        kind: ScheduleKind,
        warmup_steps: u64,
        decay_steps: Option<u64>,
        total: Option<u64>,
    ) -> Vec<f64> {
        let config = ScheduleConfig { kind, warmup_steps, min_lr: 0.1, decay_steps, total_steps: total };
        let schedule = Schedule::new(&config, 1.0, 10);
        (1..=12).map(|step| schedule.lr(step)).collect()
    }

    fn near(found: &[f64], wanted: &[f64]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} is not {wanted:?}");
    }

    #[test]
    fn constant_climbs_and_stays() {
        near(
            &rates(ScheduleKind::Constant, 4, None, None),
            &[0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
        );
    }

    #[test]
    fn cosine_starts_high_ends_low_and_stays_there() {
        let found = rates(ScheduleKind::Cosine, 0, None, None);
        near(&[found[4], found[9], found[10], found[11]], &[0.55, 0.1, 0.1, 0.1]);
        assert!(found.windows(2).all(|pair| pair[0] >= pair[1]));
    }

    #[test]
    fn linear_is_straight() {
        near(&rates(ScheduleKind::Linear, 0, None, None)[..3], &[0.91, 0.82, 0.73]);
    }

    #[test]
    fn wsd_holds_then_falls() {
        near(
            &rates(ScheduleKind::Wsd, 2, Some(3), None),
            &[0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.7, 0.4, 0.1, 0.1, 0.1],
        );
        near(&rates(ScheduleKind::Wsd, 0, None, None)[7..10], &[1.0, 0.55, 0.1]);
    }

    #[test]
    fn the_horizon_may_lie_beyond_the_run() {
        let config =
            |total_steps| ScheduleConfig { kind: ScheduleKind::Cosine, total_steps, ..Default::default() };
        let short = Schedule::new(&config(Some(60)), 1.0, 20);
        let long = Schedule::new(&config(None), 1.0, 60);
        assert!((1..=60).all(|step| short.lr(step) == long.lr(step)));
    }
}

//! The learning rate schedule: warm-up, then decay; and the schedule of weight decay.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of the learning rate schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Constant `lr`.
    Constant,
    /// Half a cosine from `lr` to `min_lr` ([Loshchilov and Hutter 2017](https://arxiv.org/abs/1608.03983)).
    Cosine,
    /// Linear from `lr` to `min_lr`.
    Linear,
    /// Warm-up, stable, decay: `lr`, then down to `min_lr` over the last `decay_steps` ([Hu et al.
    /// 2024](https://arxiv.org/abs/2404.06395)).
    Wsd,
}

/// The shape of a cooldown from 1 to 0, with r its completed fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayShape {
    /// `1 - r`.
    #[default]
    Linear,
    /// `1 - √r` ([Hägele et al. 2024](https://arxiv.org/abs/2405.18392)).
    Sqrt,
    /// `(1 + cos π r) / 2`.
    Cosine,
}

impl DecayShape {
    /// The factor after the fraction `r`.
    fn left(self, r: f64) -> f64 {
        match self {
            Self::Linear => 1.0 - r,
            Self::Sqrt => 1.0 - r.sqrt(),
            Self::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * r)),
        }
    }
}

/// The schedule of every weight decay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecayPath {
    /// No change.
    #[default]
    Constant,
    /// Proportional to the learning rate: decoupled decay, which is already multiplied by it, falls with its square.
    FollowLr,
    /// Half a cosine from its value to 0 over all steps.
    Cosine,
}

/// The cooldown of a run without a fixed number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cooldown {
    /// The step after which the learning rate falls.
    pub from: u64,
    /// The last step.
    pub last: u64,
}

/// `[schedule]`: the learning rate over the steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// The shape of the schedule.
    pub kind: ScheduleKind,
    /// Warm-up steps, over which the learning rate grows linearly to `optimizer.lr`.
    pub warmup_steps: u64,
    /// The final learning rate.
    pub min_lr: f64,
    /// wsd: steps of the cooldown; absent = `decay_fraction` of all steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_steps: Option<u64>,
    /// wsd: the cooldown's fraction of all steps, or of the time of `train.budget_minutes`; absent = 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay_fraction: Option<f64>,
    /// wsd: the shape of the cooldown.
    #[serde(skip_serializing_if = "is_default")]
    pub decay_shape: DecayShape,
    /// The schedule of every weight decay.
    #[serde(skip_serializing_if = "is_default")]
    pub weight_decay: DecayPath,
    /// The step at which `min_lr` is reached; absent = `train.steps`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_steps: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            kind: ScheduleKind::Constant,
            warmup_steps: 0,
            min_lr: 0.0,
            decay_steps: None,
            decay_fraction: None,
            decay_shape: DecayShape::Linear,
            weight_decay: DecayPath::Constant,
            total_steps: None,
        }
    }
}

impl ScheduleConfig {
    /// Half a cosine down to zero, after `warmup_steps` of warm-up.
    pub fn cosine(warmup_steps: u64) -> Self {
        Self { kind: ScheduleKind::Cosine, warmup_steps, ..Self::default() }
    }

    /// The default fraction of the cooldown.
    const COOLDOWN: f64 = 0.2;

    /// Steps of the cooldown of a run of `total` steps.
    pub fn cooldown_steps(&self, total: u64) -> u64 {
        match (self.decay_steps, self.decay_fraction) {
            (Some(steps), _) => steps,
            (None, None) => total / 5,
            (None, Some(fraction)) => (total as f64 * fraction).round() as u64,
        }
    }

    /// The cooldown's fraction of the run's time.
    pub fn cooldown_share(&self) -> f64 {
        self.decay_fraction.unwrap_or(Self::COOLDOWN)
    }
}

/// The learning rate as a function of the step alone.
///
/// With warm-up `w`, total `n`, peak `lr` and minimum `m`, step `s = 1, 2, …, n` has
/// - `lr · s / w` for `s ≤ w`;
/// - then, with `r = (s - w) / (n - w)`: constant `lr`; linear `lr + (m - lr) r`; cosine
///   `m + (lr - m) (1 + cos π r) / 2`; wsd `lr` until the last `d` steps, then down to `m` in the shape of
///   [`DecayShape`];
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
    shape: DecayShape,
    weight_decay: DecayPath,
}

impl Schedule {
    /// The schedule of a config, for a run of `steps` steps with peak `lr`.
    pub fn new(config: &ScheduleConfig, lr: f64, steps: u64) -> Self {
        let total_steps = config.total_steps.unwrap_or(steps);
        let after_warmup = total_steps.saturating_sub(config.warmup_steps);
        let decay_steps = match config.kind {
            ScheduleKind::Wsd => config.cooldown_steps(total_steps).min(after_warmup),
            _ => after_warmup,
        };
        Self {
            kind: config.kind,
            lr,
            min_lr: config.min_lr,
            warmup_steps: config.warmup_steps,
            decay_steps,
            total_steps,
            shape: config.decay_shape,
            weight_decay: config.weight_decay,
        }
    }

    /// The same without an end: after the warm-up the rate is constant, until [`Schedule::with_cooldown`].
    #[must_use]
    pub fn endless(self) -> Self {
        Self { total_steps: u64::MAX, decay_steps: 0, ..self }
    }

    /// The same with the cooldown in the steps of `ending`.
    #[must_use]
    pub fn with_cooldown(self, cooldown: Cooldown) -> Self {
        let Cooldown { from, last } = cooldown;
        Self { total_steps: last, decay_steps: last.saturating_sub(from), ..self }
    }

    /// The factor of every weight decay at `step`.
    pub fn decay_factor(&self, step: u64) -> f64 {
        match self.weight_decay {
            DecayPath::Constant => 1.0,
            DecayPath::FollowLr => self.lr(step) / self.lr,
            DecayPath::Cosine => {
                DecayShape::Cosine.left((step as f64 / self.total_steps.max(1) as f64).min(1.0))
            }
        }
    }

    /// The learning rate of `step`, counted from 1.
    pub fn lr(&self, step: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps as f64;
        }
        let into_decay =
            step.saturating_add(self.decay_steps).saturating_sub(self.total_steps).min(self.decay_steps);
        let r = if self.decay_steps == 0 { 1.0 } else { into_decay as f64 / self.decay_steps as f64 };
        match self.kind {
            ScheduleKind::Constant => self.lr,
            ScheduleKind::Cosine => {
                self.min_lr + (self.lr - self.min_lr) * 0.5 * (1.0 + libm::cos(std::f64::consts::PI * r))
            }
            ScheduleKind::Wsd if self.decay_steps == 0 => self.lr,
            ScheduleKind::Wsd if self.shape != DecayShape::Linear => {
                self.min_lr + (self.lr - self.min_lr) * self.shape.left(r)
            }
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
        let config = ScheduleConfig {
            kind,
            warmup_steps,
            min_lr: 0.1,
            decay_steps,
            total_steps: total,
            ..ScheduleConfig::default()
        };
        let schedule = Schedule::new(&config, 1.0, 10);
        (1..=12).map(|step| schedule.lr(step)).collect()
    }

    fn near(found: &[f64], wanted: &[f64]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?} is not {wanted:?}");
    }

    #[test]
    fn constant_warms_up_and_stays() {
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
    fn a_cooldown_has_its_shape_and_fraction() {
        let of = |decay_shape: DecayShape| {
            let kind = ScheduleKind::Wsd;
            let share = Some(0.4);
            let config = ScheduleConfig { kind, decay_shape, decay_fraction: share, ..Default::default() };
            let schedule = Schedule::new(&config, 1.0, 10);
            (6..=10).map(|step| schedule.lr(step)).collect::<Vec<_>>()
        };
        near(&of(DecayShape::Linear), &[1.0, 0.75, 0.5, 0.25, 0.0]);
        near(&of(DecayShape::Sqrt), &[1.0, 0.5, 1.0 - 0.5f64.sqrt(), 1.0 - 0.75f64.sqrt(), 0.0]);
        near(&of(DecayShape::Cosine)[2..], &[0.5, (1.0 - 0.5f64.sqrt()) / 2.0, 0.0]);
    }

    #[test]
    fn a_run_without_an_end_cools_down_once_it_has_one() {
        let config = ScheduleConfig { kind: ScheduleKind::Wsd, warmup_steps: 2, ..Default::default() };
        let open = Schedule::new(&config, 1.0, 10).endless();
        near(&[1, 2, 10, 1_000_000].map(|step| open.lr(step)), &[0.5, 1.0, 1.0, 1.0]);
        let ended = open.with_cooldown(Cooldown { from: 20, last: 24 });
        near(&[20, 21, 22, 23, 24, 25].map(|step| ended.lr(step)), &[1.0, 0.75, 0.5, 0.25, 0.0, 0.0]);
    }

    #[test]
    fn weight_decay_has_its_own_schedule() {
        let of = |weight_decay: DecayPath| {
            let config = ScheduleConfig { kind: ScheduleKind::Linear, weight_decay, ..Default::default() };
            let schedule = Schedule::new(&config, 0.5, 4);
            (1..=4).map(|step| schedule.decay_factor(step)).collect::<Vec<_>>()
        };
        near(&of(DecayPath::Constant), &[1.0; 4]);
        near(&of(DecayPath::FollowLr), &[0.75, 0.5, 0.25, 0.0]);
        near(&of(DecayPath::Cosine)[1..], &[0.5, (1.0 - 0.5f64.sqrt()) / 2.0, 0.0]);
    }

    #[test]
    fn total_steps_may_exceed_the_run() {
        let config =
            |total_steps| ScheduleConfig { kind: ScheduleKind::Cosine, total_steps, ..Default::default() };
        let short = Schedule::new(&config(Some(60)), 1.0, 20);
        let long = Schedule::new(&config(None), 1.0, 60);
        assert!((1..=60).all(|step| short.lr(step) == long.lr(step)));
    }
}

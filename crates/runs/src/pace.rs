//! The pace of a run: its expected duration, and where the cooldown of a time-limited run begins.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use vulpes_trainer::{Cooldown, ScheduleKind};

use crate::human::{duration, operations, thousands};
use crate::plan::Plan;

/// Steps over which the pace is averaged.
const WINDOW: usize = 64;
/// Steps after which the expected time is reported, …
const FIRST: u64 = 5;
/// … if together they took this long, …
const LONG_ENOUGH: Duration = Duration::from_secs(2);
/// … and the run takes longer than this.
const LONG_RUN: Duration = Duration::from_secs(30);

/// The times of a run's steps and evaluations.
pub(crate) struct Pace {
    /// Seconds of work before this process resumed the run.
    before: f64,
    began: Instant,
    n_steps: u64,
    recent: VecDeque<f64>,
    evaluation: f64,
    told: bool,
}

impl Pace {
    /// A pace after `before` seconds of earlier work; this process began at `began`.
    pub(crate) fn new(before: f64, began: Instant) -> Self {
        Self { before, began, n_steps: 0, recent: VecDeque::new(), evaluation: 0.0, told: false }
    }

    /// Records a step.
    pub(crate) fn step(&mut self, took: Duration) {
        self.n_steps += 1;
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back(took.as_secs_f64());
    }

    /// Records an evaluation.
    pub(crate) fn evaluation(&mut self, took: Duration) {
        self.evaluation = took.as_secs_f64();
    }

    /// Seconds per step, including its share of the evaluations.
    fn per_step(&self, eval_every: u64) -> f64 {
        let step = self.recent.iter().sum::<f64>() / self.recent.len().max(1) as f64;
        let evaluation = if eval_every > 0 { self.evaluation / eval_every as f64 } else { 0.0 };
        (step + evaluation).max(1e-9)
    }

    /// The message about the expected duration of the run, once.
    pub(crate) fn expected(&mut self, plan: &Plan, step: u64) -> Option<String> {
        if self.told || self.n_steps < FIRST || self.began.elapsed() < LONG_ENOUGH {
            return None;
        }
        self.told = true;
        let train = &plan.config.train;
        let each = self.per_step(train.eval_every);
        let all = each * train.steps as f64;
        let whole = train.budget_minutes.map_or(all, |minutes| all.min(60.0 * minutes));
        let left =
            Duration::try_from_secs_f64((whole - each * step as f64).max(0.0)).unwrap_or(Duration::MAX);
        (left > LONG_RUN).then(|| {
            format!(
                "expected    {} steps in {}, {each:.2} s each; {}",
                thousands((whole / each).round()),
                duration(left),
                operations(plan.flops_per_token() * plan.tokens_per_step() as f64 * whole / each)
            )
        })
    }

    /// The cooldown of a run with a time budget, after `step`, once it is due.
    pub(crate) fn cooldown(&self, plan: &Plan, step: u64) -> Option<Cooldown> {
        let (train, schedule) = (&plan.config.train, &plan.config.schedule);
        let budget = 60.0 * train.budget_minutes?;
        let spent = self.before + self.began.elapsed().as_secs_f64();
        let each = self.per_step(train.eval_every);
        // A run ends with an evaluation.
        let left = budget - spent - self.evaluation;
        let (share, by_steps) = match (schedule.kind, schedule.decay_steps) {
            (ScheduleKind::Wsd, Some(steps)) => (each * steps as f64, steps),
            (ScheduleKind::Wsd, None) => {
                (budget * schedule.cooldown_share(), schedule.cooldown_steps(train.steps))
            }
            _ => (0.0, 0),
        };
        let steps_left = train.steps.saturating_sub(step);
        let in_time = (left.max(0.0) / each) as u64;
        let n = if left <= share {
            in_time.min(steps_left)
        } else if steps_left <= by_steps {
            steps_left
        } else {
            return None;
        };
        Some(Cooldown { from: step, last: step + n })
    }
}

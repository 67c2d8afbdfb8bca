//! Progress of a run: a bar on a terminal, otherwise occasional plain lines.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vulpes_runs::{Reporter, StepLine, duration, thousands};
use vulpes_trainer::Evaluation;

use super::life::Life;
use super::summary::perplexity_of;

/// Without a terminal, a line is printed about this many times per run, and at each evaluation.
const PLAIN_LINES: u64 = 20;

/// Writes a line to standard error, ignoring errors.
macro_rules! say {
    ($($words:tt)*) => {{
        let _ = writeln!(std::io::stderr().lock(), $($words)*);
    }};
}

/// A run's progress on standard error.
pub(crate) struct Progress {
    quiet: bool,
    /// When a run with a time budget must be over.
    until: Option<Instant>,
    /// `None` before the run begins, and with `quiet`.
    shown: Option<Shown>,
}

struct Shown {
    bar: ProgressBar,
    /// Without a terminal: the number of steps between lines.
    plain_every: Option<u64>,
    first_step: u64,
    steps: u64,
    since: Instant,
    /// When the run must be over, as long as its last step isn't decided.
    until: Option<Instant>,
    val_loss: Option<f64>,
    life: Life,
}

impl Progress {
    /// Progress of a run that hasn't begun; only warnings with `quiet`.
    ///
    /// `budget_minutes` are those that the run may take from now on, if limited.
    pub(crate) fn new(quiet: bool, budget_minutes: Option<f64>) -> Self {
        let minutes = budget_minutes.and_then(|minutes| Duration::try_from_secs_f64(60.0 * minutes).ok());
        Self { quiet, until: minutes.and_then(|minutes| Instant::now().checked_add(minutes)), shown: None }
    }
}

impl Reporter for Progress {
    fn begin(&mut self, first_step: u64, steps: u64) {
        if self.quiet {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr_with_hz(8));
        let plain_every = bar.is_hidden().then(|| (steps / PLAIN_LINES).max(1));
        if let Ok(style) = ProgressStyle::with_template("{bar:16} {pos}/{len} {wide_msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_position(first_step);
        let since = Instant::now();
        let life = Life::watch(first_step, steps, plain_every.is_none().then(|| bar.clone()));
        let until = self.until;
        self.shown = Some(Shown { bar, plain_every, first_step, steps, since, until, val_loss: None, life });
    }

    fn ends_at(&mut self, step: u64) {
        let Some(shown) = &mut self.shown else { return };
        (shown.steps, shown.until) = (step, None);
        shown.plain_every = shown.plain_every.map(|_| (step / PLAIN_LINES).max(1));
        shown.bar.set_length(step);
    }

    fn step(&mut self, line: &StepLine) {
        let Some(shown) = &mut self.shown else { return };
        shown.life.step(line.step);
        match shown.plain_every {
            None => {
                shown.bar.set_message(shown.summary(line));
                shown.bar.set_position(line.step);
            }
            Some(every) if line.step.is_multiple_of(every) || line.step == shown.steps => {
                say!("step {}/{}  {}", line.step, shown.steps, shown.summary(line));
            }
            Some(_) => {}
        }
    }

    fn evaluation(&mut self, step: u64, found: &Evaluation) {
        let Some(shown) = &mut self.shown else { return };
        shown.val_loss = Some(found.loss);
        if shown.plain_every.is_some() {
            let mut words = format!("step {step}/{}  validation loss {:.4}", shown.steps, found.loss);
            if let Some(perplexity) = found.perplexity {
                let _ = write!(words, "  perplexity {}", perplexity_of(perplexity));
            }
            if let Some(accuracy) = found.accuracy {
                let _ = write!(words, "  accuracy {accuracy:.4}");
            }
            if let Some(macro_f1) = found.macro_f1 {
                let _ = write!(words, "  macro-F1 {macro_f1:.4}");
            }
            if let Some(recall) = found.recall_at_1 {
                let _ = write!(words, "  recall@1 {recall:.4}");
            }
            say!("{words}");
        }
    }

    fn say(&mut self, words: &str) {
        match &self.shown {
            Some(shown) if shown.plain_every.is_none() => shown.bar.suspend(|| say!("{words}")),
            Some(_) => say!("{words}"),
            None => {}
        }
    }

    fn warn(&mut self, words: &str) {
        let words = format!("warning: {words}");
        match &self.shown {
            Some(shown) if shown.plain_every.is_none() => shown.bar.suspend(|| say!("{words}")),
            _ => say!("{words}"),
        }
    }

    fn finish(&mut self) {
        if let Some(Shown { bar, life, .. }) = self.shown.take() {
            drop(life);
            bar.finish_and_clear();
        }
    }
}

impl Shown {
    fn summary(&self, line: &StepLine) -> String {
        let mut words = format!("loss {:.4}", line.loss);
        if let Some(val_loss) = self.val_loss {
            let _ = write!(words, "  val {val_loss:.4}");
        }
        let _ = write!(words, "  {} tokens/s", thousands(line.tokens_per_s));
        let done = line.step.saturating_sub(self.first_step);
        if done > 0 && line.step < self.steps {
            let each = self.since.elapsed().as_secs_f64() / done as f64;
            let left = Duration::from_secs_f64(each * (self.steps - line.step) as f64);
            let of_budget = self.until.map(|until| until.saturating_duration_since(Instant::now()));
            let left = of_budget.map_or(left, |of_budget| of_budget.min(left));
            let _ = write!(words, "  {} left", duration(left));
        }
        words
    }
}

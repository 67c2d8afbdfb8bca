//! Progress while a large corpus is read, counted and tokenized: a bar, or plain lines without a terminal.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};
use vulpes_data::{Progress, Stage};

/// Smaller corpora are done before a bar could be read.
const SHOWN_FROM_BYTES: u64 = 16 << 20;

/// The interval of plain lines.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Shows the progress of the data's preparation.
pub(crate) struct Reading {
    shown: Option<Mutex<Option<Shown>>>,
}

/// A stage in progress.
struct Shown {
    stage: Stage,
    bar: ProgressBar,
    since: Instant,
    /// When the last plain line was printed.
    said: Instant,
}

impl Reading {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { shown: (!quiet).then(|| Mutex::new(None)) }
    }

    pub(crate) fn finish(&self) {
        if let Some(Ok(mut shown)) = self.shown.as_ref().map(Mutex::lock)
            && let Some(shown) = shown.take()
        {
            shown.bar.finish_and_clear();
        }
    }
}

impl Progress for Reading {
    fn report(&self, stage: Stage, done: u64, total: u64) {
        let Some(Ok(mut shown)) = self.shown.as_ref().map(Mutex::lock) else { return };
        if stage == Stage::Wait {
            let _ = writeln!(std::io::stderr().lock(), "{stage}");
        }
        if stage == Stage::Wait || total < SHOWN_FROM_BYTES {
            return;
        }
        if shown.as_ref().is_none_or(|shown| shown.stage != stage) {
            if let Some(before) = shown.take() {
                before.bar.finish_and_clear();
            }
            *shown = Some(Shown::new(stage, total));
        }
        if let Some(shown) = shown.as_mut() {
            shown.at(done, total);
        }
    }
}

impl Shown {
    fn new(stage: Stage, total: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(8));
        if let Ok(style) = ProgressStyle::with_template(
            "{bar:24} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left: {msg}",
        ) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(stage.to_string());
        let now = Instant::now();
        Self { stage, bar, since: now, said: now }
    }

    fn at(&mut self, done: u64, total: u64) {
        self.bar.set_position(done);
        if !self.bar.is_hidden() || (self.said.elapsed() < PLAIN_EVERY && done < total) {
            return;
        }
        self.said = Instant::now();
        let seconds = self.since.elapsed().as_secs_f64().max(1e-3);
        let rate = done as f64 / seconds;
        let left = (total.saturating_sub(done)) as f64 / rate.max(1.0);
        let _ = writeln!(
            std::io::stderr().lock(),
            "{}: {} of {}, {}/s, {left:.0} s left",
            self.stage,
            HumanBytes(done),
            HumanBytes(total),
            HumanBytes(rate as u64)
        );
    }
}

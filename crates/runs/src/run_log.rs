//! What a run writes and shows besides its checkpoints: metrics, event file, loss plot, reports.

use std::path::PathBuf;

use vulpes_trainer::{Cooldown, Evaluation};

use crate::error::{Error, Result};
use crate::metrics::{Curves, Metrics, StepLine};
use crate::plot::loss_svg;
use crate::reporter::Reporter;
use crate::run_folder::{RunFolder, unix_secs};
use crate::tensorboard::EventWriter;

/// The run's metrics, event file and reporter.
pub(crate) struct RunLog<'a> {
    pub(crate) metrics: Metrics,
    events: EventWriter,
    curves: Curves,
    pub(crate) reporter: &'a mut dyn Reporter,
    title: String,
    svg: PathBuf,
}

impl<'a> RunLog<'a> {
    /// Opens the run's metrics, cut back to `step` of `last`, and a new event file.
    ///
    /// # Errors
    /// Returns an error if a file operation fails.
    pub(crate) fn open(
        folder: &RunFolder,
        (step, last): (u64, u64),
        reporter: &'a mut dyn Reporter,
    ) -> Result<Self> {
        let dir = folder.path();
        let metrics =
            Metrics::open(dir, step).map_err(|source| Error::io("open the metrics of", dir, source))?;
        let next = if step == 0 { 0 } else { step + 1 };
        let events = EventWriter::create(dir, unix_secs(), next)
            .map_err(|source| Error::io("open the event file of", dir, source))?;
        reporter.begin(step, last);
        let name = dir.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
        Ok(Self {
            metrics,
            events,
            curves: Curves::read(dir),
            reporter,
            title: format!("{name}: loss"),
            svg: dir.join("loss.svg"),
        })
    }

    /// The first loss in the run's metrics.
    pub(crate) fn first_loss(&self) -> Option<f64> {
        self.curves.train.first().map(|(_, loss)| *loss)
    }

    /// Reports that the cooldown begins, and its length.
    pub(crate) fn ends(&mut self, Cooldown { from, last }: Cooldown) {
        self.reporter.ends_at(last);
        self.reporter.say(&format!(
            "cooldown after step {from}, to step {last}: the budget (train.budget_minutes) leaves time for {} more",
            last - from
        ));
    }

    /// Shows a step, and logs it if `log` is set.
    ///
    /// # Errors
    /// Returns an error if a file operation fails; nothing was written then, and it can be retried.
    pub(crate) fn step(&mut self, line: &StepLine, log: bool) -> std::io::Result<()> {
        self.reporter.step(line);
        if !log {
            return Ok(());
        }
        let scalars = [
            ("train/loss", line.loss),
            ("train/learning_rate", line.lr),
            ("train/grad_norm", line.grad_norm),
            ("perf/tokens_per_second", line.tokens_per_s),
            ("perf/data_wait_ms", line.data_wait_ms),
        ];
        self.metrics.all_or_nothing(|metrics| {
            metrics.step(line)?;
            self.events.scalars(unix_secs(), line.step, &scalars)
        })?;
        self.curves.train.push((line.step, line.loss));
        self.curves.tokens.insert(line.step, line.tokens);
        Ok(())
    }

    /// Shows an evaluation and logs it.
    ///
    /// # Errors
    /// As [`RunLog::step`].
    pub(crate) fn evaluation(&mut self, step: u64, tokens: u64, found: &Evaluation) -> std::io::Result<()> {
        self.reporter.evaluation(step, found);
        let mut scalars = vec![("eval/loss", found.loss)];
        scalars.extend(found.perplexity.map(|value| ("eval/perplexity", value)));
        scalars.extend(found.accuracy.map(|value| ("eval/accuracy", value)));
        scalars.extend(found.macro_f1.map(|value| ("eval/macro_f1", value)));
        scalars.extend(found.recall_at_1.map(|value| ("eval/recall_at_1", value)));
        self.metrics.all_or_nothing(|metrics| {
            metrics.evaluation(step, tokens, found)?;
            self.events.scalars(unix_secs(), step, &scalars)
        })?;
        self.curves.validation.push((step, found.loss));
        self.curves.tokens.insert(step, tokens);
        Ok(())
    }

    /// Draws the losses so far.
    ///
    /// # Errors
    /// Returns an error if a file operation fails; the plot is then the previous one.
    pub(crate) fn draw(&self) -> std::io::Result<()> {
        let temporary = self.svg.with_file_name(".tmp-loss.svg");
        let [train, validation] =
            [&self.curves.train, &self.curves.validation].map(|points| self.curves.over_tokens(points));
        let picture = loss_svg(&self.title, &train, &validation, &self.curves.tokens);
        let drawn = std::fs::write(&temporary, picture).and_then(|()| std::fs::rename(&temporary, &self.svg));
        drawn.inspect_err(|_| {
            let _ = std::fs::remove_file(&temporary);
        })
    }
}

//! Writes and shows a run, on its first process; the other processes have no writer and write nothing.

use std::time::{Duration, Instant};

use vulpes_generate::Film;
use vulpes_trainer::{Evaluation, State};

use crate::begin::FitOptions;
use crate::config::OnFullDisk;
use crate::error::{Error, Result};
use crate::metrics::StepLine;
use crate::plan::Plan;
use crate::run_folder::RunFolder;
use crate::run_log::RunLog;
use crate::samples;
use crate::save;
use crate::session::{Collected, Session};

/// Pause before a full disk is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);
/// The longest delay until a waiting run notices a signal.
const NAP: Duration = Duration::from_millis(50);

/// The run's folder with its open files.
pub(crate) struct RunWriter<'a> {
    plan: &'a Plan,
    options: &'a FitOptions<'a>,
    folder: RunFolder,
    pub(crate) log: RunLog<'a>,
    film: Option<Film>,
}

impl<'a> RunWriter<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        options: &'a FitOptions<'a>,
        folder: RunFolder,
        log: RunLog<'a>,
    ) -> Self {
        Self { plan, options, folder, log, film: None }
    }

    /// Opens the run's film, if the config requests one, and writes its first frame.
    pub(crate) fn open_film(&mut self, session: &Session<'_>) -> Result<()> {
        let (train, step) = (&self.plan.config.train, session.training.state.step);
        if !train.film {
            return Ok(());
        }
        let Some(tokenizer) = self.plan.dataset.tokenizer() else {
            return Err(Error::Usage(
                "train.film needs a tokenizer, which synthetic ids don't have".to_owned(),
            ));
        };
        let path = self.folder.path();
        self.film = Some(Film::open(path, &train.probes, tokenizer, session.transformer(), step)?);
        if step == 0 { self.record(session, None) } else { Ok(()) }
    }

    /// Shows a step, and logs it if `log` is set.
    pub(crate) fn step(&mut self, line: &StepLine, log: bool) -> Result<()> {
        self.retrying(|writer| Ok(writer.log.step(line, log)?))
    }

    /// Shows an evaluation and logs it.
    pub(crate) fn evaluation(&mut self, state: &State, found: &Evaluation) -> Result<()> {
        self.retrying(|writer| Ok(writer.log.evaluation(state.step, state.tokens, found)?))
    }

    /// Continues the prompts of `train.prompts` and logs the results.
    pub(crate) fn sample(&mut self, session: &Session<'_>) -> Result<()> {
        let plan = self.plan;
        if plan.config.train.prompts.is_empty() {
            return Ok(());
        }
        let samples = samples::of(plan, session)?;
        for (prompt, text) in &samples {
            self.log.reporter.say(&format!("{prompt:?} → {text:?}"));
        }
        let step = session.training.state.step;
        self.retrying(|writer| samples::write(writer.folder.path(), step, &samples))
    }

    /// Writes a frame of the film.
    pub(crate) fn frame(&mut self, session: &Session<'_>, val_loss: Option<f64>) -> Result<()> {
        self.retrying(|writer| writer.record(session, val_loss))
    }

    /// Saves a checkpoint and draws the losses so far.
    pub(crate) fn save(&mut self, session: &Session<'_>, collected: &Collected) -> Result<()> {
        self.retrying(|writer| {
            save::save(session, collected, &writer.folder, &writer.log, writer.options.files)
        })?;
        self.retrying(|writer| Ok(writer.log.draw()?))
    }

    /// Writes the final model to the run's `model/`.
    pub(crate) fn publish(&mut self, session: &Session<'_>) -> Result<()> {
        self.retrying(|writer| save::publish(session, &writer.folder, writer.options.files))
    }

    fn record(&self, session: &Session<'_>, val_loss: Option<f64>) -> Result<()> {
        match (&self.film, self.plan.dataset.tokenizer()) {
            (Some(film), Some(tokenizer)) => {
                Ok(film.record(session.transformer(), tokenizer, session.training.state.step, val_loss)?)
            }
            _ => Ok(()),
        }
    }

    /// Does `work`; on a full disk, warns and tries again if the config says so.
    fn retrying(&mut self, mut work: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        let mut told = false;
        loop {
            let error = match work(self) {
                Ok(()) => return Ok(()),
                Err(Error::BareIo(source)) => Error::io("write to", self.folder.path(), source),
                Err(error) => error,
            };
            if !error.is_full_disk() {
                return Err(error);
            }
            if self.plan.config.train.on_full_disk == OnFullDisk::Stop {
                return Err(Error::FullDisk { cause: Box::new(error) });
            }
            if !told {
                let message = format!("{error}; waiting for space (train.on_full_disk = \"wait\")");
                self.log.reporter.warn(&message);
                told = true;
            }
            let until = Instant::now() + FULL_DISK_PAUSE;
            while Instant::now() < until {
                if (self.options.stop)(0).is_some() {
                    // No space for a checkpoint of this step: a resume starts from the previous one.
                    return Err(error);
                }
                std::thread::sleep(NAP);
            }
        }
    }
}

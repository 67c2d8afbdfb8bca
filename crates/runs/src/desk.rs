//! Where a run is written down and shown: on its first process. The others have no desk, and write nothing.

use std::time::{Duration, Instant};

use vulpes_generate::Film;
use vulpes_trainer::{Evaluation, State};

use crate::begin::FitOptions;
use crate::config::OnFullDisk;
use crate::error::{Error, Result};
use crate::keep;
use crate::metrics::StepLine;
use crate::plan::Plan;
use crate::run_folder::RunFolder;
use crate::session::{Collected, Session};
use crate::watch::Watch;

/// How long a run waits before it tries a full disk again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);
/// How long it may be until a waiting run hears a signal.
const NAP: Duration = Duration::from_millis(50);

/// The run's folder with all that is open in it.
pub(crate) struct Desk<'a> {
    plan: &'a Plan,
    options: &'a FitOptions<'a>,
    folder: RunFolder,
    pub(crate) watch: Watch<'a>,
    film: Option<Film>,
}

impl<'a> Desk<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        options: &'a FitOptions<'a>,
        folder: RunFolder,
        watch: Watch<'a>,
    ) -> Self {
        Self { plan, options, folder, watch, film: None }
    }

    /// Opens the film of the run, where the config wants one, with its frame of the beginning.
    pub(crate) fn open_film(&mut self, session: &Session<'_>) -> Result<()> {
        let (train, step) = (&self.plan.config.train, session.training.state.step);
        if !train.film {
            return Ok(());
        }
        let Some(tokenizer) = self.plan.dataset.tokenizer() else {
            return Err(Error::Usage(
                "train.film needs a tokenizer, which made-up ids don't have".to_owned(),
            ));
        };
        let path = self.folder.path();
        self.film = Some(Film::open(path, &train.probes, tokenizer, session.transformer(), step)?);
        if step == 0 { self.record(session, None) } else { Ok(()) }
    }

    /// Shows a step, and writes it down if `log` says so.
    pub(crate) fn step(&mut self, line: &StepLine, log: bool) -> Result<()> {
        self.retrying(|desk| Ok(desk.watch.step(line, log)?))
    }

    /// Shows an evaluation and writes it down.
    pub(crate) fn evaluation(&mut self, state: &State, found: &Evaluation) -> Result<()> {
        self.retrying(|desk| Ok(desk.watch.evaluation(state.step, state.tokens, found)?))
    }

    /// Keeps a frame of the film.
    pub(crate) fn frame(&mut self, session: &Session<'_>, val_loss: Option<f64>) -> Result<()> {
        self.retrying(|desk| desk.record(session, val_loss))
    }

    /// Saves a checkpoint, and draws the losses so far.
    pub(crate) fn save(&mut self, session: &Session<'_>, collected: &Collected) -> Result<()> {
        self.retrying(|desk| keep::save(session, collected, &desk.folder, &desk.watch, desk.options.files))?;
        self.retrying(|desk| Ok(desk.watch.draw()?))
    }

    /// Puts the model where the run's user looks for it.
    pub(crate) fn publish(&mut self, session: &Session<'_>) -> Result<()> {
        self.retrying(|desk| keep::publish(session, &desk.folder, desk.options.files))
    }

    fn record(&self, session: &Session<'_>, val_loss: Option<f64>) -> Result<()> {
        match (&self.film, self.plan.dataset.tokenizer()) {
            (Some(film), Some(tokenizer)) => {
                Ok(film.record(session.transformer(), tokenizer, session.training.state.step, val_loss)?)
            }
            _ => Ok(()),
        }
    }

    /// Does `work`; on a full disk says so, and tries again where the config wants that.
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
                let words = format!("{error}; waiting for room (train.on_full_disk = \"wait\")");
                self.watch.reporter.warn(&words);
                told = true;
            }
            let until = Instant::now() + FULL_DISK_PAUSE;
            while Instant::now() < until {
                if (self.options.stop)(0).is_some() {
                    // There is no room for a checkpoint of this step: the one before it is what a resume begins with.
                    return Err(error);
                }
                std::thread::sleep(NAP);
            }
        }
    }
}

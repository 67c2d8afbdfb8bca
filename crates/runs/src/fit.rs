//! The loop: batch, step, metrics, evaluation, checkpoint, until the last step or until asked to stop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use vulpes_data::{Batch, Batches, ObjectiveKind, Rank};
use vulpes_generate::Film;
use vulpes_trainer::{Best, Evaluation, StepNumbers};

use crate::begin::{FitOptions, begin};
use crate::config::OnFullDisk;
use crate::divergence::Divergence;
use crate::error::{Error, Result};
use crate::failed_step;
use crate::keep::{publish, save};
use crate::metrics::StepLine;
use crate::plan::Plan;
use crate::reporter::Reporter;
use crate::run_folder::{RunFolder, holds_run};
use crate::session::Session;
use crate::watch::Watch;

/// How long a run waits before it tries a full disk again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);
/// How long it may be until a waiting run hears a signal.
const NAP: Duration = Duration::from_millis(50);

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// The last step done.
    pub step: u64,
    /// The loss of the last step; absent where no step was left to do.
    pub loss: Option<f64>,
    /// The last evaluation.
    pub evaluation: Option<Evaluation>,
    /// The best validation loss and its step.
    pub best: Option<Best>,
    /// Steps whose update was dropped.
    pub skipped_steps: u64,
    /// Seconds of work, pauses left out.
    pub elapsed_s: f64,
    /// The digest of the final state.
    pub digest: String,
    /// The exit code of the signal that stopped the run.
    pub stopped: Option<u8>,
    /// What there is to say of a run that diverges at its end.
    pub diverged: Option<String>,
}

/// Trains as `plan` says, in the run's folder, and tells `reporter` of it.
///
/// # Errors
/// Before the first step: the folder is in use or holds another run, the checkpoint is damaged, the config changed.
/// Later: an operation fails, the numbers go wrong, the disk is full. What is whole on the disk stays whole.
pub fn fit(plan: &Plan, options: &FitOptions<'_>, reporter: &mut dyn Reporter) -> Result<Summary> {
    let dir = plan.run_dir.as_path();
    if options.resume && !dir.is_dir() {
        return Err(Error::NoRun { path: dir.to_path_buf() });
    }
    if !options.resume
        && !options.overwrite
        && let Some(detail) = holds_run(dir)
    {
        return Err(Error::RunExists { path: dir.to_path_buf(), detail });
    }
    let folder = RunFolder::open(dir)?;
    let (mut session, notes) = begin(plan, &folder, options)?;
    let first_step = session.training.state.step;
    let mut watch = Watch::open(plan, &folder, first_step, reporter)?;
    notes.told.iter().for_each(|note| watch.reporter.say(note));
    notes.warnings.iter().for_each(|warning| watch.reporter.warn(warning));
    plan.warnings.iter().for_each(|warning| watch.reporter.warn(warning));
    let finished = run(&mut session, &folder, &mut watch, options);
    watch.reporter.finish();
    let Finished { loss, evaluation, stopped, diverged } = finished?;
    retrying(plan, &mut watch, options, dir, |_| publish(&session, &folder, options.files))?;
    Ok(Summary {
        run: dir.to_path_buf(),
        step: session.training.state.step,
        loss,
        evaluation,
        best: session.training.state.best,
        skipped_steps: session.training.state.skipped_steps,
        elapsed_s: session.training.state.elapsed_secs,
        // The last thing a run does, however it ends, is to save.
        digest: session.training.state.digest.clone(),
        stopped,
        diverged,
    })
}

/// How the loop ended.
struct Finished {
    loss: Option<f64>,
    evaluation: Option<Evaluation>,
    stopped: Option<u8>,
    diverged: Option<String>,
}

fn run(
    session: &mut Session<'_>,
    folder: &RunFolder,
    watch: &mut Watch<'_>,
    options: &FitOptions<'_>,
) -> Result<Finished> {
    let plan = session.plan();
    let train = &plan.config.train;
    let mut batches =
        Batches::new(plan.dataset.clone(), session.training.state.cursor, train.batch_rows, Rank::default());
    let film = film(session, folder)?;
    let mut divergence = Divergence::new(n_answers(plan), watch.first_loss());
    let mut loss = None;
    let mut evaluation = None;
    let before = session.training.state.elapsed_secs;
    let began = Instant::now();
    while session.training.state.step < train.steps {
        let step_began = Instant::now();
        let micro: Vec<Batch> =
            (0..train.accumulate).map(|_| batches.next_batch()).collect::<vulpes_data::Result<_>>()?;
        let waited = step_began.elapsed();
        let numbers = match session.training.advance(&micro)? {
            Ok(numbers) => numbers,
            Err(failed) => {
                return Err(failed_step::keep(session, &failed, &micro, folder.path(), options.files));
            }
        };
        session.training.state.cursor = batches.cursor();
        session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
        let step = session.training.state.step;
        let stopped = (options.stop)(step);
        let last = step == train.steps;
        let line = line(session, &numbers, step_began.elapsed(), waited);
        let log = last || step.is_multiple_of(train.log_every);
        retrying(plan, watch, options, folder.path(), |watch| Ok(watch.step(&line, log)?))?;
        loss = Some(numbers.loss.loss);
        divergence.step(numbers.loss.loss);
        divergence.news().iter().for_each(|words| watch.reporter.warn(&format!("step {step}: {words}")));
        let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
        let mut new_best = false;
        if due(train.eval_every) && plan.dataset.n_validation_rows() > 0 {
            let found = session.evaluate()?;
            new_best = note_evaluation(session, &found);
            let tokens = session.training.state.tokens;
            retrying(plan, watch, options, folder.path(), |watch| {
                Ok(watch.evaluation(step, tokens, &found)?)
            })?;
            retrying(plan, watch, options, folder.path(), |_| {
                frame(session, film.as_ref(), Some(found.loss))
            })?;
            evaluation = Some(found);
        } else if step.is_power_of_two() {
            retrying(plan, watch, options, folder.path(), |_| frame(session, film.as_ref(), None))?;
        }
        if due(train.checkpoint_every) || stopped.is_some() || (new_best && train.keep_best > 0) {
            session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
            retrying(plan, watch, options, folder.path(), |watch| {
                save(session, folder, watch, options.files)
            })?;
            retrying(plan, watch, options, folder.path(), |watch| Ok(watch.draw()?))?;
        }
        if stopped.is_some() {
            return Ok(Finished { loss, evaluation, stopped, diverged: divergence.words() });
        }
    }
    Ok(Finished { loss, evaluation, stopped: None, diverged: divergence.words() })
}

/// How many answers a target has.
fn n_answers(plan: &Plan) -> usize {
    let train = &plan.config.train;
    match plan.config.objective.kind() {
        // The second texts of the step.
        ObjectiveKind::Contrastive => train.batch_rows.saturating_mul(train.accumulate),
        _ => plan.model.head.n_labels().unwrap_or(plan.model.vocab_size),
    }
}

/// The film of the run, where the config wants one, with its frame of the beginning.
fn film(session: &Session<'_>, folder: &RunFolder) -> Result<Option<Film>> {
    let (plan, step) = (session.plan(), session.training.state.step);
    let train = &plan.config.train;
    if !train.film {
        return Ok(None);
    }
    let Some(tokenizer) = plan.dataset.tokenizer() else {
        return Err(Error::Usage("train.film needs a tokenizer, which made-up ids don't have".to_owned()));
    };
    let film = Film::open(folder.path(), &train.probes, tokenizer, session.transformer(), step)?;
    if step == 0 {
        frame(session, Some(&film), None)?;
    }
    Ok(Some(film))
}

/// Keeps a frame of the film.
fn frame(session: &Session<'_>, film: Option<&Film>, val_loss: Option<f64>) -> Result<()> {
    match (film, session.plan().dataset.tokenizer()) {
        (Some(film), Some(tokenizer)) => {
            Ok(film.record(session.transformer(), tokenizer, session.training.state.step, val_loss)?)
        }
        _ => Ok(()),
    }
}

fn line(session: &Session<'_>, numbers: &StepNumbers, took: Duration, waited: Duration) -> StepLine {
    let secs = took.as_secs_f64().max(1e-9);
    StepLine {
        step: session.training.state.step,
        loss: numbers.loss.loss,
        lr: numbers.lr,
        grad_norm: numbers.grad_norm,
        tokens: session.training.state.tokens,
        step_ms: secs * 1e3,
        data_wait_ms: waited.as_secs_f64() * 1e3,
        tokens_per_s: numbers.loss.n_tokens as f64 / secs,
        elapsed_s: session.training.state.elapsed_secs,
        skipped: numbers.skipped,
    }
}

/// Takes an evaluation into the state; whether it is the best so far.
fn note_evaluation(session: &mut Session<'_>, found: &Evaluation) -> bool {
    let state = &mut session.training.state;
    state.val_loss = Some(found.loss).filter(|loss| loss.is_finite());
    let better = found.loss.is_finite() && state.best.is_none_or(|best| found.loss < best.val_loss);
    if better {
        state.best = Some(Best { step: state.step, val_loss: found.loss });
    }
    better
}

/// Does `work`; on a full disk says so, and tries again where the config wants that.
fn retrying(
    plan: &Plan,
    watch: &mut Watch<'_>,
    options: &FitOptions<'_>,
    path: &Path,
    mut work: impl FnMut(&mut Watch<'_>) -> Result<()>,
) -> Result<()> {
    let mut told = false;
    loop {
        let error = match work(watch) {
            Ok(()) => return Ok(()),
            Err(Error::BareIo(source)) => Error::io("write to", path, source),
            Err(error) => error,
        };
        if !error.is_full_disk() {
            return Err(error);
        }
        if plan.config.train.on_full_disk == OnFullDisk::Stop {
            return Err(Error::FullDisk { cause: Box::new(error) });
        }
        if !told {
            watch.reporter.warn(&format!("{error}; waiting for room (train.on_full_disk = \"wait\")"));
            told = true;
        }
        let until = Instant::now() + FULL_DISK_PAUSE;
        while Instant::now() < until {
            if (options.stop)(0).is_some() {
                // There is no room for a checkpoint of this step: the one before it is what a resume begins with.
                return Err(error);
            }
            std::thread::sleep(NAP);
        }
    }
}

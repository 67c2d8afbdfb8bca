//! The loop: batch, step, metrics, evaluation, checkpoint, until the last step or until asked to stop.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use vulpes_data::{Batch, Batches, ObjectiveKind, Rank};
use vulpes_trainer::{Best, Evaluation, StepNumbers};

use crate::begin::{self, FitOptions, Notes, write_config};
use crate::checkpoint::Whole;
use crate::desk::Desk;
use crate::divergence::Divergence;
use crate::error::{Error, Result, agreed};
use crate::failed_step;
use crate::metrics::StepLine;
use crate::plan::Plan;
use crate::reporter::Reporter;
use crate::run_folder::{RunFolder, holds_run};
use crate::same_config::require_same;
use crate::session::Session;
use crate::watch::Watch;

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

/// Trains as `plan` says, in the run's folder, and tells `reporter` of it. Of several processes every one calls it; the
/// first alone writes, and tells its reporter.
///
/// # Errors
/// Before the first step: the processes were started with different configs, the folder is in use or holds another run,
/// the checkpoint is damaged, the config changed. Later: an operation fails, the numbers go wrong, the disk is full. What
/// is whole on the disk stays whole.
pub fn fit(plan: &Plan, options: &FitOptions<'_>, reporter: &mut dyn Reporter) -> Result<Summary> {
    let (dir, processes) = (plan.run_dir.as_path(), &plan.processes);
    require_same(plan)?;
    let opened = processes.is_first().then(|| open_folder(plan, options)).transpose();
    let (folder, found, notes) = match agreed(processes, opened)? {
        Some((folder, found, notes)) => (Some(folder), found, notes),
        None => (None, None, Notes::default()),
    };
    let (mut session, warnings) = begin::open(plan, found.as_ref())?;
    let desk = folder.map(|folder| -> Result<Desk<'_>> {
        write_config(dir, plan, options.files)?;
        let watch = Watch::open(plan, &folder, session.training.state.step, reporter)?;
        notes.told.iter().for_each(|note| watch.reporter.say(note));
        let warnings = notes.warnings.iter().chain(&warnings).chain(&plan.warnings);
        warnings.for_each(|warning| watch.reporter.warn(warning));
        Ok(Desk::new(plan, options, folder, watch))
    });
    let mut desk = agreed(processes, desk.transpose())?;
    let finished = run(&mut session, desk.as_mut(), options);
    if let Some(desk) = &mut desk {
        desk.watch.reporter.finish();
    }
    let Finished { loss, evaluation, stopped, diverged } = finished?;
    let published = desk.as_mut().map_or(Ok(()), |desk| desk.publish(&session));
    agreed(processes, published)?;
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

/// The run's folder, held by this process, and where the run begins.
fn open_folder(plan: &Plan, options: &FitOptions<'_>) -> Result<(RunFolder, Option<Whole>, Notes)> {
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
    let (found, notes) = begin::find(plan, &folder, options)?;
    Ok((folder, found, notes))
}

/// How the loop ended.
struct Finished {
    loss: Option<f64>,
    evaluation: Option<Evaluation>,
    stopped: Option<u8>,
    diverged: Option<String>,
}

/// The loop, on every process; what stands in `at_desk` happens where the run is written down.
fn run(
    session: &mut Session<'_>,
    mut desk: Option<&mut Desk<'_>>,
    options: &FitOptions<'_>,
) -> Result<Finished> {
    let plan = session.plan();
    let train = &plan.config.train;
    let mut batches =
        Batches::new(plan.dataset.clone(), session.training.state.cursor, train.batch_rows, Rank::default());
    let mut at_desk =
        |work: &mut dyn FnMut(&mut Desk<'_>) -> Result<()>| desk.as_deref_mut().map_or(Ok(()), work);
    at_desk(&mut |desk| desk.open_film(session))?;
    let mut first_loss = None;
    at_desk(&mut |desk| {
        first_loss = desk.watch.first_loss();
        Ok(())
    })?;
    let first_loss =
        plan.processes.from_first(&first_loss.map_or_else(Vec::new, |loss| loss.to_le_bytes().to_vec()))?;
    let first_loss = first_loss.first_chunk().map(|bytes| f64::from_le_bytes(*bytes));
    let mut divergence = Divergence::new(n_answers(plan), first_loss);
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
                return Err(failed_step::keep(session, &failed, &micro, &plan.run_dir, options.files));
            }
        };
        session.training.state.cursor = batches.cursor();
        session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
        let step = session.training.state.step;
        let stopped = asked_to_stop(plan, (options.stop)(step))?;
        let last = step == train.steps;
        let line = line(session, &numbers, step_began.elapsed(), waited);
        let log = last || step.is_multiple_of(train.log_every);
        at_desk(&mut |desk| desk.step(&line, log))?;
        loss = Some(numbers.loss.loss);
        divergence.step(numbers.loss.loss);
        if let Some(words) = divergence.news() {
            at_desk(&mut |desk| {
                desk.watch.reporter.warn(&format!("step {step}: {words}"));
                Ok(())
            })?;
        }
        let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
        let mut new_best = false;
        if due(train.eval_every) && plan.dataset.n_validation_rows() > 0 {
            let found = session.evaluate()?;
            new_best = note_evaluation(session, &found);
            at_desk(&mut |desk| {
                desk.evaluation(&session.training.state, &found)?;
                desk.frame(session, Some(found.loss))
            })?;
            evaluation = Some(found);
        } else if step.is_power_of_two() {
            at_desk(&mut |desk| desk.frame(session, None))?;
        }
        if due(train.checkpoint_every) || stopped.is_some() || (new_best && train.keep_best > 0) {
            session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
            let collected = session.collect()?;
            at_desk(&mut |desk| desk.save(session, &collected))?;
        }
        if stopped.is_some() {
            return Ok(Finished { loss, evaluation, stopped, diverged: divergence.words() });
        }
    }
    Ok(Finished { loss, evaluation, stopped: None, diverged: divergence.words() })
}

/// Whether any of the processes was asked to stop, and with which exit code: all stop after the same step.
fn asked_to_stop(plan: &Plan, own: Option<u8>) -> Result<Option<u8>> {
    if plan.processes.is_alone() {
        return Ok(own);
    }
    let said = plan.processes.first_said(own.map(|code| code.to_string()).as_deref())?;
    Ok(said.map(|(_, code)| code.parse().unwrap_or(1)))
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

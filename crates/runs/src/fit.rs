//! The training loop: batch, step, metrics, evaluation, checkpoint, until the last step or a stop request.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use vulpes_data::{Batches, ObjectiveKind, Rank};
use vulpes_trainer::{Best, Cooldown, Evaluation, StepNumbers};

use crate::begin::{self, FitOptions, Notes, write_config};
use crate::checkpoint::Whole;
use crate::config::Metric;
use crate::divergence::Divergence;
use crate::error::{Error, Result, agreed};
use crate::failed_step;
use crate::metrics::StepLine;
use crate::pace::Pace;
use crate::plan::Plan;
use crate::reporter::Reporter;
use crate::run_folder::{RunFolder, holds_run};
use crate::run_log::RunLog;
use crate::run_writer::RunWriter;
use crate::same_config::require_same;
use crate::session::Session;

/// How a run ended.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run's folder.
    pub run: PathBuf,
    /// The last completed step.
    pub step: u64,
    /// The loss of the last step; `None` if no step was left to do.
    pub loss: Option<f64>,
    /// The last evaluation.
    pub evaluation: Option<Evaluation>,
    /// The best validation loss and its step.
    pub best: Option<Best>,
    /// Steps whose update was dropped.
    pub skipped_steps: u64,
    /// Seconds of work, without pauses.
    pub elapsed_s: f64,
    /// Tokens read.
    pub tokens: u64,
    /// Floating-point operations used ([`Plan::flops_per_token`]).
    pub flops: f64,
    /// The digest of the final state.
    pub digest: String,
    /// The exit code of the signal that stopped the run.
    pub stopped: Option<u8>,
    /// The warning for a run that diverges at its end.
    pub diverged: Option<String>,
}

/// Trains as `plan` says, in the run's folder, and reports to `reporter`. Every one of several processes calls it; only
/// the first writes files and reports.
///
/// # Errors
/// Before the first step: the processes were started with different configs, the folder is in use or holds another run,
/// the checkpoint is damaged, the config changed. Later: an operation fails, a value is not finite, the disk is full.
/// Intact checkpoints stay intact.
pub fn fit(plan: &Plan, options: &FitOptions<'_>, reporter: &mut dyn Reporter) -> Result<Summary> {
    let (dir, processes) = (plan.run_dir.as_path(), &plan.processes);
    require_same(plan)?;
    let opened = processes.is_first().then(|| open_folder(plan, options)).transpose();
    let (folder, found, notes) = match agreed(processes, opened)? {
        Some((folder, found, notes)) => (Some(folder), found, notes),
        None => (None, None, Notes::default()),
    };
    let (mut session, warnings) = begin::open(plan, found.as_ref())?;
    let writer = folder.map(|folder| -> Result<RunWriter<'_>> {
        write_config(dir, plan, options.files)?;
        let log = RunLog::open(&folder, (session.training.state.step, last_step(&session)), reporter)?;
        notes.told.iter().for_each(|note| log.reporter.say(note));
        let warnings = notes.warnings.iter().chain(&warnings).chain(&plan.warnings);
        warnings.for_each(|warning| log.reporter.warn(warning));
        Ok(RunWriter::new(plan, options, folder, log))
    });
    let mut writer = agreed(processes, writer.transpose())?;
    let finished = run(&mut session, writer.as_mut(), options);
    if let Some(writer) = &mut writer {
        writer.log.reporter.finish();
    }
    let Finished { loss, evaluation, stopped, diverged } = finished?;
    let published = writer.as_mut().map_or(Ok(()), |writer| writer.publish(&session));
    agreed(processes, published)?;
    Ok(Summary {
        run: dir.to_path_buf(),
        step: session.training.state.step,
        loss,
        evaluation,
        best: session.training.state.best,
        skipped_steps: session.training.state.skipped_steps,
        elapsed_s: session.training.state.elapsed_secs,
        tokens: session.training.state.tokens,
        flops: session.training.state.tokens as f64 * plan.flops_per_token(),
        // A run saves last, however it ends.
        digest: session.training.state.digest.clone(),
        stopped,
        diverged,
    })
}

/// Opens and locks the run's folder, and finds where the run begins.
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

/// The loop, on every process; calls in `write` run on the first process alone.
fn run(
    session: &mut Session<'_>,
    mut writer: Option<&mut RunWriter<'_>>,
    options: &FitOptions<'_>,
) -> Result<Finished> {
    let plan = session.plan();
    let train = &plan.config.train;
    let mut batches =
        Batches::new(plan.dataset.clone(), session.training.state.cursor, train.batch_rows, Rank::default());
    let mut write =
        |work: &mut dyn FnMut(&mut RunWriter<'_>) -> Result<()>| writer.as_deref_mut().map_or(Ok(()), work);
    write(&mut |writer| writer.open_film(session))?;
    let mut first_loss = None;
    write(&mut |writer| {
        first_loss = writer.log.first_loss();
        Ok(())
    })?;
    let first_loss =
        plan.processes.from_first(&first_loss.map_or_else(Vec::new, |loss| loss.to_le_bytes().to_vec()))?;
    let first_loss = first_loss.first_chunk().map(|bytes| f64::from_le_bytes(*bytes));
    let mut divergence = Divergence::new(n_answers(plan), first_loss);
    let mut loss = None;
    let mut evaluation = None;
    if let Some(message) = ended_early(session) {
        write(&mut |writer| {
            writer.log.reporter.say(&message);
            Ok(())
        })?;
        return Ok(Finished { loss: None, evaluation: None, stopped: None, diverged: None });
    }
    let before = session.training.state.elapsed_secs;
    let began = Instant::now();
    let mut pace = Pace::new(before, plan.began);
    while session.training.state.step < last_step(session) {
        let step_began = Instant::now();
        let micro = plan.batches_of(session.training.state.step + 1, &mut batches)?;
        let waited = step_began.elapsed();
        let numbers = match session.training.advance(&micro) {
            Ok(numbers) => numbers,
            Err(vulpes_trainer::Error::FailedStep(failed)) => {
                return Err(failed_step::save(session, &failed, &micro, &plan.run_dir, options.files));
            }
            Err(error) => return Err(error.into()),
        };
        session.training.state.cursor = batches.cursor();
        session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
        let step = session.training.state.step;
        let stopped = asked_to_stop(plan, (options.stop)(step))?;
        pace.step(step_began.elapsed());
        if let Some(cooldown) = decided(session, &pace)? {
            session.training.end(cooldown);
            write(&mut |writer| {
                writer.log.ends(cooldown);
                Ok(())
            })?;
        }
        let last = step == last_step(session);
        let line = line(session, &numbers, step_began.elapsed(), waited);
        let log = last || step.is_multiple_of(train.log_every);
        write(&mut |writer| writer.step(&line, log))?;
        loss = Some(numbers.loss.loss);
        divergence.step(numbers.loss.loss);
        if let Some(message) = divergence.news() {
            write(&mut |writer| {
                writer.log.reporter.warn(&format!("step {step}: {message}"));
                Ok(())
            })?;
        }
        if let Some(message) = pace.expected(plan, step) {
            write(&mut |writer| {
                writer.log.reporter.say(&message);
                Ok(())
            })?;
        }
        let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
        let (mut new_best, mut early) = (false, None);
        if due(train.eval_every) && plan.dataset.n_validation_rows() > 0 {
            let evaluating = Instant::now();
            let found = session.evaluate()?;
            pace.evaluation(evaluating.elapsed());
            new_best = note_evaluation(session, &found);
            early = ended_early(session);
            write(&mut |writer| {
                writer.evaluation(&session.training.state, &found)?;
                writer.sample(session)?;
                writer.frame(session, Some(found.loss))
            })?;
            evaluation = Some(found);
        } else if step.is_power_of_two() {
            write(&mut |writer| writer.frame(session, None))?;
        }
        let ends = stopped.is_some() || early.is_some();
        if due(train.checkpoint_every) || ends || (new_best && train.keep_best > 0) {
            session.training.state.elapsed_secs = before + began.elapsed().as_secs_f64();
            let collected = session.collect()?;
            write(&mut |writer| writer.save(session, &collected))?;
        }
        if let Some(message) = &early {
            write(&mut |writer| {
                writer.log.reporter.say(message);
                Ok(())
            })?;
        }
        if ends {
            return Ok(Finished { loss, evaluation, stopped, diverged: divergence.message() });
        }
    }
    Ok(Finished { loss, evaluation, stopped: None, diverged: divergence.message() })
}

/// Whether any process was told to stop, and with which exit code: all stop after the same step.
fn asked_to_stop(plan: &Plan, own: Option<u8>) -> Result<Option<u8>> {
    if plan.processes.is_alone() {
        return Ok(own);
    }
    let said = plan.processes.first_said(own.map(|code| code.to_string()).as_deref())?;
    Ok(said.map(|(_, code)| code.parse().unwrap_or(1)))
}

/// The number of classes of a target.
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

/// Records an evaluation in the state; returns whether it is the best so far.
fn note_evaluation(session: &mut Session<'_>, found: &Evaluation) -> bool {
    let metric = session.plan().config.train.metric;
    let state = &mut session.training.state;
    state.val_loss = Some(found.loss).filter(|loss| loss.is_finite());
    let score = score(metric, found);
    let is_better = |best: Best| match (score, best.score) {
        (Some(own), Some(best)) => own > best,
        _ => found.loss < best.val_loss,
    };
    let better = found.loss.is_finite() && state.best.is_none_or(is_better);
    state.since_best = if better { 0 } else { state.since_best + 1 };
    if better {
        state.best = Some(Best { step: state.step, val_loss: found.loss, score });
    }
    better
}

/// The score of an evaluation, unless it is judged by its loss.
fn score(metric: Metric, found: &Evaluation) -> Option<f64> {
    match metric {
        Metric::Loss => None,
        Metric::Accuracy => found.accuracy,
        Metric::MacroF1 => found.macro_f1,
        Metric::RecallAt1 => found.recall_at_1,
    }
}

/// The last step of a run, as far as decided.
fn last_step(session: &Session<'_>) -> u64 {
    session.training.state.cooldown.map_or(session.plan().config.train.steps, |cooldown| cooldown.last)
}

/// The cooldown of a run with a time budget, once it is due: the first process's clock decides for all.
fn decided(session: &Session<'_>, pace: &Pace) -> Result<Option<Cooldown>> {
    let (plan, state) = (session.plan(), &session.training.state);
    if plan.config.train.budget_minutes.is_none() || state.cooldown.is_some() {
        return Ok(None);
    }
    let own = pace
        .cooldown(plan, state.step)
        .map_or_else(Vec::new, |cooldown| cooldown.last.to_le_bytes().to_vec());
    let last = plan.processes.from_first(&own)?;
    let last = last.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    Ok(last.map(|last| Cooldown { from: state.step, last }))
}

/// The message of a run that ends early: its validation loss is low enough, or has not improved for long enough.
fn ended_early(session: &Session<'_>) -> Option<String> {
    let (train, state) = (&session.plan().config.train, &session.training.state);
    if let (Some(wanted), Some(found)) = (train.until_loss, state.val_loss)
        && found <= wanted
    {
        return Some(format!(
            "ended at step {} of {}: validation loss {found:.4} (train.until_loss = {wanted})",
            state.step, train.steps
        ));
    }
    let patience = train.patience.filter(|patience| state.since_best >= *patience)?;
    let best = state.best.map_or(0, |best| best.step);
    Some(format!(
        "ended at step {} of {}: no better evaluation since step {best} (train.patience = {patience})",
        state.step, train.steps
    ))
}

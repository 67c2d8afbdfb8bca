//! The loop: batch, step, metrics, evaluation, checkpoint, until the last step or until asked to stop.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use vulpes_data::{Batch, Batches, Rank};
use vulpes_generate::Film;

use crate::checkpoint::files::Files;
use crate::checkpoint::{self, Best, folder_name};
use crate::config::OnFullDisk;
use crate::evaluate::{Evaluation, evaluate};
use crate::metrics::StepLine;
use crate::plan::Plan;
use crate::reporter::Reporter;
use crate::run_folder::{CONFIG, RunFolder, holds_run};
use crate::session::{Session, StepNumbers};
use crate::watch::Watch;
use crate::{Error, Result, doctor, resume};

/// How long a run waits before it tries a full disk again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(2);
/// How long it may be until a waiting run hears a signal.
const NAP: Duration = Duration::from_millis(50);

/// How a run is begun and watched.
pub struct FitOptions<'a> {
    /// Go on from the newest whole checkpoint, if there is a run.
    pub resume: bool,
    /// Keys that the command line sets, which a resumed run takes over whatever they were.
    pub explicit: Vec<String>,
    /// Asked after every step whether to stop, and with which exit code.
    pub stop: &'a dyn Fn(u64) -> Option<u8>,
    /// The file operations of saving.
    pub files: &'a dyn Files,
}

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
}

/// Trains as `plan` says, in the run's folder, and tells `reporter` of it.
///
/// # Errors
/// Before the first step: the folder is in use or holds another run, the checkpoint is damaged, the config changed.
/// Later: an operation fails, the numbers go wrong, the disk is full. What is whole on the disk stays whole.
pub fn fit(plan: &Plan, options: &FitOptions<'_>, reporter: &mut dyn Reporter) -> Result<Summary> {
    let dir = plan.run_dir.as_path();
    if !options.resume
        && let Some(detail) = holds_run(dir)
    {
        return Err(Error::RunExists { path: dir.to_path_buf(), detail });
    }
    let folder = RunFolder::open(dir)?;
    let (mut session, notes) = begin(plan, &folder, options)?;
    let first_step = session.state.step;
    let mut watch = Watch::open(plan, &folder, first_step, reporter)?;
    notes.told.iter().for_each(|note| watch.reporter.say(note));
    notes.warnings.iter().for_each(|warning| watch.reporter.warn(warning));
    plan.warnings.iter().for_each(|warning| watch.reporter.warn(warning));
    let finished = run(&mut session, &folder, &mut watch, options);
    watch.reporter.finish();
    let (loss, evaluation, stopped) = finished?;
    retrying(plan, &mut watch, options, dir, |_| publish(&session, &folder, options.files))?;
    Ok(Summary {
        run: dir.to_path_buf(),
        step: session.state.step,
        loss,
        evaluation,
        best: session.state.best,
        skipped_steps: session.state.skipped_steps,
        elapsed_s: session.state.elapsed_secs,
        // The last thing a run does, however it ends, is to save.
        digest: session.state.digest.clone(),
        stopped,
    })
}

/// What there is to say about where a run comes from.
#[derive(Default)]
struct Notes {
    told: Vec<String>,
    warnings: Vec<String>,
}

/// The run before its next step.
fn begin<'a>(plan: &'a Plan, folder: &RunFolder, options: &FitOptions<'_>) -> Result<(Session<'a>, Notes)> {
    let root = folder.checkpoints();
    checkpoint::clean(&root, options.files)?;
    let mut notes = Notes::default();
    let changes = match options.resume && holds_run(folder.path()).is_some() {
        true => resume::changes(folder.path(), &plan.config, &options.explicit)?,
        false => Vec::new(),
    };
    notes.told.extend(changes.iter().map(|change| format!("changed since the run began: {change}")));
    let session = if checkpoint::steps(&root).is_empty() {
        if options.resume && holds_run(folder.path()).is_some() {
            notes.told.push("no checkpoint yet: starting from the beginning".to_owned());
        }
        let (session, warnings) = Session::start(plan)?;
        notes.warnings.extend(warnings);
        session
    } else {
        let (mut whole, passed_over) = checkpoint::newest(&root)?;
        notes.warnings.extend(passed_over.iter().map(|error| format!("{error}; the one before it is used")));
        notes.told.push(format!("resuming after step {}", whole.state.step));
        let mark = plan.data_mark()?;
        if whole.state.data != mark {
            let insisted = options.explicit.iter().any(|key| key.starts_with("data."));
            if !insisted && !changes.iter().any(resume::Change::decides_rows) {
                let changes = "  the corpus itself: its sizes or rows are others\nput it back, or insist with --set data.train=…";
                return Err(Error::ConfigChanged {
                    path: folder.path().to_path_buf(),
                    changes: changes.to_owned(),
                });
            }
            notes.told.push("changed since the run began: the rows".to_owned());
            whole.state.data = mark;
        }
        Session::restore(plan, &whole)?
    };
    write_config(folder.path(), plan, options.files)?;
    Ok((session, notes))
}

/// Writes the resolved config, whole or not at all.
fn write_config(dir: &Path, plan: &Plan, files: &dyn Files) -> Result<()> {
    let text = plan
        .config
        .to_toml()
        .map_err(|error| Error::Usage(format!("the config has no TOML form: {error}")))?;
    let (temporary, target) = (dir.join(".tmp-config"), dir.join(CONFIG));
    let written = files
        .write(&temporary, text.as_bytes())
        .and_then(|()| files.sync(&temporary))
        .and_then(|()| files.rename(&temporary, &target))
        .and_then(|()| files.sync(dir));
    written.map_err(|source| Error::io("write", &target, source))
}

type Finished = (Option<f64>, Option<Evaluation>, Option<u8>);

fn run(
    session: &mut Session<'_>,
    folder: &RunFolder,
    watch: &mut Watch<'_>,
    options: &FitOptions<'_>,
) -> Result<Finished> {
    let plan = session.plan();
    let train = &plan.config.train;
    let mut batches =
        Batches::new(plan.dataset.clone(), session.state.cursor, train.batch_rows, Rank::default());
    let film = film(session, folder)?;
    let mut loss = None;
    let mut evaluation = None;
    let before = session.state.elapsed_secs;
    let began = Instant::now();
    while session.state.step < train.steps {
        let step_began = Instant::now();
        let micro: Vec<Batch> =
            (0..train.accumulate).map(|_| batches.next_batch()).collect::<vulpes_data::Result<_>>()?;
        let waited = step_began.elapsed();
        let numbers = match session.advance(&micro)? {
            Ok(numbers) => numbers,
            Err(sick) => return Err(doctor::admit(session, &sick, &micro, folder.path(), options.files)),
        };
        session.state.cursor = batches.cursor();
        session.state.elapsed_secs = before + began.elapsed().as_secs_f64();
        let step = session.state.step;
        let stopped = (options.stop)(step);
        let last = step == train.steps;
        let line = line(session, &numbers, step_began.elapsed(), waited);
        let log = last || step.is_multiple_of(train.log_every);
        retrying(plan, watch, options, folder.path(), |watch| Ok(watch.step(&line, log)?))?;
        loss = Some(numbers.loss.loss);
        let due = |every: u64| last || (every > 0 && step.is_multiple_of(every));
        let mut new_best = false;
        if due(train.eval_every) && plan.dataset.n_validation_rows() > 0 {
            let found = evaluate_session(session)?;
            new_best = note_evaluation(session, &found);
            let tokens = session.state.tokens;
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
            session.state.elapsed_secs = before + began.elapsed().as_secs_f64();
            retrying(plan, watch, options, folder.path(), |watch| {
                save(session, folder, watch, options.files)
            })?;
            retrying(plan, watch, options, folder.path(), |watch| Ok(watch.draw()?))?;
        }
        if stopped.is_some() {
            return Ok((loss, evaluation, stopped));
        }
    }
    Ok((loss, evaluation, None))
}

/// The film of the run, where the config wants one, with its frame of the beginning.
fn film(session: &Session<'_>, folder: &RunFolder) -> Result<Option<Film>> {
    let (plan, step) = (session.plan(), session.state.step);
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
            Ok(film.record(session.transformer(), tokenizer, session.state.step, val_loss)?)
        }
        _ => Ok(()),
    }
}

fn line(session: &Session<'_>, numbers: &StepNumbers, took: Duration, waited: Duration) -> StepLine {
    let secs = took.as_secs_f64().max(1e-9);
    StepLine {
        step: session.state.step,
        loss: numbers.loss.loss,
        lr: numbers.lr,
        grad_norm: numbers.grad_norm,
        tokens: session.state.tokens,
        step_ms: secs * 1e3,
        data_wait_ms: waited.as_secs_f64() * 1e3,
        tokens_per_s: numbers.loss.n_tokens as f64 / secs,
        elapsed_s: session.state.elapsed_secs,
        skipped: numbers.skipped,
    }
}

/// Evaluates the model of a session on the validation set.
///
/// # Errors
/// When an operation fails.
pub fn evaluate_session(session: &Session<'_>) -> Result<Evaluation> {
    let plan = session.plan();
    let batches = plan.dataset.validation_batches(plan.config.train.batch_rows);
    let stepper = session.stepper();
    let pool = stepper.shard_pool();
    let kernel_threads = if pool.is_some() { stepper.kernel_threads() } else { plan.n_threads };
    evaluate(session.transformer(), batches.map(|batch| Ok(batch?)), pool, kernel_threads)
}

/// Takes an evaluation into the state; whether it is the best so far.
fn note_evaluation(session: &mut Session<'_>, found: &Evaluation) -> bool {
    let state = &mut session.state;
    state.val_loss = Some(found.loss).filter(|loss| loss.is_finite());
    let better = found.loss.is_finite() && state.best.is_none_or(|best| found.loss < best.val_loss);
    if better {
        state.best = Some(Best { step: state.step, val_loss: found.loss });
    }
    better
}

/// Saves a checkpoint, names it, and removes older ones; the metrics so far are on the disk before it is.
fn save(session: &mut Session<'_>, folder: &RunFolder, watch: &Watch<'_>, files: &dyn Files) -> Result<()> {
    let train = &session.plan().config.train;
    watch.metrics.sync().map_err(|source| Error::io("sync", watch.metrics.path(), source))?;
    let root = folder.checkpoints();
    let name = folder_name(session.state.step);
    session.save(&root, &name, files)?;
    checkpoint::point(&root, "latest", &name, files)?;
    let best = session.state.best.filter(|best| root.join(folder_name(best.step)).is_dir());
    if let Some(best) = best {
        checkpoint::point(&root, "best", &folder_name(best.step), files)?;
    }
    let also: Vec<u64> = best.filter(|_| train.keep_best > 0).map(|best| best.step).into_iter().collect();
    checkpoint::prune(&root, train.keep_last, train.keep_best, &also, files)
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

/// Puts the best checkpoint's model folder (else the last's) where the run's user looks for it.
fn publish(session: &Session<'_>, folder: &RunFolder, files: &dyn Files) -> Result<()> {
    let root = folder.checkpoints();
    let best = session.state.best.map(|best| best.step);
    let steps = checkpoint::steps(&root);
    let Some(step) = best.filter(|step| steps.contains(step)).or(steps.last().copied()) else {
        return Ok(());
    };
    let source = root.join(folder_name(step));
    checkpoint::verify(&source)?;
    checkpoint::save_folder(folder.path(), "model", files, &|dir, files| {
        for entry in std::fs::read_dir(&source).map_err(|error| Error::io("read", &source, error))?.flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("train_state") || name == checkpoint::manifest::MANIFEST {
                continue;
            }
            let target = dir.join(&name);
            std::fs::copy(entry.path(), &target).map_err(|error| Error::io("write", &target, error))?;
            files.written(&target).map_err(|error| Error::io("write", &target, error))?;
        }
        Ok(())
    })
    .map(|_| ())
}

//! The program `train`: from one TOML file to a model folder.
//!
//! Standard output is for data, standard error for everything else.

mod args;
mod cut_files;
mod keys;
mod life;
mod progress;
mod reading;
mod rows;
mod summary;
mod together;

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use serde_json::json;
use vulpes_collective::Processes;
use vulpes_runs::checkpoint::{self, files::Disk};
use vulpes_runs::config::{RunConfig, own_name};
use vulpes_runs::{
    EMBEDDED, Error, FitOptions, Plan, PlanOptions, Result, Session, agreed, check, config_summary,
    find_config, fit, holds_failed_step, replay_failed_step, tokenizer_folder, verify,
};
use vulpes_trainer::STACK_BYTES;

use crate::ending::{Failure, end, say};
use crate::hub;
use crate::process::fit_memory;
use crate::signals::Signals;
use args::Args;
use cut_files::exit_on_sigbus;
use progress::Progress;
use reading::Reading;

/// The command line.
pub(crate) fn command() -> Command {
    Args::command()
}

/// Runs the program, on a thread whose stack is large enough for any model.
pub(crate) fn main(matches: &ArgMatches) -> ExitCode {
    let args = Args::from_arg_matches(matches).map_err(Failure::usage);
    let run = move || match args {
        Ok(args) => together::run(args, dispatch),
        Err(failure) => end(Err(failure)),
    };
    let thread = std::thread::Builder::new().name("train".into()).stack_size(STACK_BYTES).spawn(run);
    match thread.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // The panic's message is on standard error already.
        Ok(Err(_)) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: can't start a thread: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &Args, processes: &Processes) -> Result<u8> {
    together::require_training(args, processes)?;
    if let Some(dir) = &args.check {
        return check_command(args, dir);
    }
    if let Some(dir) = &args.verify {
        return verify_command(args, dir);
    }
    if args.list {
        return list_command(args);
    }
    if let Some(section) = &args.keys {
        return keys_command(args, section);
    }
    let Some(name) = &args.config else { return Err(Error::Usage("--config is missing".to_owned())) };
    let run_dir = match &args.out {
        Some(out) => out.clone(),
        None => Path::new("runs").join(name.file_stem().unwrap_or_default()),
    };
    if args.eval {
        return eval_command(args, name, &run_dir, processes);
    }
    let plan = || {
        let config = read_config(args, name)?;
        // Before the data is read: a mistyped folder costs no time.
        if args.resume {
            require_folder(&run_dir)?;
        }
        let checkpoint = if args.resume { newest(&run_dir) } else { None };
        plan(args, config, run_dir.clone(), checkpoint, processes)
    };
    let plan = agreed(processes, plan())?;
    if args.dry_run {
        for warning in plan.warnings.iter().filter(|_| processes.is_first()) {
            say(&format!("warning: {warning}"));
        }
        match args.show_rows {
            None => give(args, &plan.to_json(), &plan.to_string())?,
            Some(n) => {
                let rows = plan.dataset.shown(usize::try_from(n).unwrap_or(usize::MAX))?;
                let text = format!("{plan}\n\n{}", rows::text(&rows, rows::in_color()));
                give(args, &rows::json(&rows), &text)?;
            }
        }
        return Ok(0);
    }
    train_command(args, &plan)
}

fn read_config(args: &Args, name: &Path) -> Result<RunConfig> {
    let (path, text) = find_config(name)?;
    let mut config = RunConfig::parse(&path.display().to_string(), &text, &args.set)?;
    if let Some(threads) = args.threads {
        if threads == 0 {
            return Err(Error::Usage("--threads 0: must be at least 1".to_owned()));
        }
        config.train.threads = Some(threads);
    }
    if !args.quiet {
        args.set.iter().for_each(|item| say(&format!("set {item}")));
    }
    Ok(config)
}

fn plan(
    args: &Args,
    config: RunConfig,
    run_dir: PathBuf,
    checkpoint: Option<PathBuf>,
    processes: &Processes,
) -> Result<Plan> {
    exit_on_sigbus().map_err(Error::BareIo)?;
    fit_memory(&config.train);
    if args.device.is_none() && processes.is_first() {
        vulpes_model::device::fallback().iter().for_each(|why| say(&format!("warning: {why}")));
    }
    // (A resumed run no longer needs what it started from.)
    if checkpoint.is_none() && config.train.init_from != "scratch" {
        hub::fetched(Path::new(&config.train.init_from), args.quiet || !processes.is_first())
            .map_err(|error| Error::BareIo(std::io::Error::other(format!("train.init_from: {error:#}"))))?;
    }
    let options = PlanOptions {
        device: together::device(args.device.as_deref(), processes),
        run_dir,
        checkpoint,
        processes: processes.clone(),
        threads: together::threads(processes),
        shows_rows: args.show_rows.is_some(),
    };
    let reading = Reading::new(args.quiet);
    let plan = Plan::new(config, &options, &reading);
    reading.finish();
    plan
}

/// Checks that the run folder exists.
fn require_folder(dir: &Path) -> Result<()> {
    if dir.is_dir() { Ok(()) } else { Err(Error::NoRun { path: dir.to_path_buf() }) }
}

/// The folder of a run's newest intact checkpoint.
fn newest(run_dir: &Path) -> Option<PathBuf> {
    checkpoint::newest(&run_dir.join("checkpoints")).ok().map(|(whole, _)| whole.path)
}

fn train_command(args: &Args, plan: &Plan) -> Result<u8> {
    let signals = Signals::install().map_err(Error::BareIo)?;
    if !args.quiet {
        say(&plan.to_string());
    }
    let explicit =
        args.set.iter().filter_map(|item| Some(own_name(item.split_once('=')?.0.trim()))).collect();
    let options = FitOptions {
        resume: args.resume,
        overwrite: args.overwrite,
        explicit,
        stop: &|_| signals.exit_code(),
        files: &Disk,
    };
    let summary = fit(plan, &options, &mut Progress::new(args.quiet, plan.config.train.budget_minutes))?;
    if !args.quiet {
        say(&summary::of_run(plan, &summary));
    }
    for words in summary.diverged.iter().filter(|_| plan.processes.is_first()) {
        say(&format!("error: {words}"));
    }
    if args.json {
        let value = serde_json::to_value(&summary).map_err(|error| Error::Usage(error.to_string()))?;
        give(args, &value, "")?;
    }
    Ok(summary.stopped.unwrap_or(u8::from(summary.diverged.is_some())))
}

fn eval_command(args: &Args, name: &Path, run_dir: &Path, processes: &Processes) -> Result<u8> {
    let open = || {
        let config = read_config(args, name)?;
        require_folder(run_dir)?;
        let (whole, passed_over) = checkpoint::newest(&run_dir.join("checkpoints"))?;
        for error in passed_over.iter().filter(|_| processes.is_first()) {
            say(&format!("warning: {error}; the one before it is used"));
        }
        let plan = plan(args, config, run_dir.to_path_buf(), Some(whole.path.clone()), processes)?;
        if plan.dataset.n_validation_rows() == 0 {
            return Err(Error::Usage(
                "there is no validation set: set data.validation or data.validation_fraction".into(),
            ));
        }
        Ok((plan, whole))
    };
    let (plan, whole) = agreed(processes, open())?;
    let session = Session::restore(&plan, &whole)?;
    let found = session.evaluate()?;
    let text = summary::of_evaluation(whole.state.step, &found, plan.dataset.labels());
    let value = json!({ "step": whole.state.step, "val": found });
    give(args, &value, &text)?;
    Ok(0)
}

fn list_command(args: &Args) -> Result<u8> {
    let width = EMBEDDED.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let configs = EMBEDDED.iter().map(|(name, text)| (*name, config_summary(text)));
    let lines: Vec<String> =
        configs.clone().map(|(name, words)| format!("{name:<width$}  {words}")).collect();
    let documents: Vec<_> = configs.map(|(name, words)| json!({ "name": name, "summary": words })).collect();
    give(args, &json!({ "configs": documents }), &lines.join("\n"))?;
    Ok(0)
}

fn keys_command(args: &Args, section: &str) -> Result<u8> {
    let section = section.trim_matches(['[', ']']);
    let document = |key: &vulpes_runs::config::Key| {
        json!({ "key": key.path, "wanted": key.wanted, "default": key.default, "about": key.about,
                "words": key.words.iter().map(|(word, about)| json!({ "word": word, "about": about })).collect::<Vec<_>>() })
    };
    let documents: Vec<_> = keys::chosen(section)?.iter().map(document).collect();
    give(args, &json!({ "keys": documents }), &keys::text(section)?)?;
    Ok(0)
}

fn check_command(args: &Args, dir: &Path) -> Result<u8> {
    require_folder(dir)?;
    let checked = check(dir)?;
    let lines: Vec<String> = checked
        .iter()
        .map(|one| format!("{}: {}", one.folder, one.fault.as_deref().unwrap_or("whole")))
        .collect();
    give(args, &json!({ "checked": checked }), &lines.join("\n"))?;
    Ok(u8::from(checked.iter().any(|one| one.fault.is_some())))
}

fn verify_command(args: &Args, dir: &Path) -> Result<u8> {
    let path = dir.join("config.toml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::Config { path: path.clone(), reason: format!("can't be read: {error}") })?;
    let mut config = RunConfig::parse(&path.display().to_string(), &text, &[])?;
    config.train.threads = args.threads.or(config.train.threads);
    let plan = plan(args, config, dir.to_path_buf(), tokenizer_folder(dir), &Processes::default())?;
    if holds_failed_step(dir) {
        let words = replay_failed_step(&plan, dir)?;
        let text = words.clone().unwrap_or_else(|| "the step now succeeds".to_owned());
        give(args, &json!({ "failed": words }), &text)?;
        return Ok(u8::from(words.is_some()));
    }
    let verified = verify(&plan, args.from, args.to)?;
    let stretch = format!("steps {} to {}", verified.from + 1, verified.to);
    let text = match &verified.difference {
        None => format!("{stretch}: identical"),
        Some(difference) => format!("{stretch}: different; {difference}"),
    };
    give(args, &json!(verified), &text)?;
    Ok(u8::from(verified.difference.is_some()))
}

/// Writes data to stdout: one JSON document with `--json`, else text. It is no error if the reader is gone.
fn give(args: &Args, value: &serde_json::Value, text: &str) -> Result<()> {
    if args.silent {
        return Ok(());
    }
    let mut stdout = std::io::stdout().lock();
    let written = if args.json { writeln!(stdout, "{value:#}") } else { writeln!(stdout, "{text}") };
    match written.and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(source) => Err(Error::Io { action: "write to", path: "stdout".into(), source }),
        Ok(()) => Ok(()),
    }
}

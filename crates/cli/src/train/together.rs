//! `train` as one of several processes of a launcher: the first shows and writes, all end together.

use std::process::ExitCode;

use vulpes_collective::{Processes, launched, start};
use vulpes_runs::{Error, Result};

use super::args::Args;
use crate::ending::{end, say};

/// Joins the processes that this one was started with, if any, and runs the command on all of them.
pub(super) fn run(mut args: Args, dispatch: fn(&Args, &Processes) -> Result<u8>) -> ExitCode {
    let processes = match start(on_loss) {
        Ok(processes) => processes,
        Err(error) => return end(Err(Error::from(error).into())),
    };
    if !processes.is_first() {
        args.quiet = true;
        args.silent = true;
    }
    let done = dispatch(&args, &processes);
    if processes.is_alone() {
        return end(done.map_err(Into::into));
    }
    let error = match done {
        Ok(code) => return ExitCode::from(code),
        Err(error) => error,
    };
    let code = error.exit_code();
    let all_know = processes.is_ending() || error.is_of_all();
    if processes.is_first() {
        end(Err(error.into()));
    } else if !all_know {
        say(&format!("error: process {} of {}: {error}", processes.rank(), processes.size()));
    }
    if !all_know {
        // The others may wait for this one.
        processes.abort(code);
    }
    ExitCode::from(code)
}

/// Reports that another process is gone; the engine then ends this one.
fn on_loss(error: &vulpes_collective::Error) {
    say(&format!(
        "error: {error}; all processes end. The run is kept as of its newest checkpoint: continue with --resume, \
         on any number of processes"
    ));
}

/// Checks that several processes only train or evaluate; everything else is for one.
///
/// # Errors
/// Returns [`Error::Usage`] for another form of the command.
pub(super) fn require_training(args: &Args, processes: &Processes) -> Result<()> {
    if processes.is_alone() || args.config.is_some() {
        return Ok(());
    }
    let words = "--check, --verify, --list and --keys run in one process: start them without a launcher";
    vulpes_runs::agreed(processes, Err(Error::Usage(words.to_owned())))
}

/// The device of this process: several on one machine take a GPU each, if there are any.
pub(super) fn device(asked: Option<&str>, processes: &Processes) -> Option<String> {
    let asked = asked.map(str::to_owned);
    let wants_any = match asked.as_deref() {
        Some(name) => name == "cuda",
        None => cfg!(feature = "cuda") && vulpes_model::device::fallback().is_none(),
    };
    let own =
        launched().filter(|_| wants_any && !processes.is_alone()).and_then(|launched| launched.local_rank);
    own.map(|number| format!("cuda:{number}")).or(asked)
}

/// The default number of threads: the machine's cores divided among its processes.
pub(super) fn threads(processes: &Processes) -> Option<usize> {
    let here = launched().filter(|_| !processes.is_alone())?.local_size?;
    let cores = vulpes_model::n_cores();
    // A launcher that binds processes to cores has divided them already.
    Some(if cores < here { cores } else { (cores / here).max(1) })
}

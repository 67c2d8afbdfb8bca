//! `train` as one of several processes that a launcher has started: the first one shows and writes, all end together.

use std::process::ExitCode;

use vulpes_collective::{Processes, launched, start};
use vulpes_runs::{Error, Result};

use super::args::Args;
use crate::ending::{end, say};

/// Joins the processes that this one was started with, if there are any, and runs the command on all of them.
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
    match done {
        Ok(code) => ExitCode::from(code),
        // The first one says it, and ends all.
        Err(error) if !processes.is_first() && error.is_of_all() => ExitCode::from(error.exit_code()),
        Err(error) => {
            let code = error.exit_code();
            if processes.is_first() {
                end(Err(error.into()));
            } else {
                say(&format!("error: process {} of {}: {error}", processes.rank(), processes.size()));
            }
            // The others may be waiting for this one.
            processes.abort(code);
            ExitCode::from(code)
        }
    }
}

/// Says that another process is gone; the engine then ends this one.
fn on_loss(error: &vulpes_collective::Error) {
    say(&format!(
        "error: {error}, and all others end with it; the run stands as its newest checkpoint has it: go on with --resume, \
         on any number of processes"
    ));
}

/// Several processes train and evaluate; all else is for one.
///
/// # Errors
/// [`Error::Usage`] for another form of the command.
pub(super) fn require_training(args: &Args, processes: &Processes) -> Result<()> {
    if processes.is_alone() || args.config.is_some() {
        return Ok(());
    }
    let words = "--check, --verify, --list and --keys are for one process: start them without a launcher";
    vulpes_runs::agreed(processes, Err(Error::Usage(words.to_owned())))
}

/// The device of this process: of several on one machine each takes its own GPU, where there are any.
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

/// Threads where nobody says how many: the machine's cores, shared out among its processes.
pub(super) fn threads(processes: &Processes) -> Option<usize> {
    let here = launched().filter(|_| !processes.is_alone())?.local_size?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A launcher that binds processes to cores has shared them out already.
    Some(if cores < here { cores } else { (cores / here).max(1) })
}

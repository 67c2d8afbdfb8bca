//! The programs under one name: `vulpes train` is `train`, and so on.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::called::VULPES;
use crate::{bench, explain, process, sample, train};

/// One program: its command line, and what runs it.
struct Program {
    command: fn() -> Command,
    main: fn(&ArgMatches) -> ExitCode,
    /// Settles what the process needs before it starts a thread.
    ///
    /// # Safety
    /// No other thread may exist.
    settle: unsafe fn(&ArgMatches),
}

/// Every program, by name.
const PROGRAMS: [(&str, Program); 4] = [
    ("train", Program { command: train::command, main: train::main, settle: process::for_training }),
    ("sample", Program { command: sample::command, main: sample::main, settle: process::for_reading }),
    ("explain", Program { command: explain::command, main: explain::main, settle: process::for_reading }),
    ("bench", Program { command: bench::command_line, main: bench::main, settle: process::for_timing }),
];

/// Runs the program `name`, or the one that the command line of `vulpes` names.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
#[allow(unsafe_code, reason = "what a process settles about its environment and allocator")]
pub unsafe fn run(name: &str) -> ExitCode {
    let (name, matches) = if name == VULPES {
        let all = PROGRAMS.iter().map(|(name, program)| (program.command)().name(*name));
        let about = "Small transformers: trained, sampled from, and looked into.";
        let vulpes = Command::new(VULPES).about(about).version(env!("CARGO_PKG_VERSION"));
        let mut found =
            vulpes.subcommand_required(true).arg_required_else_help(true).subcommands(all).get_matches();
        match found.remove_subcommand() {
            Some(found) => found,
            None => return ExitCode::from(2),
        }
    } else {
        let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
            return ExitCode::from(2);
        };
        (name.to_owned(), (program.command)().get_matches())
    };
    let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
        return ExitCode::from(2);
    };
    // SAFETY: reading a command line starts no thread, and the caller promises that there was none before.
    unsafe { (program.settle)(&matches) };
    (program.main)(&matches)
}

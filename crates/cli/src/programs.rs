//! The programs under one name: `vulpes train` is `train`, and so on.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::called::VULPES;
use crate::ending::end;
use crate::{bench, explain, process, sample, train};

/// The subcommand that is no program of its own, and its argument.
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";

const EXAMPLES: &str = "\
Examples:
  vulpes train --config fox.toml                 train, into runs/fox
  vulpes sample runs/fox \"The quick brown fox\"   continue a text
  vulpes explain runs/fox \"The quick brown fox\"  show what attention does
  vulpes completions bash                        what a shell needs to complete these words";

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

/// A program's command line whose examples call it as it is called here.
fn as_subcommand(command: Command, name: &str) -> Command {
    match command.get_after_help().map(ToString::to_string) {
        Some(help) => {
            command.after_help(help.replace(&format!("\n  {name} "), &format!("\n  {VULPES} {name} ")))
        }
        None => command,
    }
}

/// Runs the program `name`, or the one that the command line of `vulpes` names.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
#[allow(unsafe_code, reason = "what a process settles about its environment and allocator")]
pub unsafe fn run(name: &str) -> ExitCode {
    let (name, matches) = if name == VULPES {
        let all = PROGRAMS.iter().map(|(name, program)| as_subcommand((program.command)().name(*name), name));
        let about = "Small transformers: trained, sampled from, and looked into.";
        let shell = Arg::new(SHELL).required(true).value_parser(value_parser!(Shell)).help("The shell");
        let completions =
            Command::new(COMPLETIONS).about("Writes what a shell needs to complete these words").arg(shell);
        let mut vulpes = Command::new(VULPES)
            .about(about)
            .version(env!("CARGO_PKG_VERSION"))
            .subcommand_required(true)
            .arg_required_else_help(true)
            .max_term_width(100)
            .after_help(EXAMPLES)
            .subcommands(all)
            .subcommand(completions);
        match vulpes.get_matches_mut().remove_subcommand() {
            Some((name, found)) if name == COMPLETIONS => {
                let shell = found.get_one::<Shell>(SHELL).copied().unwrap_or(Shell::Bash);
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut vulpes, VULPES, &mut script);
                let written = std::io::stdout().lock().write_all(&script);
                return end(written.map(|()| 0).map_err(Into::into));
            }
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

//! The programs under one name: `vulpes train` is `train`, and so on.

use std::io::Write;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::called::VULPES;
use crate::ending::{Failure, end};
use crate::{bench, explain, export, process, sample, train};

/// The subcommands that are not programs themselves, and their arguments.
const COMPLETIONS: &str = "completions";
const SHELL: &str = "shell";
const MAN: &str = "man";
const PROGRAM: &str = "program";

const EXAMPLES: &str = "\
Examples:
  vulpes train --config fox.toml                 train, into runs/fox
  vulpes sample runs/fox \"The quick brown fox\"   continue a text
  vulpes explain runs/fox \"The quick brown fox\"  show what attention does
  vulpes export runs/fox --to hf --out fox       a folder for transformers
  vulpes completions bash                        completions for a shell
  vulpes man train | man -l -                    a manual page";

/// One program: its command line, and what runs it.
struct Program {
    command: fn() -> Command,
    main: fn(&ArgMatches) -> ExitCode,
    /// Makes the process-wide settings before any thread starts.
    ///
    /// # Safety
    /// No other thread may exist.
    settle: unsafe fn(&ArgMatches),
}

/// Every program, by name.
const PROGRAMS: [(&str, Program); 5] = [
    ("train", Program { command: train::command, main: train::main, settle: process::for_training }),
    ("sample", Program { command: sample::command, main: sample::main, settle: process::for_reading }),
    ("explain", Program { command: explain::command, main: explain::main, settle: process::for_explaining }),
    ("export", Program { command: export::command, main: export::main, settle: process::for_reading }),
    ("bench", Program { command: bench::command_line, main: bench::main, settle: process::for_timing }),
];

/// A program's command line, with examples that call it as a subcommand.
fn as_subcommand(command: Command, name: &str) -> Command {
    match command.get_after_help().map(ToString::to_string) {
        Some(help) => {
            command.after_help(help.replace(&format!("\n  {name} "), &format!("\n  {VULPES} {name} ")))
        }
        None => command,
    }
}

/// The command line of `vulpes`.
fn vulpes() -> Command {
    let all = PROGRAMS.iter().map(|(name, program)| as_subcommand((program.command)().name(*name), name));
    let shell = Arg::new(SHELL).required(true).value_parser(value_parser!(Shell)).help("The shell");
    let completions = Command::new(COMPLETIONS).about("Writes completions for a shell").arg(shell);
    let names = PROGRAMS.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let program = Arg::new(PROGRAM).value_parser(names).help("The program [default: vulpes]");
    let man = Command::new(MAN).about("Writes a manual page in man's format").arg(program);
    Command::new(VULPES)
        .about("Small transformers: trained, sampled from, and looked into.")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .after_help(EXAMPLES)
        .subcommands(all)
        .subcommands([completions, man])
}

/// What `completions` and `man` write; `None` for a program.
fn written(name: &str, matches: &ArgMatches) -> Option<std::io::Result<Vec<u8>>> {
    let mut text = Vec::new();
    match name {
        COMPLETIONS => {
            let shell = matches.get_one::<Shell>(SHELL).copied().unwrap_or(Shell::Bash);
            clap_complete::generate(shell, &mut vulpes(), VULPES, &mut text);
            Some(Ok(text))
        }
        MAN => {
            let asked = matches.get_one::<String>(PROGRAM);
            let program = asked.and_then(|asked| PROGRAMS.iter().find(|(known, _)| known == asked));
            let command = program.map_or_else(vulpes, |(_, program)| (program.command)());
            // The text after the help has the examples; the crate's heading for it is less specific.
            let rendered = Man::new(command).render(&mut text);
            let page = || String::from_utf8_lossy(&text).replace(".SH EXTRA", ".SH EXAMPLES").into_bytes();
            Some(rendered.map(|()| page()))
        }
        _ => None,
    }
}

/// Runs the program `name`, or the one that the command line of `vulpes` names.
///
/// # Safety
/// No other thread may exist: call it at the start of `main`.
#[allow(unsafe_code, reason = "what a process settles about its environment and allocator")]
pub unsafe fn run(name: &str) -> ExitCode {
    let (name, matches) = if name == VULPES {
        let Some((name, found)) = vulpes().get_matches().remove_subcommand() else {
            return ExitCode::from(2);
        };
        if let Some(text) = written(&name, &found) {
            return end(text
                .and_then(|text| std::io::stdout().lock().write_all(&text))
                .map(|()| 0)
                .map_err(Into::into));
        }
        (name, found)
    } else {
        let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
            return ExitCode::from(2);
        };
        (name.to_owned(), (program.command)().get_matches())
    };
    let Some((_, program)) = PROGRAMS.iter().find(|(known, _)| *known == name) else {
        return ExitCode::from(2);
    };
    if let Err(wrong) = vulpes_ops::simd() {
        return end(Err(Failure::usage(anyhow::anyhow!(wrong))));
    }
    // SAFETY: reading a command line starts no thread, and the caller promises that there was none before.
    unsafe { (program.settle)(&matches) };
    (program.main)(&matches)
}

/// Whether a command line, its program first, is one that can be parsed.
#[cfg(test)]
pub(crate) fn understands(words: &[String]) -> Result<(), String> {
    let name = words[0].rsplit('/').next().unwrap_or_default();
    let program = PROGRAMS.iter().find(|(known, _)| *known == name);
    let command = program.map_or_else(vulpes, |(_, program)| (program.command)());
    command.try_get_matches_from(words).map(|_| ()).map_err(|error| error.to_string())
}

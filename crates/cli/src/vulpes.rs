//! `vulpes`: all programs under one name, each with the words that it has alone.

use std::io::Write;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::{Shell, generate};

use crate::called::Called;
use crate::ending::{Failure, end};
use crate::{bench, explain, sample, train};

/// Trains small transformers, samples from them, and shows all that they do.
#[derive(Debug, Parser)]
#[command(
    name = "vulpes",
    version,
    max_term_width = 100,
    after_help = "\
Examples:
  vulpes train --config fox.toml                 train, into runs/fox
  vulpes sample runs/fox \"The quick brown fox\"   continue a text
  vulpes explain runs/fox \"The quick brown fox\"  show what attention does
  vulpes completions bash                        what a shell needs to complete these words"
)]
pub struct Args {
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    Train(train::Args),
    Sample(sample::Args),
    Explain(explain::Args),
    Bench(bench::Args),
    /// Writes the completions of a shell to standard output
    Completions {
        /// The shell
        shell: Shell,
    },
}

impl Args {
    /// Reads the command line; ends the process where it can't be read, or only asks for help.
    pub fn from_command_line() -> Self {
        Self::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// Whether freed memory is kept, as `train` and `bench` keep it.
    pub fn keeps_memory(&self) -> bool {
        match &self.program {
            Program::Train(_) => true,
            Program::Bench(args) => args.is_tuned(),
            Program::Sample(_) | Program::Explain(_) | Program::Completions { .. } => false,
        }
    }

    /// Whether candle gets one thread; who times a step in plain candle leaves it its own.
    pub fn is_tuned(&self) -> bool {
        !matches!(&self.program, Program::Bench(args) if !args.is_tuned())
    }

    /// Runs the program that was named.
    pub fn run(self) -> ExitCode {
        match self.program {
            Program::Train(mut args) => {
                args.called = Called::ByVulpes;
                train::run(args)
            }
            Program::Sample(mut args) => {
                args.called = Called::ByVulpes;
                sample::run(args)
            }
            Program::Explain(args) => explain::run(args),
            Program::Bench(mut args) => {
                args.called = Called::ByVulpes;
                args.run()
            }
            Program::Completions { shell } => end(completions(shell).map(|()| 0)),
        }
    }
}

/// The command with its programs, whose examples call them as they are called here.
fn command() -> Command {
    Args::command().mut_subcommands(|program| {
        let name = program.get_name().to_owned();
        match program.get_after_help().map(ToString::to_string) {
            Some(help) => {
                program.after_help(help.replace(&format!("\n  {name} "), &format!("\n  vulpes {name} ")))
            }
            None => program,
        }
    })
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(shell, &mut command(), "vulpes", &mut script);
    let mut out = std::io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }
}

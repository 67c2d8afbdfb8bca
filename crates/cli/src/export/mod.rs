//! The program `export`: writes a trained model for llama.cpp or transformers.

mod args;
mod run;

use std::process::ExitCode;

use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use crate::ending::{Failure, end};

/// The command line.
pub(crate) fn command() -> Command {
    args::Args::command()
}

/// Runs the program.
pub(crate) fn main(matches: &ArgMatches) -> ExitCode {
    let args = args::Args::from_arg_matches(matches).map_err(Failure::usage);
    end(args.and_then(|args| run::run(&args)))
}

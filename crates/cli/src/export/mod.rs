//! `export`: a trained model in the form of others, from what was typed to the file or folder.

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

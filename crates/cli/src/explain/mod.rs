//! The program `explain`: shows what attention does.
//!
//! Standard output carries the page (or one JSON document) and nothing else.

mod args;
mod live;
mod run;
mod teachers;

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
    end(args.and_then(|args| run::run(&args.named())))
}

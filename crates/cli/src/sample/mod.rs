//! The program `sample`: generates text with a trained model, fills masks, classifies or embeds.
//!
//! Standard output carries the text (or one JSON document) and nothing else.

mod answer;
mod args;
mod chat;
mod inputs;
mod model;
mod output;
mod prompts;
mod report;
mod rows;
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
    end(args.and_then(args::Args::in_one_place).and_then(|args| run::run(&args)))
}

//! `sample`: text from a trained model, from what was typed to what is printed.
//!
//! Standard output carries the text (or one JSON document) and nothing else.

mod answer;
mod args;
mod output;
mod prompts;
mod report;
mod rows;
mod run;
mod session;

use std::process::ExitCode;

use clap::Parser;

pub use args::Args;

use crate::ending::end;

/// Reads the command line and runs the program.
pub fn main() -> ExitCode {
    run(Args::parse())
}

/// Runs the program on what was typed.
pub fn run(args: Args) -> ExitCode {
    end(args.in_one_place().and_then(|args| run::run(&args)).map(|()| 0))
}

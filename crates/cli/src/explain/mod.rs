//! `explain`: what attention does, from what was typed to what is printed.
//!
//! Standard output carries the page (or one JSON document) and nothing else.

mod args;
mod run;

use std::process::ExitCode;

use clap::Parser;

pub use args::Args;

use crate::ending::end;

/// Reads the command line and runs the program.
pub fn main() -> ExitCode {
    run(Args::parse())
}

/// Runs the program on what was typed.
pub fn run(mut args: Args) -> ExitCode {
    args.model = args.model.or(args.run.take());
    args.text = args.text.or(args.words.take());
    end(run::run(&args).map(|()| 0))
}

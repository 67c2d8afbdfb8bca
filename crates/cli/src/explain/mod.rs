//! `explain`: what attention does, from what was typed to what is printed.
//!
//! Standard output carries the page (or one JSON document) and nothing else.

mod args;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::ending::end;

/// Runs the program.
pub fn main() -> ExitCode {
    end(run::run(&args::Args::parse()).map(|()| 0))
}

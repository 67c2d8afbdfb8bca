//! `sample`: text from a trained model, from what was typed to what is printed.
//!
//! Standard output carries the text (or one JSON document) and nothing else.

mod args;
mod output;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::ending::end;

/// Runs the program.
pub fn main() -> ExitCode {
    end(run::run(&args::Args::parse()).map(|()| 0))
}

//! `explain`: what attention does, from a worked example or a trained model.
//!
//! Standard output carries the page (or one JSON document) and nothing else.

mod cli;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    vulpes_model::candle_on_one_thread();
    let args = cli::Args::parse();
    match cli::run(&args) {
        Ok(()) | Err(cli::Failure::NobodyListens) => ExitCode::SUCCESS,
        Err(cli::Failure::Usage(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
        Err(cli::Failure::Failed(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

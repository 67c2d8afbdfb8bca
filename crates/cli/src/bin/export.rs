//! `export`: a trained model in the form of others, for llama.cpp or for transformers.
#![allow(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: `main` has just begun, so that there is no other thread.
    unsafe { vulpes_cli::run("export") }
}

//! `explain`: what attention does, from a worked example or a trained model.
#![allow(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: `main` has just begun, so there is no other thread.
    unsafe { vulpes_cli::run("explain") }
}

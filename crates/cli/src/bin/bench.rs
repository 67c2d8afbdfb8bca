//! `bench`: times training steps, and those of other programs for comparison.
#![allow(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: `main` has just begun, so there is no other thread.
    unsafe { vulpes_cli::run("bench") }
}

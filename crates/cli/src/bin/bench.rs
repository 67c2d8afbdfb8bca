//! `bench`: times training steps, and those of peers beside them.
#![allow(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    // SAFETY: `main` has just begun, so that there is no other thread.
    unsafe { vulpes_cli::run("bench") }
}

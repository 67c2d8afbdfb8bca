//! `vulpes`: all programs under one name.
#![allow(unsafe_code)]

use std::process::ExitCode;

use vulpes_cli::vulpes::Args;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    // SAFETY: reading the command line has started no thread.
    unsafe {
        if args.keeps_memory() {
            vulpes_cli::process::keep_freed_memory();
        }
        if args.is_tuned() {
            vulpes_cli::process::candle_on_one_thread();
        }
    }
    args.run()
}

//! `bench`: times training steps, and those of peers beside them.
#![allow(unsafe_code)]

use std::process::ExitCode;

use vulpes_cli::bench::Args;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    if args.is_tuned() {
        // SAFETY: reading the command line has started no thread.
        unsafe {
            vulpes_cli::process::keep_freed_memory();
            vulpes_cli::process::candle_on_one_thread();
        }
    }
    args.run()
}

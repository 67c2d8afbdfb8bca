//! `train`: from one TOML file to a model folder.

mod cli;

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    vulpes_ops::keep_freed_memory();
    vulpes_model::candle_on_one_thread();
    let run = std::thread::Builder::new()
        .name("train".into())
        .stack_size(vulpes_trainer::STACK_BYTES)
        .spawn(cli::main);
    let code = run.map(std::thread::JoinHandle::join);
    match code {
        Ok(Ok(code)) => ExitCode::from(code),
        // The panic's own words are on stderr already.
        Ok(Err(_)) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: can't start a thread: {error}");
            ExitCode::from(1)
        }
    }
}

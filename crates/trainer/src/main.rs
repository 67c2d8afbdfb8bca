//! `train`: from one TOML file to a model folder.

mod cli;

use std::process::ExitCode;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// candle's backward pass recurses once an operation.
const STACK_BYTES: usize = 256 << 20;

#[allow(unsafe_code)]
fn main() -> ExitCode {
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: no other thread runs yet, so none can be reading the environment.
        // candle's own pool spins while it waits, which takes the cores that shards and kernels work on.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    let run = std::thread::Builder::new().name("train".into()).stack_size(STACK_BYTES).spawn(cli::main);
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

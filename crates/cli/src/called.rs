//! How this program was called: by its own name, as a subcommand, or by cargo.

use std::process::Command;

/// The program that has the others as its subcommands.
pub(crate) const VULPES: &str = "vulpes";

/// Whether this process is `vulpes`, with the others as its subcommands.
fn is_vulpes() -> bool {
    std::env::current_exe().is_ok_and(|path| path.file_stem().is_some_and(|stem| stem == VULPES))
}

/// The command that calls the program `name` in the way that this one was called.
pub(crate) fn called(name: &str) -> String {
    // `cargo run` built this program alone, so suggest `cargo run` for the others.
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    match (by_cargo, is_vulpes()) {
        (true, true) => format!("cargo run --release --bin {VULPES} -- {name}"),
        (true, false) => format!("cargo run --release --bin {name} --"),
        (false, true) => format!("{VULPES} {name}"),
        (false, false) => name.to_owned(),
    }
}

/// A command that starts this program again as `name`; the caller adds arguments.
///
/// # Errors
/// Returns an error if the path of this program is unknown.
pub(crate) fn again(name: &str) -> std::io::Result<Command> {
    let mut process = Command::new(std::env::current_exe()?);
    if is_vulpes() {
        process.arg(name);
    }
    Ok(process)
}

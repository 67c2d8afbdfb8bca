//! What a program knows of how it was called: by its own name, as a subcommand, or by cargo.

use std::process::Command;

/// The program that has the others as its subcommands.
pub(crate) const VULPES: &str = "vulpes";

/// Whether this process is `vulpes`, so that the others are its subcommands.
fn is_vulpes() -> bool {
    std::env::current_exe().is_ok_and(|path| path.file_stem().is_some_and(|stem| stem == VULPES))
}

/// How a person who called this program calls the program `name`.
pub(crate) fn called(name: &str) -> String {
    // `cargo run` has built this program alone; `cargo run` builds the others.
    let by_cargo = std::env::var_os("CARGO_MANIFEST_DIR").is_some();
    match (by_cargo, is_vulpes()) {
        (true, true) => format!("cargo run --release --bin {VULPES} -- {name}"),
        (true, false) => format!("cargo run --release --bin {name} --"),
        (false, true) => format!("{VULPES} {name}"),
        (false, false) => name.to_owned(),
    }
}

/// A process of this very program, which is `name`, for arguments of its own.
///
/// # Errors
/// When the system doesn't say where this program lies.
pub(crate) fn again(name: &str) -> std::io::Result<Command> {
    let mut process = Command::new(std::env::current_exe()?);
    if is_vulpes() {
        process.arg(name);
    }
    Ok(process)
}

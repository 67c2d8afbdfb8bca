//! How a program was called, for the words and the processes that call the next one.

use std::process::Command;

/// By which name a program was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Called {
    /// By its own: `train`.
    #[default]
    Alone,
    /// As a word after `vulpes`: `vulpes train`.
    ByVulpes,
}

impl Called {
    /// What a person types to call the program `name` in the same way.
    pub(crate) fn words(self, name: &str) -> String {
        // `cargo run` has built this program alone; `cargo run` builds the others.
        match (self, std::env::var_os("CARGO_MANIFEST_DIR").is_some()) {
            (Self::Alone, false) => name.to_owned(),
            (Self::Alone, true) => format!("cargo run --release --bin {name} --"),
            (Self::ByVulpes, false) => format!("vulpes {name}"),
            (Self::ByVulpes, true) => format!("cargo run --release --bin vulpes -- {name}"),
        }
    }

    /// This same program `name` once more, as a process of its own that waits for its arguments.
    ///
    /// # Errors
    /// Where the system doesn't tell where the program lies.
    pub(crate) fn again(self, name: &str) -> std::io::Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        if self == Self::ByVulpes {
            command.arg(name);
        }
        Ok(command)
    }
}

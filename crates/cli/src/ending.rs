//! How a program ends: its message on standard error and its exit code.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anstream::ColorChoice;

use crate::carets;

/// Exit code of failed work.
const FAILED: u8 = 1;
/// Exit code of bad usage and of a bad config.
const USAGE: u8 = 2;

/// Why a program ended without its result.
pub(crate) struct Failure {
    code: u8,
    /// `None` if the reader of standard output is gone, which is not a failure.
    message: Option<String>,
}

impl Failure {
    /// A usage error: exit code 2.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { code: USAGE, message: Some(format!("error: {}", told(&error.into()))) }
    }

    /// The work failed: exit code 1.
    pub(crate) fn failed(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FAILED, message: Some(format!("error: {}", told(&error.into()))) }
    }

    /// Reports the failure and continues, unless the reader of standard output is gone.
    pub(crate) fn tell(self) -> Result<(), Self> {
        match &self.message {
            Some(message) => {
                say(message);
                Ok(())
            }
            None => Err(self),
        }
    }

    fn of_training(error: &vulpes_runs::Error) -> Self {
        let message = match error {
            // A config's faults are drawn complete, with the word "error" in each.
            vulpes_runs::Error::Faults(faults) => carets::draw(faults, in_color()),
            other => format!("error: {other}"),
        };
        Self { code: error.exit_code(), message: Some(message) }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        if let Some(error) = error.downcast_ref::<vulpes_runs::Error>() {
            return Self::of_training(error);
        }
        let is_closed = |error: &std::io::Error| error.kind() == ErrorKind::BrokenPipe;
        if error.downcast_ref::<std::io::Error>().is_some_and(is_closed) {
            return Self { code: 0, message: None };
        }
        if error.chain().any(is_usage) { Self::usage(error) } else { Self::failed(error) }
    }
}

/// An error with its causes, each shown once: many errors include their cause's message.
fn told(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

/// Whether the input is at fault: a prompt, a setting, a path that doesn't exist.
fn is_usage(error: &(dyn std::error::Error + 'static)) -> bool {
    use vulpes_data::Error as Data;
    use vulpes_generate::Error as Generate;
    let generate = matches!(
        error.downcast_ref(),
        Some(Generate::Prompt(_) | Generate::Config { .. } | Generate::GenerationConfig { .. })
    );
    let inspect = matches!(error.downcast_ref(), Some(vulpes_inspect::Error::Text(_)));
    let data = matches!(
        error.downcast_ref(),
        Some(Data::Missing { .. } | Data::Column { .. } | Data::Foreign { .. })
    );
    let export = matches!(
        error.downcast_ref(),
        Some(vulpes_export::Error::Exists { .. } | vulpes_export::Error::NotInFolders { .. })
    );
    let exported = error.downcast_ref().and_then(|error| match error {
        vulpes_export::Error::Folder(folder) => Some(folder.as_ref()),
        _ => None,
    });
    let folder =
        matches!(error.downcast_ref().or(exported), Some(vulpes_model::folder::Error::NoModel { .. }));
    generate || inspect || data || export || folder
}

/// Ends a program with the exit code of its result, or reports its failure.
pub(crate) fn end(result: Result<u8, Failure>) -> ExitCode {
    let code = result.unwrap_or_else(|failure| {
        failure.message.iter().for_each(|message| say(message));
        failure.code
    });
    ExitCode::from(code)
}

/// Whether standard error supports colors.
fn in_color() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != ColorChoice::Never
}

/// Writes a line to standard error, ignoring errors.
pub(crate) fn say(message: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_contract() {
        let code = |failure: Failure| (failure.code, failure.message.unwrap_or_default());
        let gone = std::io::Error::from(ErrorKind::BrokenPipe);
        assert_eq!(code(gone.into()), (0, String::new()));
        let usage = vulpes_runs::Error::Usage("no".to_owned());
        assert_eq!(code(usage.into()), (2, "error: no".to_owned()));
        let prompt = vulpes_generate::Error::Prompt("empty".to_owned());
        assert_eq!(code(prompt.into()).0, 2);
        let twice = anyhow::anyhow!("gone").context("a.json can't be read: gone").context("no model");
        assert_eq!(code(twice.into()).1, "error: no model: a.json can't be read: gone");
        assert_eq!(
            code(anyhow::anyhow!("broken").context("here").into()),
            (1, "error: here: broken".to_owned())
        );
    }
}

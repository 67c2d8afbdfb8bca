//! The command line of `explain`: from what was typed to what is printed.

mod args;
mod run;

pub(crate) use args::Args;
pub(crate) use run::run;

/// Why a run ended without its result.
pub(crate) enum Failure {
    /// What was typed can't be used: exit code 2.
    Usage(anyhow::Error),
    /// The work failed: exit code 1.
    Failed(anyhow::Error),
    /// The reader of standard output has left; that is no failure.
    NobodyListens,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        let broken = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        match error.downcast_ref::<vulpes_inspect::Error>() {
            Some(vulpes_inspect::Error::Text(_)) => Self::Usage(error),
            _ if error.downcast_ref().is_some_and(broken) => Self::NobodyListens,
            _ => Self::Failed(error),
        }
    }
}

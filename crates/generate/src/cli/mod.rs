//! The command line of `sample`: from what was typed to what is printed.

mod args;
mod output;
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
        match error.downcast_ref::<vulpes_generate::Error>() {
            Some(vulpes_generate::Error::Prompt(_) | vulpes_generate::Error::Config { .. }) => {
                Self::Usage(error)
            }
            _ if is_broken_pipe(&error) => Self::NobodyListens,
            _ => Self::Failed(error),
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

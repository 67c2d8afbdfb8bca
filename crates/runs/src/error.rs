//! The errors of a run, with their exit codes.

use std::path::{Path, PathBuf};

use vulpes_collective::Processes;

use crate::config::Faults;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// An error that ends a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The config file can't be read.
    #[error("config {path} {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, beginning with a verb.
        reason: String,
    },
    /// The config's content is wrong.
    #[error("{0}")]
    Faults(#[from] Faults),
    /// The command line or config requests something impossible.
    #[error("{0}")]
    Usage(String),
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// The action.
        action: &'static str,
        /// Its file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The film could not be written.
    #[error("the film: {0}")]
    Film(#[from] vulpes_generate::Error),
    /// A file operation failed on a file that the caller knows.
    #[error("{0}")]
    BareIo(#[from] std::io::Error),
    /// The folder already holds a run.
    #[error(
        "{path} already holds a run{detail}; continue it with --resume, choose another folder with --out, or \
         replace it with --overwrite",
        path = path.display()
    )]
    RunExists {
        /// The run folder.
        path: PathBuf,
        /// What is known about the run, after a comma.
        detail: String,
    },
    /// A run folder that doesn't exist.
    #[error("{path}: no such folder; to start a run, leave out --resume", path = path.display())]
    NoRun {
        /// The run folder.
        path: PathBuf,
    },
    /// Another process uses the folder.
    #[error("{path} is in use by {holder}", path = path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
        /// Who holds the lock.
        holder: String,
    },
    /// Nothing to resume, evaluate or verify from.
    #[error("{path} holds no intact checkpoint{detail}", path = path.display())]
    NoCheckpoint {
        /// The run folder.
        path: PathBuf,
        /// What was found instead, after a colon.
        detail: String,
    },
    /// A checkpoint differs from what was written.
    #[error("checkpoint {path} is damaged: {what}", path = path.display())]
    Damaged {
        /// The checkpoint folder.
        path: PathBuf,
        /// The file, the tensor if known, and what is wrong.
        what: String,
    },
    /// A resumed run's config contradicts the run.
    #[error("the run in {path} was started with another config:\n{changes}", path = path.display())]
    ConfigChanged {
        /// The run folder.
        path: PathBuf,
        /// One line per key, and what to do.
        changes: String,
    },
    /// The disk has no space.
    #[error("no space for a checkpoint in {path}: {needed} bytes are needed{detail}", path = path.display())]
    DiskFull {
        /// Where.
        path: PathBuf,
        /// The bytes needed.
        needed: u64,
        /// What is available, after a comma.
        detail: String,
    },
    /// The disk was full and the run was not set to wait.
    #[error(
        "{cause}\nthe run is kept as of its newest checkpoint: free some space and continue with --resume; \
         train.on_full_disk = \"wait\" waits for space instead"
    )]
    FullDisk {
        /// The failed write.
        cause: Box<Error>,
    },
    /// Another process failed.
    #[error("{message}")]
    Process {
        /// Which one, and its message.
        message: String,
        /// The exit code that goes with it.
        code: u8,
    },
    /// The processes can't work together.
    #[error(transparent)]
    Collective(#[from] vulpes_collective::Error),
    /// The training failed.
    #[error(transparent)]
    Training(#[from] vulpes_trainer::Error),
    /// A loss or gradient is not finite, or spiked.
    #[error("{0}")]
    Numbers(String),
    /// A replay differs from the run.
    #[error("{0}")]
    Differs(String),
    /// The model failed.
    #[error(transparent)]
    Model(#[from] vulpes_model::Error),
    /// A model folder can't be read or written.
    #[error(transparent)]
    Folder(Box<vulpes_model::folder::Error>),
    /// The data failed.
    #[error(transparent)]
    Data(#[from] vulpes_data::Error),
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

impl From<vulpes_model::folder::Error> for Error {
    fn from(error: vulpes_model::folder::Error) -> Self {
        Self::Folder(Box::new(error))
    }
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_path_buf(), source }
    }

    /// 2 for a wrong command line or config, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        use vulpes_collective::Error as Collective;
        use vulpes_model::folder::Error as Folder;
        use vulpes_trainer::Error as Training;
        let is_usage = match self {
            Self::Config { .. } | Self::Faults(_) | Self::Usage(_) | Self::ConfigChanged { .. } => true,
            Self::RunExists { .. } | Self::NoRun { .. } => true,
            Self::Process { code, .. } => return *code,
            Self::Collective(error) | Self::Training(Training::Collective(error)) => {
                matches!(error, Collective::NotBuilt { .. } | Collective::TooMany { .. })
            }
            Self::Data(error) | Self::Training(Training::Data(error)) => names_what_there_is_not(error),
            Self::Model(error) | Self::Training(Training::Model(error)) => {
                matches!(error, vulpes_model::Error::Config(_) | vulpes_model::Error::Device(_))
            }
            Self::Training(Training::Freeze(_) | Training::Groups(_) | Training::Threads { .. }) => true,
            Self::Folder(error) => matches!(**error, Folder::NoModel { .. }),
            _ => false,
        };
        if is_usage { 2 } else { 1 }
    }

    /// Whether every process has it, so that the first one's report is enough.
    pub fn is_of_all(&self) -> bool {
        use vulpes_trainer::Error as Training;
        match self {
            Self::Process { .. } | Self::Numbers(_) => true,
            Self::Training(error) => {
                matches!(
                    error,
                    Training::Process { .. }
                        | Training::Census(_)
                        | Training::FailedStep(_)
                        | Training::NoTarget { .. }
                )
            }
            _ => false,
        }
    }

    /// Whether the disk (or a quota) was full.
    pub(crate) fn is_full_disk(&self) -> bool {
        let is_full = |source: &std::io::Error| {
            matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        };
        match self {
            Self::DiskFull { .. } => true,
            Self::Film(vulpes_generate::Error::Film { source, .. }) => is_full(source),
            Self::Io { source, .. } => is_full(source),
            Self::Folder(error) => match &**error {
                vulpes_model::folder::Error::Write { source, .. } => is_full(source),
                _ => false,
            },
            _ => false,
        }
    }
}

/// The result that all processes share, or an error on each: its own if it failed, else [`Error::Process`].
///
/// # Errors
/// Returns an error if any process failed.
pub fn agreed<T>(processes: &Processes, own: Result<T>) -> Result<T> {
    if processes.is_alone() {
        return own;
    }
    let said = own.as_ref().err().map(|error| format!("{} {error}", error.exit_code()));
    let Some((rank, said)) = processes.first_said(said.as_deref())? else { return own };
    processes.set_ending();
    let (code, message) = said.split_once(' ').unwrap_or(("1", &said));
    let message = match rank {
        0 => message.to_owned(),
        rank => format!("process {rank} of {}: {message}", processes.size()),
    };
    match own {
        Err(own) if processes.is_first() => Err(own),
        _ => Err(Error::Process { message, code: code.parse().unwrap_or(1) }),
    }
}

/// Whether the config requests data that doesn't exist or can't be used that way; otherwise the data itself is at
/// fault.
fn names_what_there_is_not(error: &vulpes_data::Error) -> bool {
    use vulpes_data::Error as Data;
    matches!(
        error,
        Data::Config { .. }
            | Data::Missing { .. }
            | Data::NoMatch { .. }
            | Data::Column { .. }
            | Data::Foreign { .. }
            | Data::TooShort { .. }
            | Data::UnknownLabel { .. }
    )
}

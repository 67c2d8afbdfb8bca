//! Errors of explaining a model.

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The model is incomplete.
    #[error(transparent)]
    Model(#[from] vulpes_model::Error),
    /// The tokenizer failed.
    #[error(transparent)]
    Data(#[from] vulpes_data::Error),
    /// A quantity that the loss should depend on got no gradient.
    #[error("no gradient reached {0}: an operation before the loss has no backward pass")]
    NoGradient(String),
    /// A site of the model that the probe should record has no value.
    #[error("the model recorded nothing at {0}")]
    NotSeen(String),
    /// A text, or a part of the model to inspect, that can't be used.
    #[error("{0}")]
    Text(String),
    /// A file can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A run without snapshots.
    #[error("{run} has no film: set train.film = true and train.probes = [\"a sentence\"] in its config and train it", run = run.display())]
    NoFilm {
        /// The run's folder.
        run: std::path::PathBuf,
    },
    /// A `film.jsonl` that is not what the training program writes.
    #[error("{path}, line {line}: {what}", path = path.display())]
    Film {
        /// The file.
        path: std::path::PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
}

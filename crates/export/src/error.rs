//! Errors of exporting a model, each with what to do about it.

use std::path::{Path, PathBuf};

use crate::dtype::Dtype;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The output exists already.
    #[error("{} exists already and is not overwritten; remove it or choose another path", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("{}: can't be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("{}: can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The format can't represent a model of this kind.
    #[error("{form} can't represent this model: {}", reasons.join("; "))]
    Architecture {
        /// The format: an architecture of llama.cpp, or transformers.
        form: String,
        /// Everything that it can't represent.
        reasons: Vec<String>,
    },
    /// GGUF has no representation for a tokenizer.
    #[error(
        "GGUF can't represent this tokenizer: {reason}. Leave it out with --no-tokenizer; the file then \
         reads and writes ids"
    )]
    Tokenizer {
        /// What it is, and what is wanted.
        reason: String,
    },
    /// A dtype that only GGUF files have.
    #[error("{} is a type of GGUF files; a folder's weights are f32, bf16 or f16", dtype.name())]
    NotInFolders {
        /// The type.
        dtype: Dtype,
    },
    /// A value out of the dtype's range.
    #[error(
        "{tensor} holds {value:e}, which is beyond {} (at most {:e}); use f32 or bf16",
        dtype.name(),
        dtype.largest()
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// The value.
        value: f32,
        /// The dtype.
        dtype: Dtype,
    },
    /// The export was stopped.
    #[error("stopped; nothing was written")]
    Stopped,
    /// The model folder is wrong.
    #[error(transparent)]
    Folder(Box<vulpes_model::folder::Error>),
    /// The tokenizer is wrong.
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
    /// An [`Error::Write`] of `path`.
    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }

    /// An [`Error::Read`] of `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }
}

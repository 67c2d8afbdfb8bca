//! What can keep a model from being exported, each with what to do about it.

use std::path::{Path, PathBuf};

use crate::dtype::Dtype;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was to be made is there already.
    #[error("{} is there already, and nothing is written over: remove it, or name another path", path.display())]
    Exists {
        /// The file or folder.
        path: PathBuf,
    },
    /// A file or folder could not be written.
    #[error("{}: can't be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("{}: can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The form has no word for a model of this kind.
    #[error("{form} can't say what this model is: {}", reasons.join("; "))]
    Architecture {
        /// The form: an architecture of llama.cpp, or transformers.
        form: String,
        /// Everything that it has no word for.
        reasons: Vec<String>,
    },
    /// GGUF has no form for a tokenizer.
    #[error(
        "GGUF has no form for this tokenizer: {reason}. Leave it out with --no-tokenizer; ids then go in and come out"
    )]
    Tokenizer {
        /// What it is, and what is wanted.
        reason: String,
    },
    /// A type that only the other form has.
    #[error("{} is a type of GGUF files; a folder's weights are f32, bf16 or f16", dtype.name())]
    NotInFolders {
        /// The type.
        dtype: Dtype,
    },
    /// A number that the type can't hold.
    #[error(
        "{tensor} holds {value:e}, which is beyond {} (at most {:e}): take f32 or bf16",
        dtype.name(),
        dtype.largest()
    )]
    Range {
        /// The tensor.
        tensor: String,
        /// The number.
        value: f32,
        /// The type.
        dtype: Dtype,
    },
    /// It was asked to stop.
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

//! Errors of reading and writing model folders: what, where, what was expected and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error of reading or writing a model folder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The path holds no model folder.
    #[error("{}: {problem}", path.display())]
    NoModel {
        /// The path as given.
        path: PathBuf,
        /// What was looked for.
        problem: String,
    },
    /// A JSON file is malformed or has the wrong form.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// `config.json` requires something that is not implemented, or contradicts itself.
    #[error("{}: {}", path.display(), listed(problems))]
    Config {
        /// The file.
        path: PathBuf,
        /// Every problem, each with its key.
        problems: Vec<String>,
    },
    /// A safetensors file is truncated, overlapping or otherwise malformed.
    #[error("{}: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A GGUF file is damaged or unsupported.
    #[error("{}: {}", path.display(), listed(problems))]
    Gguf {
        /// The file.
        path: PathBuf,
        /// All problems, each with its key or tensor.
        problems: Vec<String>,
    },
    /// The tensors of the folder don't match `config.json`.
    #[error("{}: the tensors don't match config.json\n{misfit}", path.display())]
    Misfit {
        /// The folder.
        path: PathBuf,
        /// Every difference, by name.
        misfit: Misfit,
    },
    /// The tensors of an adapter don't match its base model.
    #[error("{}: the adapter doesn't fit the model\n{misfit}", path.display())]
    Adapter {
        /// The adapter's folder.
        path: PathBuf,
        /// Every difference, by name.
        misfit: Misfit,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The tensors could not be assembled into a model.
    #[error(transparent)]
    Model(#[from] crate::Error),
}

impl Error {
    /// An [`Error::Read`] of `path`.
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Read { path, source }
    }

    /// An [`Error::Write`] of `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }
}

/// Every difference between the tensors that a config describes and those that a folder holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// Names that the config requires and no file has.
    pub missing: Vec<String>,
    /// Names in the files that the config does not require.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: the name, the shape found, the shape wanted.
    pub wrong_shape: Vec<(String, Vec<usize>, Vec<usize>)>,
    /// Tensors of an element type that is not read: the name and the type.
    pub wrong_dtype: Vec<(String, String)>,
}

impl Misfit {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.wrong_shape.is_empty()
            && self.wrong_dtype.is_empty()
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        if !self.missing.is_empty() {
            lines.push(format!("  missing: {}", self.missing.join(", ")));
        }
        if !self.unexpected.is_empty() {
            lines.push(format!("  unexpected: {}", self.unexpected.join(", ")));
        }
        for (name, found, wanted) in &self.wrong_shape {
            lines.push(format!("  wrong shape: {name} is {found:?}, config.json requires {wanted:?}"));
        }
        for (name, dtype) in &self.wrong_dtype {
            lines.push(format!("  wrong type: {name} is {dtype}; F32, F16 and BF16 are read"));
        }
        write!(f, "{}", lines.join("\n"))
    }
}

/// One problem on the same line, several as a list.
fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => many.iter().map(|problem| format!("\n  {problem}")).collect(),
    }
}

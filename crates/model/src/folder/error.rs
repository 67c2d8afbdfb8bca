//! The ways that a model folder can be wrong, one variant each: what, where, what was wanted and what to do.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a model folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
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
    /// A JSON file is not the JSON that it should be.
    #[error("{}: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// `config.json` asks for something that is not implemented, or contradicts itself.
    #[error("{}: {}", path.display(), listed(problems))]
    Config {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong, each naming its key.
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
    /// The tensors of the folder are not those that `config.json` describes.
    #[error("{}: the tensors are not those that config.json describes\n{misfit}", path.display())]
    Misfit {
        /// The folder.
        path: PathBuf,
        /// Every difference, by name.
        misfit: Misfit,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The tensors could not be put together to a model.
    #[error(transparent)]
    Model(#[from] crate::Error),
}

impl Error {
    /// An [`Error::Read`] of `path`.
    pub(super) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
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
    /// Names that the config asks for and no file has.
    pub missing: Vec<String>,
    /// Names in the files that the config does not explain.
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
            lines.push(format!("  wrong shape: {name} is {found:?}, config.json makes it {wanted:?}"));
        }
        for (name, dtype) in &self.wrong_dtype {
            lines.push(format!("  wrong type: {name} is {dtype}; F32, F16 and BF16 are read"));
        }
        write!(f, "{}", lines.join("\n"))
    }
}

/// One problem as it is, several as a list below each other.
fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => many.iter().map(|problem| format!("\n  {problem}")).collect(),
    }
}

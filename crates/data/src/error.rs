//! Errors of data: what went wrong, where, and what to do about it.

use std::path::{Path, PathBuf};

/// The result of the crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why data could not be read, tokenized or batched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder does not exist.
    #[error("{path}: no such file or folder; {hint}")]
    Missing {
        /// The path as it was given.
        path: PathBuf,
        /// What to do.
        hint: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: "read", "write", …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A glob or folder holds no file.
    #[error("{pattern} matches no file; check data.train and data.validation")]
    NoMatch {
        /// The pattern as it was given.
        pattern: String,
    },
    /// Bytes that are not UTF-8.
    #[error("{path}: byte {offset} is not valid UTF-8; convert the file to UTF-8 (for instance with iconv)")]
    Utf8 {
        /// The file.
        path: PathBuf,
        /// The offset of the first bad byte, from 0.
        offset: u64,
    },
    /// A file that is not text.
    #[error("{path} {message}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is and what to do.
        message: String,
    },
    /// A corpus without text.
    #[error("{what} holds no text; give files with at least one document")]
    Empty {
        /// Which corpus: the section's key and its paths.
        what: String,
    },
    /// A corpus that doesn't fill one window.
    #[error(
        "{what} holds {n_tokens} tokens, and one window needs {needed}; give more text or a smaller {key}"
    )]
    TooShort {
        /// Which corpus.
        what: String,
        /// How many tokens it has.
        n_tokens: u64,
        /// How many one window needs.
        needed: u64,
        /// The key that sets the length of a window.
        key: &'static str,
    },
    /// A column that the file doesn't have.
    #[error("{path}{}: no column {column:?}; it has {}", line.map_or_else(String::new, |line| format!(":{line}")), listed(known))]
    Column {
        /// The file.
        path: PathBuf,
        /// The line, from 1, if each row names its columns.
        line: Option<u64>,
        /// The missing column.
        column: String,
        /// The columns of the file.
        known: Vec<String>,
    },
    /// A row that can't be read or used.
    #[error("{path}:{line}: {message}")]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong and what was wanted.
        message: String,
    },
    /// A label of the validation set that training never saw.
    #[error("{path}:{line}: label {label:?} does not occur in data.train, which has {}", listed(known))]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The label.
        label: String,
        /// The labels of the training set.
        known: Vec<String>,
    },
    /// A tokenizer that can't be read, trained or used.
    #[error("tokenizer {what}: {message}")]
    Tokenizer {
        /// The file, or the kind.
        what: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// A chat template that can't be read, or a conversation that it can't render.
    #[error("chat template {what}: {message}")]
    Template {
        /// The template: its folder, file or name.
        what: String,
        /// What is wrong, in the template's own message if it raised an exception.
        message: String,
    },
    /// A config value that only the data shows to be wrong.
    #[error("{key}: {message}")]
    Config {
        /// The key, such as `data.rows`.
        key: String,
        /// What is wrong and what was wanted.
        message: String,
    },
    /// A cache folder that can't be used.
    #[error("cannot write {path}: {source}; set data.cache to a folder that can be written and has room")]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A document that would have to be in memory as a whole.
    #[error(
        "{path}: a document of more than {limit_mb} MB, and this tokenizer can't encode it in parts; split \
         the text into documents (data.document = \"line\" or a marker)"
    )]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The largest document allowed, in megabytes.
        limit_mb: u64,
    },
    /// A file that changed after it was opened or listed.
    #[error("{path} changed while it was used: {message}; start again")]
    Changed {
        /// The file.
        path: PathBuf,
        /// What changed.
        message: String,
    },
}

/// Names for a person to read, cut short if there are many.
fn listed(names: &[String]) -> String {
    const MOST: usize = 20;
    match names.len() {
        0 => "none".into(),
        1..=MOST => names.join(", "),
        n => format!("{}, and {} more", names[..MOST].join(", "), n - MOST),
    }
}

impl Error {
    pub(crate) fn tokenizer(what: impl ToString, message: impl ToString) -> Self {
        Self::Tokenizer { what: what.to_string(), message: message.to_string() }
    }

    pub(crate) fn config(key: &str, message: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into() }
    }

    pub(crate) fn row(path: &Path, line: u64, message: impl Into<String>) -> Self {
        Self::Row { path: path.into(), line, message: message.into() }
    }

    pub(crate) fn cache(path: &Path, source: std::io::Error) -> Self {
        Self::Cache { path: path.into(), source }
    }

    /// The error of reading `path`, by kind.
    pub(crate) fn read(path: &Path, source: std::io::Error) -> Self {
        Self::io("read", path, source)
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::NotFound => Self::Missing {
                path: path.into(),
                hint: "check the path; it is relative to the current directory".into(),
            },
            _ => Self::Io { action, path: path.into(), source },
        }
    }
}

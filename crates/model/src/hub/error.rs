//! Errors of fetching a model, each with what to do about it.

use std::path::{Path, PathBuf};

/// An error of fetching a model from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such model, or the user may not see it.
    #[error(
        "{endpoint} has no model {model}, or denies you access (status {status}): check the name; for a private model set \
         HF_TOKEN to a token that may read it"
    )]
    NotThere {
        /// The model.
        model: String,
        /// The hub.
        endpoint: String,
        /// The status of the answer.
        status: u16,
    },
    /// There is no such branch, tag or commit, or no such file in it.
    #[error("{endpoint}: {model} has no {what}")]
    NoSuch {
        /// The model.
        model: String,
        /// The hub.
        endpoint: String,
        /// The revision or file.
        what: String,
    },
    /// The model is gated: its conditions must be accepted first.
    #[error(
        "{model} is gated (status {status}): accept its conditions at {endpoint}/{model}, and set HF_TOKEN to a token of the \
         account that did"
    )]
    Gated {
        /// The model.
        model: String,
        /// The hub.
        endpoint: String,
        /// The status of the answer.
        status: u16,
    },
    /// The hub limits the rate of requests.
    #[error("{endpoint}: too many requests (status 429): try again later, or set HF_TOKEN")]
    TooMany {
        /// The hub.
        endpoint: String,
    },
    /// The model has no weights in a supported format.
    #[error("{model} has neither model.safetensors nor model.safetensors.index.json; it has {}", files.join(", "))]
    NoWeights {
        /// The model.
        model: String,
        /// Its files.
        files: Vec<String>,
    },
    /// The connection broke on every try.
    #[error(
        "{file}: {n_done} of {n_bytes} bytes were downloaded, then {reason}; the next try resumes from there"
    )]
    Cut {
        /// The file.
        file: String,
        /// Bytes received.
        n_done: u64,
        /// Bytes announced.
        n_bytes: u64,
        /// The last failure.
        reason: String,
    },
    /// A request failed on every try.
    #[error("{url}: {reason}")]
    Request {
        /// The requested address.
        url: String,
        /// The last failure.
        reason: String,
    },
    /// The file's length differs from the announced one.
    #[error("{file}: got {found} bytes, expected {wanted}; the download was discarded")]
    Length {
        /// The file.
        file: String,
        /// Bytes announced.
        wanted: u64,
        /// Bytes received.
        found: u64,
    },
    /// The file's digest differs from the hub's.
    #[error("{file}: its digest is {found}, expected {wanted}, in two downloads; both were discarded")]
    Digest {
        /// The file.
        file: String,
        /// The hub's digest.
        wanted: String,
        /// The received file's digest.
        found: String,
    },
    /// An answer that a hub would not send.
    #[error("{url}: {problem}; is HF_ENDPOINT the address of a hub?")]
    Answer {
        /// The requested address.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Fetching is disabled.
    #[error("HF_HUB_OFFLINE is set, so {model} isn't fetched")]
    Offline {
        /// The model.
        model: String,
    },
    /// A file of the cache can't be written.
    #[error("{}: can't be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
}

impl Error {
    /// An [`Error::Write`] of `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Write { path, source }
    }
}

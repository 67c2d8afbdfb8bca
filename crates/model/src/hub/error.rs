//! What can keep a model from being fetched, each with what to do about it.

use std::path::{Path, PathBuf};

/// An error of the way to the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such model, or it isn't shown to who asks.
    #[error(
        "{endpoint} has no model {model}, or doesn't show it to you (status {status}): check the name; for a private model set \
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
    /// Its conditions must be accepted first.
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
    /// The hub wants fewer requests.
    #[error(
        "{endpoint} answers that there were too many requests (status 429): try again later, or set HF_TOKEN"
    )]
    TooMany {
        /// The hub.
        endpoint: String,
    },
    /// The model has no weights in a form that is read.
    #[error("{model} has neither model.safetensors nor model.safetensors.index.json; it has {}", files.join(", "))]
    NoWeights {
        /// The model.
        model: String,
        /// Its files.
        files: Vec<String>,
    },
    /// The connection broke again and again.
    #[error(
        "{file}: {n_done} of {n_bytes} bytes came, then {reason}; what came is kept, and the next try goes on from there"
    )]
    Cut {
        /// The file.
        file: String,
        /// Bytes that came.
        n_done: u64,
        /// Bytes that were announced.
        n_bytes: u64,
        /// What happened last.
        reason: String,
    },
    /// A request failed again and again.
    #[error("{url}: {reason}")]
    Request {
        /// What was asked for.
        url: String,
        /// What happened last.
        reason: String,
    },
    /// A file of another length came than was announced.
    #[error("{file}: {found} bytes come, where {wanted} were announced; nothing of it is kept")]
    Length {
        /// The file.
        file: String,
        /// Bytes announced.
        wanted: u64,
        /// Bytes that come.
        found: u64,
    },
    /// What came is not what the hub says of it.
    #[error("{file}: its digest is {found}, where the hub names {wanted}, twice over; nothing of it is kept")]
    Digest {
        /// The file.
        file: String,
        /// The digest that the hub names.
        wanted: String,
        /// That of what came.
        found: String,
    },
    /// An answer that isn't what a hub answers.
    #[error("{url}: {problem}; is HF_ENDPOINT the address of a hub?")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },
    /// Nothing may be fetched.
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
        /// What the operating system said.
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

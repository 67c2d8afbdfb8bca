//! Errors of reading a model folder and generating text.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of this crate: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A NaN or infinite logit.
    #[error("the model's logit of token {id} is {logit}: its weights or its input are broken")]
    Logit {
        /// The token.
        id: usize,
        /// Its logit.
        logit: f32,
    },
    /// No token has a probability above zero.
    #[error("there is no token to choose from: every logit is -inf, or the vocabulary is empty")]
    NoCandidate,
    /// A `generation_config.json` that can't be read.
    #[error("{path}: {reason}")]
    GenerationConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a model folder can't be written.
    #[error("{path}: can't be written: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The snapshots of a run can't be written.
    #[error("{path}: can't be written: {source}")]
    Film {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A setting out of its range.
    #[error("sample.{key} {message}")]
    Config {
        /// The setting.
        key: &'static str,
        /// What is wrong with it, and what was wanted.
        message: String,
    },
    /// A prompt that can't be used.
    #[error("{0}")]
    Prompt(String),
    /// An operation of the model failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The model lacks a part.
    #[error(transparent)]
    Model(#[from] vulpes_model::Error),
    /// A model folder can't be read.
    #[error(transparent)]
    Folder(#[from] Box<vulpes_model::folder::Error>),
    /// The tokenizer failed.
    #[error(transparent)]
    Data(#[from] vulpes_data::Error),
}

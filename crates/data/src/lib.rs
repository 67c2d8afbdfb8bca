//! Text to ids to batches.
//!
//! Files (or the embedded fox) → documents → [`Tokenizer`] → tokens → [`Dataset`], which gives the [`Batch`] at any
//! [`Cursor`]: windows over packed documents, or one document a row, in a keyed random order, with next-token
//! targets, masked tokens or labels.
//!
//! Knows nothing of tensors or of the model.

mod batch;
mod cache;
mod config;
mod corpus;
mod cursor;
mod dataset;
mod embedded;
mod error;
mod progress;
mod store;
mod tokenizer;

pub use batch::{Batch, IGNORED};
pub use config::{
    DataConfig, DataKind, DocumentConfig, Issue, ObjectiveConfig, ObjectiveKind, Paths, RowKind,
    TokenizerConfig, TokenizerKind,
};
pub use cursor::Cursor;
pub use dataset::{Batches, Dataset, OpenOptions, Rank};
pub use embedded::embedded;
pub use error::{Error, Result};
pub use progress::{Progress, Stage};
pub use tokenizer::{DecodeStream, Encoded, Tokenizer};

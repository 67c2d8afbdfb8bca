//! Text to ids to batches.
#![doc = include_str!("../README.md")]

mod batch;
mod cache;
mod chat;
mod config;
mod corpus;
mod cursor;
mod dataset;
mod embedded;
mod error;
pub mod gguf;
mod progress;
mod scores;
mod splitters;
mod store;
mod tokenizer;

pub use batch::{Batch, IGNORED};
pub use chat::{ChatTemplate, Conversation, Turns};
pub use config::{
    ClassWeights, DataConfig, DataKind, DocumentConfig, EmbeddingPooling, Issue, ObjectiveConfig,
    ObjectiveKind, Paths, RowKind, TokenizerConfig, TokenizerKind,
};
pub use corpus::{Columns, TextRow, for_each_row, foreign};
pub use cursor::Cursor;
pub use dataset::{Batches, Dataset, OpenOptions, Rank, ShownRow};
pub use embedded::embedded;
pub use error::{Error, Result};
pub use progress::{Progress, Stage};
pub use scores::{LabelScores, Scores};
pub use tokenizer::{DecodeStream, Encoded, Tokenizer};

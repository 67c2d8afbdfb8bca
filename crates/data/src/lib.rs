//! Text to ids to batches.
//!
//! Files (or the embedded fox) → documents → [`Tokenizer`] → tokens → [`Dataset`], which gives the [`Batch`] at any
//! [`Cursor`]: windows over packed documents, or one document a row, in a keyed random order, with next-token
//! targets, masked tokens or labels.
//!
//! A corpus of a megabyte or more is tokenized once, on all threads, into memory-mapped shards in a cache folder
//! keyed by digests of files, tokenizer and settings; memory does not grow with the corpus.
//!
//! # Scale
//! Offsets, counts and the cursor are 64 bits wide, and the order of an epoch is a permutation that is computed, not
//! stored. A trillion tokens are many files of shards (two terabytes at 16 bits a token), tokenized by many processes,
//! each its own files; in training each of k processes maps the shards and takes rank r's rows of every batch of the
//! same permutation ([`Rank`]), so that together they see each window once an epoch and the cursor stays two numbers.
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
mod scores;
mod store;
mod tokenizer;

pub use batch::{Batch, IGNORED};
pub use config::{
    DataConfig, DataKind, DocumentConfig, EmbeddingPooling, Issue, ObjectiveConfig, ObjectiveKind, Paths,
    RowKind, TokenizerConfig, TokenizerKind,
};
pub use corpus::{Columns, TextRow, for_each_row, foreign};
pub use cursor::Cursor;
pub use dataset::{Batches, Dataset, OpenOptions, Rank};
pub use embedded::embedded;
pub use error::{Error, Result};
pub use progress::{Progress, Stage};
pub use scores::{LabelScores, Scores};
pub use tokenizer::{DecodeStream, Encoded, Tokenizer};

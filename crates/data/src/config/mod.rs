//! The config sections `[data]`, `[data.tokenizer]` and `[objective]`.
//!
//! Plain structs with unknown keys refused, so that a TOML reader can point at the key or value that is wrong. What
//! one value alone can't show is checked by the `issues` functions, all faults at once.

mod data;
mod document;
mod ending;
mod objective;
mod paths;
mod tokenizer;

pub use data::{DataConfig, DataKind, RowKind};
pub use document::DocumentConfig;
pub use objective::{EmbeddingPooling, ObjectiveConfig, ObjectiveKind};
pub use paths::Paths;
pub use tokenizer::{TokenizerConfig, TokenizerKind};

/// One fault of a config: the dotted key and what was wanted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The dotted path of the key, as `data.validation_fraction`.
    pub path: String,
    /// What is wrong, what was wanted and what to do.
    pub message: String,
}

impl Issue {
    pub(crate) fn new(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

//! The config sections `[data]`, `[data.tokenizer]` and `[objective]`.
//!
//! Plain structs that refuse unknown keys, so a TOML reader can point at the wrong key or value. What one value alone
//! can't show is checked by the `issues` functions, which report all issues at once.

mod data;
mod document;
mod ending;
mod objective;
mod paths;
mod tokenizer;

pub use data::{DataConfig, DataKind, RowKind};
pub use document::DocumentConfig;
pub use objective::{ClassWeights, EmbeddingPooling, ObjectiveConfig, ObjectiveKind};
pub use paths::Paths;
pub use tokenizer::{TokenizerConfig, TokenizerKind};

/// One issue of a config: the dotted key and what was wanted there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The dotted path of the key, such as `data.validation_fraction`.
    pub path: String,
    /// What is wrong, what was wanted and what to do.
    pub message: String,
}

impl Issue {
    pub(crate) fn new(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

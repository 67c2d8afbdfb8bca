//! The rows of a file as they are, for whoever asks a model about each of them.

use std::path::Path;

use super::files::Source;
use super::{Cut, Reading, read};
use crate::config::DataConfig;
use crate::error::Result;

/// One row of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowText<'a> {
    /// The line where it begins, from 1.
    pub line: u64,
    /// The text.
    pub text: &'a str,
    /// The second text of a pair.
    pub pair: Option<&'a str>,
    /// The label, where labels are read.
    pub label: Option<&'a str>,
}

/// Hands out the rows of the file at `path` in order, read as `config` says: its kind, columns and documents.
///
/// # Errors
/// Where the file can't be read or is not what the config says, and what `each` returns.
pub fn read_rows(
    path: &Path,
    config: &DataConfig,
    labels: bool,
    each: &mut dyn FnMut(RowText<'_>) -> Result<()>,
) -> Result<()> {
    let reading = Reading { config, labels, cut: Cut::Never, look: None };
    read(&Source::of(path)?, &reading, &mut |document| {
        each(RowText { line: document.line, text: document.text, pair: document.pair, label: document.label })
    })
}

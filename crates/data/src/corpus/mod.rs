//! Reads files as documents, one after the other, with never more than a part of a file in memory.
//!
//! [`Sources::find`] lists the files → [`read`] passes on each [`Document`] of them in order.

mod cut;
mod files;
mod foreign;
mod ids;
mod json;
#[cfg(feature = "parquet")]
mod parquet;
mod quotes;
mod rows;
mod table;
mod text;

pub(crate) use cut::Cut;
pub(crate) use files::{Source, Sources, digest_of};
pub use foreign::foreign;
pub(crate) use ids::{IdRow, Labels, Limits, read_ids};
pub(crate) use json::fault;
pub use rows::{Columns, TextRow, for_each_row};
pub(crate) use table::for_each_line;

use crate::config::{DataConfig, DataKind};
use crate::error::Result;

/// A document, or a part of one that is too long to be in memory at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// The second text of a pair.
    pub(crate) pair: Option<&'a str>,
    /// The label.
    pub(crate) label: Option<&'a str>,
    /// The line where it begins, from 1.
    pub(crate) line: u64,
    /// Whether the document ends here.
    pub(crate) last: bool,
    /// How many bytes of the document are left out between this part and the next.
    pub(crate) skipped: usize,
    /// How many bytes of the file have been read by the end of this part.
    pub(crate) read: u64,
}

/// How the documents of a corpus are read.
#[derive(Clone)]
pub(crate) struct Reading<'a> {
    pub(crate) config: &'a DataConfig,
    /// Whether the rows have labels.
    pub(crate) labels: bool,
    /// Where a document may be cut into parts.
    pub(crate) cut: Cut,
    /// For documents without a known place to cut: finds the last position of a text at which it may be cut, and how
    /// many bytes are left out there.
    pub(crate) look: Option<Look<'a>>,
}

/// Finds a position to cut a text; see [`Reading::look`].
pub(crate) type Look<'a> = &'a (dyn Fn(&str) -> Option<(usize, usize)> + Sync);

/// The most megabytes of text that are tokenized at once if no place to cut is found: each byte takes some hundred
/// bytes of memory.
pub(crate) const WHOLE_MB: u64 = 4;

/// The maximum size in megabytes of a document that can't be cut.
const LONGEST_MB: u64 = 64;

/// A value from a file for an error message, shortened if it is long.
pub(crate) fn short(value: &impl ToString) -> String {
    const LONGEST: usize = 60;
    let value = value.to_string();
    match value.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value,
    }
}

/// Passes the documents of a file to `each` in order.
///
/// # Errors
/// Returns an error if the file can't be read or is not what the config says, and the errors of `each`.
pub(crate) fn read(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    if reading.config.kind != DataKind::Parquet {
        source.check_text()?;
    }
    match reading.config.kind {
        DataKind::Text => text::read(source, reading, each),
        DataKind::Jsonl => table::read_jsonl(source, reading, each),
        DataKind::Csv => table::read_csv(source, reading, each),
        #[cfg(feature = "parquet")]
        DataKind::Parquet => parquet::read_parquet(source, reading, each),
        // Refused by the check of the config.
        #[cfg(not(feature = "parquet"))]
        DataKind::Parquet => Ok(()),
        DataKind::Chat | DataKind::Ids | DataKind::Synthetic => Ok(()),
    }
}

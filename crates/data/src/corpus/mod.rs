//! Files to documents, one after the other, never more than a part of a file in memory.
//!
//! [`Sources::find`] lists the files → [`read`] hands out each [`Document`] of them in order.

mod cut;
mod files;
mod ids;
#[cfg(feature = "parquet")]
mod parquet;
mod rows;
mod table;
mod text;

pub(crate) use cut::Cut;
pub(crate) use files::{Source, Sources, digest_of};
pub(crate) use ids::{IdRow, Labels, Limits, read_ids};
pub use rows::{Columns, TextRow, for_each_row};

use crate::config::{DataConfig, DataKind};
use crate::error::Result;

/// A document, or a part of one that is too long to be held at once.
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
    /// How many bytes of the file have been read up to its end.
    pub(crate) read: u64,
}

/// How the documents of a corpus are read.
#[derive(Clone, Debug)]
pub(crate) struct Reading<'a> {
    pub(crate) config: &'a DataConfig,
    /// Whether the rows have labels.
    pub(crate) labels: bool,
    /// Where a document may be cut into parts.
    pub(crate) cut: Cut,
}

/// The most megabytes that a document may have which has to be held as a whole.
const LONGEST_MB: u64 = 64;

/// A value of a file in an error's words, cut where it is long.
fn short(value: &impl ToString) -> String {
    const LONGEST: usize = 60;
    let value = value.to_string();
    match value.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value,
    }
}

/// Hands out the documents of a file in order.
///
/// # Errors
/// Where the file can't be read or is not what the config says, and what `each` returns.
pub(crate) fn read(
    source: &Source,
    reading: &Reading<'_>,
    each: &mut dyn FnMut(Document<'_>) -> Result<()>,
) -> Result<()> {
    match reading.config.kind {
        DataKind::Text => text::read(source, &reading.config.document, reading.cut, each),
        DataKind::Jsonl => table::read_jsonl(source, reading, each),
        DataKind::Csv => table::read_csv(source, reading, each),
        #[cfg(feature = "parquet")]
        DataKind::Parquet => parquet::read_parquet(source, reading, each),
        // Refused where the config is checked.
        #[cfg(not(feature = "parquet"))]
        DataKind::Parquet => Ok(()),
        DataKind::Ids | DataKind::Synthetic => Ok(()),
    }
}

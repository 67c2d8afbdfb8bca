//! Files to documents, one after the other, never more than a part of a file in memory.
//!
//! [`Sources::find`] lists the files → [`read`] hands out each [`Document`] of them in order.

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
    /// How many bytes of the document are left out between this part and the next.
    pub(crate) skipped: usize,
    /// How many bytes of the file have been read up to its end.
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
    /// For documents that may be cut nowhere as far as is known: the last place of a text at which a look shows that it
    /// may, and how many bytes are left out there.
    pub(crate) look: Option<Look<'a>>,
}

/// Finds a place to cut a text at; see [`Reading::look`].
pub(crate) type Look<'a> = &'a (dyn Fn(&str) -> Option<(usize, usize)> + Sync);

/// The most megabytes of text that are tokenized at once where nothing shows how to cut it: some hundred bytes of memory
/// go to each byte of it.
pub(crate) const WHOLE_MB: u64 = 4;

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
    if reading.config.kind != DataKind::Parquet {
        source.check_text()?;
    }
    match reading.config.kind {
        DataKind::Text => text::read(source, reading, each),
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

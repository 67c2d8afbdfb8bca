//! Which documents go to the training set and which to the validation set.

use serde::Serialize;

use super::round::{Job, Round};
use crate::config::{DataKind, DocumentConfig};
use crate::corpus::{Document, Reading, Source};
use crate::error::Result;

/// Which documents are set apart for validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) enum Split {
    /// None.
    None,
    /// This share, chosen by the documents' content.
    Content(f64),
    /// What stands from this byte on in the only document.
    Position(u64),
}

/// Where the reader stands in a file: how far in the document, and which set the document goes to.
pub(super) struct Splitter {
    split: Split,
    source: usize,
    n_read: u64,
    /// The set of a file that is one document, known from the digest of all of it.
    file_apart: Option<bool>,
}

impl Splitter {
    /// At the beginning of `file`, the file number `source`.
    pub(super) fn new(split: Split, reading: &Reading<'_>, source: usize, file: &Source) -> Result<Self> {
        let whole = reading.config.kind == DataKind::Text && reading.config.document == DocumentConfig::File;
        let file_apart = match split {
            Split::Content(fraction) if whole => Some(is_apart(&file.digest(&mut |_| {})?, fraction)),
            _ => None,
        };
        Ok(Self { split, source, n_read: 0, file_apart })
    }

    /// Adds a document, or part of one, as one job, or as two where the set changes within it.
    pub(super) fn push(&mut self, document: Document<'_>, round: &mut Round) {
        let text = document.text;
        let start = self.n_read;
        self.n_read = if document.last { 0 } else { start + (text.len() + document.skipped) as u64 };
        let mut add = |text: &str, first: bool, last: bool, apart: bool| {
            let job = Job {
                text: round.keep(text),
                pair: document.pair.map(|pair| round.keep(pair)),
                label: document.label.map(|label| round.keep(label)),
                source: self.source,
                line: document.line,
                first,
                last,
                read: document.read,
                apart,
            };
            round.jobs.push(job);
        };
        match self.split {
            Split::None => add(text, start == 0, document.last, false),
            Split::Content(fraction) => {
                let digest = || blake3::hash(text.as_bytes());
                let apart = self.file_apart.unwrap_or_else(|| is_apart(&digest(), fraction));
                add(text, start == 0, document.last, apart);
            }
            Split::Position(at) => {
                let mut cut = at.saturating_sub(start).min(text.len() as u64) as usize;
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                let crosses = at >= start && at < start + text.len() as u64;
                if cut > 0 || crosses {
                    add(&text[..cut], start == 0, crosses || document.last, false);
                }
                if cut < text.len() {
                    add(&text[cut..], false, document.last, true);
                }
            }
        }
    }
}

/// Whether a document with this digest is in the share that is set apart: no other document has a say in it.
fn is_apart(digest: &blake3::Hash, fraction: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (number >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < fraction
}

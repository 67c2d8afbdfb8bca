//! Splits documents into the training set and the validation set.

use serde::Serialize;

use super::round::{Job, Round};
use crate::config::{DataKind, DocumentConfig};
use crate::corpus::{Document, Reading, Source};
use crate::error::Result;

/// Which documents go to the validation set.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) enum Split {
    /// None.
    None,
    /// This share, chosen by the documents' content.
    Content(f64),
    /// Everything from this byte on in the only document.
    Position(u64),
}

/// The position of the reader in a file: how far in the document, and the document's set.
pub(super) struct Splitter {
    split: Split,
    source: usize,
    n_read: u64,
    /// The set of a file that is one document, known from its digest.
    file_is_validation: Option<bool>,
}

impl Splitter {
    /// At the beginning of `file`, which has the number `source`.
    pub(super) fn new(split: Split, reading: &Reading<'_>, source: usize, file: &Source) -> Result<Self> {
        let whole = reading.config.kind == DataKind::Text && reading.config.document == DocumentConfig::File;
        let file_is_validation = match split {
            Split::Content(fraction) if whole => {
                Some(belongs_to_validation(&file.digest(&mut |_| {})?, fraction))
            }
            _ => None,
        };
        Ok(Self { split, source, n_read: 0, file_is_validation })
    }

    /// Adds a document, or part of one, as one job, or as two if the set changes within it.
    pub(super) fn push(&mut self, document: Document<'_>, round: &mut Round) {
        let text = document.text;
        let start = self.n_read;
        self.n_read = if document.last { 0 } else { start + (text.len() + document.skipped) as u64 };
        let mut add = |text: &str, first: bool, last: bool, is_validation: bool| {
            let job = Job {
                text: round.push(text),
                pair: document.pair.map(|pair| round.push(pair)),
                label: document.label.map(|label| round.push(label)),
                source: self.source,
                line: document.line,
                first,
                last,
                read: document.read,
                is_validation,
            };
            round.jobs.push(job);
        };
        match self.split {
            Split::None => add(text, start == 0, document.last, false),
            Split::Content(fraction) => {
                let digest = || blake3::hash(text.as_bytes());
                let is_validation =
                    self.file_is_validation.unwrap_or_else(|| belongs_to_validation(&digest(), fraction));
                add(text, start == 0, document.last, is_validation);
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

/// Whether a document with this digest is in the validation share; independent of all other documents.
pub(crate) fn belongs_to_validation(digest: &blake3::Hash, fraction: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
    let number = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    (number >> 11) as f64 * (1.0 / (1u64 << 53) as f64) < fraction
}

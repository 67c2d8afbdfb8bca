//! The documents that are encoded together: their text in one piece of memory, so that short ones cost little.

use std::ops::Range;

use super::build::{Build, Split};
use crate::corpus::Document;
use crate::{DataKind, DocumentConfig, Result};

/// How many bytes of text one thread takes at once.
const GROUP: usize = 1 << 17;

/// Documents on their way to the encoders.
#[derive(Default)]
pub(super) struct Round {
    text: String,
    pub(super) jobs: Vec<Job>,
}

/// A document, or a part of one; its texts are places in the round's text.
pub(super) struct Job {
    pub(super) text: Range<usize>,
    pub(super) pair: Option<Range<usize>>,
    pub(super) label: Option<Range<usize>>,
    /// The number of its file.
    pub(super) source: usize,
    pub(super) line: u64,
    pub(super) last: bool,
    /// How many bytes of the file have been read up to its end.
    pub(super) read: u64,
    /// Whether it goes to the validation set.
    pub(super) apart: bool,
}

impl Round {
    /// How many bytes of text it holds.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn text(&self, place: &Range<usize>) -> &str {
        &self.text[place.clone()]
    }

    fn keep(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// The jobs in groups of about the same size, one for a thread at a time.
    pub(super) fn groups(&self) -> Vec<&[Job]> {
        let mut groups = Vec::new();
        let mut rest = self.jobs.as_slice();
        while let Some(first) = rest.first() {
            let end = first.text.start + GROUP;
            let n = rest.partition_point(|job| job.text.start < end);
            let (group, after) = rest.split_at(n.max(1));
            groups.push(group);
            rest = after;
        }
        groups
    }
}

/// Where the reader stands in a file: how far in the document, and which set the document goes to.
pub(super) struct Place<'a> {
    build: &'a Build<'a>,
    source: usize,
    n_read: u64,
    /// The set of a file that is one document, known from the digest of all of it.
    file_apart: Option<bool>,
}

impl<'a> Place<'a> {
    pub(super) fn new(build: &'a Build<'a>, source: usize) -> Result<Self> {
        let whole = build.reading.config.kind == DataKind::Text
            && build.reading.config.document == DocumentConfig::File;
        let file_apart = match build.split {
            Split::Content(fraction) if whole => {
                Some(is_apart(&build.sources.files[source].digest(&mut |_| {})?, fraction))
            }
            _ => None,
        };
        Ok(Self { build, source, n_read: 0, file_apart })
    }

    /// Adds a document, or part of one, as one job, or as two where the set changes within it.
    pub(super) fn push(&mut self, document: Document<'_>, round: &mut Round) {
        let text = document.text;
        let start = self.n_read;
        self.n_read = if document.last { 0 } else { start + text.len() as u64 };
        let mut add = |text: &str, last: bool, apart: bool| {
            let job = Job {
                text: round.keep(text),
                pair: document.pair.map(|pair| round.keep(pair)),
                label: document.label.map(|label| round.keep(label)),
                source: self.source,
                line: document.line,
                last,
                read: document.read,
                apart,
            };
            round.jobs.push(job);
        };
        match self.build.split {
            Split::None => add(text, document.last, false),
            Split::Content(fraction) => {
                let digest = || blake3::hash(text.as_bytes());
                add(text, document.last, self.file_apart.unwrap_or_else(|| is_apart(&digest(), fraction)));
            }
            Split::Position(at) => {
                let mut cut = at.saturating_sub(start).min(text.len() as u64) as usize;
                while !text.is_char_boundary(cut) {
                    cut -= 1;
                }
                let crosses = at >= start && at < start + text.len() as u64;
                if cut > 0 || crosses {
                    add(&text[..cut], crosses || document.last, false);
                }
                if cut < text.len() {
                    add(&text[cut..], document.last, true);
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

//! A round of documents to encode, with their text in one buffer so that short ones cost little.

use std::ops::Range;

/// How many bytes of text a thread takes at a time.
const GROUP: usize = 1 << 17;

/// Documents to encode.
#[derive(Default)]
pub(super) struct Round {
    text: String,
    pub(super) jobs: Vec<Job>,
}

/// A document, or a part of one; its texts are ranges of the round's text.
pub(super) struct Job {
    pub(super) text: Range<usize>,
    pub(super) pair: Option<Range<usize>>,
    pub(super) label: Option<Range<usize>>,
    /// The number of its file.
    pub(super) source: usize,
    pub(super) line: u64,
    /// Whether the document begins here, and whether it ends here.
    pub(super) first: bool,
    pub(super) last: bool,
    /// How many bytes of the file have been read by its end.
    pub(super) read: u64,
    /// Whether it goes to the validation set.
    pub(super) is_validation: bool,
}

impl Round {
    /// Its length in bytes of text.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn text(&self, range: &Range<usize>) -> &str {
        &self.text[range.clone()]
    }

    /// Adds a text and returns its range.
    pub(super) fn push(&mut self, text: &str) -> Range<usize> {
        let start = self.text.len();
        self.text.push_str(text);
        start..self.text.len()
    }

    /// The jobs in groups of similar size, each for one thread.
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
